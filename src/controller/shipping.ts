/**
 * What the replica that decides ships to the others: the state of decisions and what is held of withdrawals, as one text, compressed.
 *
 * What is held stands before the state, in a field that a version without it passes over. It is the part that may be too much, for it
 * has whole records in it: then names alone are shipped, and a replica that still knows the records goes on with its own.
 */
import { gunzipSync, gzipSync } from 'node:zlib';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { SavedHold } from '../federation/withdrawals_saved.ts';
import type { LetGo } from '../federation/withdrawals_shipped.ts';
import { sealBytes } from '../records/sealed_state.ts';

export interface ShippedHolds {
  readonly held: readonly SavedHold[];
  readonly letGo: readonly LetGo[];
}

/** It may be sealed before it is shipped. */
const bytesMax = limits.statePartBytesMax * limits.statePartsMax - sealBytes;
const opening = /^\{"heldBytes":(\d{1,9}),"held":/;

const packed = (state: Uint8Array, holds: unknown): Uint8Array => {
  const text = Buffer.from(JSON.stringify(holds));
  const head = Buffer.from(`{"heldBytes":${text.length},"held":`);
  return gzipSync(Buffer.concat([head, text, Buffer.from(','), state.subarray(1)]), { level: 1 });
};

/** @param state - the text of an object */
export const packShipped = (state: Uint8Array, { held, letGo }: ShippedHolds): Uint8Array => {
  const whole = packed(state, { held, letGo });
  if (whole.length <= bytesMax || held.length === 0) return whole;
  const named = packed(state, { named: held.map(({ record: _record, ...rest }) => rest), letGo });
  return named.length <= bytesMax ? named : packed(state, { letGo });
};

/** Errors: `state/corrupt`. @returns the state as it was given, with what stood before it; the holds as plain data */
export const unpackShipped = (bytes: Uint8Array): Result<{ readonly state: Uint8Array; readonly holds: unknown }> => {
  try {
    const state = gunzipSync(bytes, { maxOutputLength: limits.failoverStateBytesMax });
    const found = opening.exec(state.subarray(0, 64).toString('latin1'));
    if (found === null) return ok({ state, holds: undefined });
    const from = found[0].length;
    return ok({ state, holds: JSON.parse(state.subarray(from, from + Number(found[1])).toString('utf8')) as unknown });
  } catch (cause) {
    return fail('state/corrupt', `shipped state: ${(cause as Error).message}`, { cause });
  }
};
