/** Which head our gateways tell: a recent one, and not each, for every change is pushed to every gateway. */
import type { ManifestHead } from '../../federation/view.ts';

export interface ToldHead {
  readonly head: ManifestHead;
  readonly atMs: number;
}

/** Between two heads that are told. Peers judge silence in seconds; a head that is this old is as good as new. */
export const headGapMs = 2_000;

/**
 * What to tell now, given what was told before. `newest`: of our own manifest as it reads back, so that nobody is promised what the
 * store does not have. `wakeAtMs`: when to ask again although nothing happened.
 */
export const headToTell = (
  told: ToldHead | undefined,
  newest: ManifestHead | undefined,
  nowMs: number,
): { readonly told: ToldHead | undefined; readonly wakeAtMs: number | undefined } => {
  if (newest === undefined) return { told, wakeAtMs: undefined };
  const same = told !== undefined && told.head.epoch === newest.epoch && told.head.sequence === newest.sequence;
  if (same) return { told, wakeAtMs: undefined };
  if (told !== undefined && nowMs - told.atMs < headGapMs) return { told, wakeAtMs: told.atMs + headGapMs };
  return { told: { head: newest, atMs: nowMs }, wakeAtMs: undefined };
};
