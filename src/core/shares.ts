/**
 * So many places for each who asks: one that asks for more than its share is refused, and takes nothing from the others.
 */
export class Shares {
  readonly #taken = new Map<string, number>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** Whether there was a place; each that was given is to be left. */
  take(who: string): boolean {
    const taken = this.#taken.get(who) ?? 0;
    if (taken >= this.#most) return false;
    this.#taken.set(who, taken + 1);
    return true;
  }

  leave(who: string): void {
    const left = (this.#taken.get(who) ?? 1) - 1;
    if (left > 0) this.#taken.set(who, left);
    else this.#taken.delete(who);
  }
}
