/** What we tell everybody of what we decided: without what would name a service that is for some members alone. */
import type { ServiceKey } from '../core/names.ts';
import type { Decided } from '../federation/decided.ts';
import type { MemberView } from '../federation/view.ts';
import { isSealed, sealState } from '../records/sealed_state.ts';

export interface Discretion {
  readonly self: string;
  /** As the store has them, our own among them. */
  readonly members: ReadonlyMap<string, MemberView>;
  /** Exports of ours that name members. */
  readonly named: ReadonlyMap<ServiceKey, unknown>;
  /** What the state is sealed under for our own replicas. */
  readonly secret: Uint8Array;
}

/**
 * The state names whatever was ever decided about, also what was withdrawn since. So once one is sealed, all that follow are. What a member
 * does not publish is not named either: what it has withdrawn may have been for some alone.
 */
export const discreet = (decided: Decided, { self, members, named, secret }: Discretion): Decided => {
  const first = members.get(self)?.stateParts?.get(0)?.data;
  const sealed = first !== undefined && isSealed(first);
  if (!sealed && named.size === 0 && ![...members.values()].some(({ forUs }) => (forUs?.size ?? 0) > 0)) return decided;
  const everybodys = (service: ServiceKey, member: string): boolean => {
    if (named.has(service)) return false;
    const view = members.get(member);
    return view?.services.has(service) === true && view.forUs?.has(service) !== true;
  };
  return {
    ...decided,
    summary: decided.summary.filter(({ service, member }) => service === undefined || everybodys(service, member)),
    state: decided.state && sealState(secret, decided.state),
  };
};
