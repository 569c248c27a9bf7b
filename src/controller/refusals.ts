/**
 * Tells each refusal when it begins: counted, and one line in the log. What is refused stands until its cause goes, and is looked
 * at with every change, so what was told once must not be told again; and one refusal that takes another's place is news although
 * their number stays the same. Messages hold ages and numbers that change by themselves: a refusal is known by its code and
 * by what it is about.
 */
import type { IsthmusError } from '../core/errors.ts';

const idOf = ({ code, subject }: IsthmusError): string => `${code} ${subject.member ?? ''} ${subject.key ?? ''}`;

export class Refusals {
  readonly #standing = new Map<string, ReadonlySet<string>>();
  readonly #tell: (about: string, error: IsthmusError) => void;

  constructor(tell: (about: string, error: IsthmusError) => void) {
    this.#tell = tell;
  }

  /** @param about - a member's name; '' for what is no single member's */
  look(about: string, problems: readonly IsthmusError[]): void {
    const before = this.#standing.get(about);
    if (problems.length === 0) {
      this.#standing.delete(about);
      return;
    }
    const now = new Set<string>();
    for (const problem of problems) {
      const id = idOf(problem);
      if (!now.has(id) && before?.has(id) !== true) this.#tell(about, problem);
      now.add(id);
    }
    this.#standing.set(about, now);
  }

  /** Members that are gone, with all that was said of them. */
  keepOnly(names: ReadonlySet<string>): void {
    for (const name of this.#standing.keys()) if (name !== '' && !names.has(name)) this.#standing.delete(name);
  }
}
