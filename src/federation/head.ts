/** Heads of manifests: which is newer, and what a reader may still take. */
import { IsthmusError } from '../core/errors.ts';
import type { Manifest } from '../gen/isthmus/v1/records_pb.ts';
import type { ManifestHead } from './view.ts';

/** The two times that a pure room may need: ages by the first, validity by the second. */
export interface Times {
  readonly nowMs: number;
  readonly wallMs: number;
}

export const headOf = ({ epoch, sequence }: ManifestHead): ManifestHead => ({ epoch, sequence });

/** Above 0 when `a` is newer. The epoch counts first: each writer term begins one. */
export const compareHeads = (a: ManifestHead, b: ManifestHead): number => {
  if (a.epoch !== b.epoch) return a.epoch > b.epoch ? 1 : -1;
  if (a.sequence === b.sequence) return 0;
  return a.sequence > b.sequence ? 1 : -1;
};

export const shownHead = ({ epoch, sequence }: ManifestHead): string => `epoch ${epoch}, sequence ${sequence}`;

/** Why a manifest that is signed may not be taken: it is older than one seen, or says something else under the same number. */
export const staleManifest = (
  member: string,
  manifest: Manifest,
  seen: Manifest | undefined,
): IsthmusError | undefined => {
  if (seen === undefined) return undefined;
  const order = compareHeads(manifest, seen);
  if (order > 0) return undefined;
  const same = order === 0 && Buffer.compare(manifest.root, seen.root) === 0 && manifest.count === seen.count;
  if (same) return undefined;
  const why =
    order === 0
      ? `the manifest of ${member} at ${shownHead(manifest)} differs from the one already seen under this number`
      : `the manifest of ${member} is at ${shownHead(manifest)}, older than ${shownHead(seen)} which was seen before`;
  return new IsthmusError('manifest/stale', why, {
    hint: 'the store may have been restored from a backup; the last good records stay until the member publishes again',
    subject: { member },
  });
};
