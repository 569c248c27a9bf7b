/**
 * What this member's role in etcd lets it do, as etcd tells it: said in `status` when that is more, or less, than it should be. The rights
 * of others it cannot see. Writing is looked at only where store gateways are to do it: what may not be written is refused, and said
 * where it is.
 */
import type { Clock, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { storeKeys } from '../records/keys.ts';
import { memberRole } from '../store/admin.ts';
import type { RolePermission } from '../store/etcd.ts';

export interface RightsOptions {
  readonly clusterset: string;
  readonly member: string;
  /** Store gateways take the writes. */
  readonly gateways: boolean;
  readonly clock: Clock;
  /** Undefined: the store has no roles that could be asked for. */
  readonly ask: ((role: string) => Promise<readonly RolePermission[]>) | undefined;
  /** After each look. */
  readonly looked: () => void;
}

const everyMs = 60_000;
const hint =
  'once the controllers of all members are of this version or newer, run "isthmus authority roles" at the authority’s desk';

export const rightsProblem = (
  permissions: readonly RolePermission[],
  clusterset: string,
  member: string,
  gateways = false,
): IsthmusError | undefined => {
  const keys = storeKeys(clusterset);
  const reads = (prefix: string): boolean =>
    permissions.some(({ read, from, to }) => read && from <= prefix && to > `${prefix}\u{10ffff}`);
  if (reads(`${keys.root}to/`)) {
    const message = `the role of ${member} in etcd reads what members publish for others alone`;
    return new IsthmusError('store/role', message, { hint });
  }
  if (gateways && permissions.some(({ write }) => write)) {
    const message = `the role of ${member} in etcd lets it write past the store gateways`;
    return new IsthmusError('store/role', message, {
      hint: 'once all controllers have store.writeEndpoints, run "isthmus authority roles --writes gateways" at the authority’s desk',
    });
  }
  if (reads(keys.readerPrefix(member))) return undefined;
  const message = `the role of ${member} in etcd does not let it read what members publish for it alone`;
  return new IsthmusError('store/role', message, { hint });
};

export class Rights {
  readonly #o: RightsOptions;
  #timer: Timer | undefined;
  #problem: IsthmusError | undefined;
  #closed = false;

  constructor(options: RightsOptions) {
    this.#o = options;
    void this.#look();
  }

  get problems(): readonly IsthmusError[] {
    return this.#problem === undefined ? [] : [this.#problem];
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  async #look(): Promise<void> {
    const { clusterset, member, gateways, clock, ask, looked } = this.#o;
    if (ask === undefined) return;
    try {
      this.#problem = rightsProblem(await ask(memberRole(clusterset, member)), clusterset, member, gateways);
    } catch (error) {
      // Dark, or not etcd's own roles: what was known stays.
      if (!(error instanceof IsthmusError)) throw error;
    }
    if (this.#closed) return;
    looked();
    this.#timer = clock.after(everyMs, () => void this.#look());
  }
}
