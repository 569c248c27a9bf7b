/**
 * What the state that our replicas ship to each other is sealed under, while the record key is replaced.
 *
 * The secret follows from the record key in use, so that a stolen key that was replaced opens nothing that comes later. Replicas learn of a
 * replacement one after the other, and the state in the store may be of before it: so what was sealed under the key before, and what is
 * sealed under the announced one, is opened too. Of a key that was replaced the Secret keeps this secret alone, which signs nothing. One
 * that never changes was passed over for the first reason.
 */
import type { KeyObject } from 'node:crypto';
import { stateSecret, stateSecretBytes } from '../records/sealed_state.ts';

export interface Seals {
  /** What is shipped from now on is sealed under it. */
  readonly now: Uint8Array;
  /** What was shipped may be under any of these. */
  readonly all: readonly Uint8Array[];
}

/** In the Secret `isthmus-member`: of the record key before the one in use. */
export const previousSealFile = 'previous-state-key';

/** @param keys.next - announced and not in use yet @param keys.previous - as `previousSealFile` has it; of another length it is none */
export const sealsOf = (keys: {
  readonly now: KeyObject;
  readonly next?: KeyObject | undefined;
  readonly previous?: Uint8Array | undefined;
}): Seals => {
  const now = stateSecret(keys.now);
  const next = keys.next === undefined ? [] : [stateSecret(keys.next)];
  const previous = keys.previous?.length === stateSecretBytes ? [keys.previous] : [];
  return { now, all: [now, ...next, ...previous] };
};
