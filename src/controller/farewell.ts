/**
 * Whether the controllers of this cluster end with this one.
 *
 * A replica that hands over to another must not say that its member goes, so the word is said by the last one alone: when no other
 * pod of the controllers' account is there that stays. Where that cannot be known (no pod of our own, as in a process without
 * Kubernetes, or an API server that is dark) nothing is said. The word is for people: peers judge by silence, as they would without it.
 */
import type { LocalPod } from '../federation/local.ts';

/** Older knowledge of our pods says nothing. */
const staleMaxMs = 120_000;

export interface FarewellInput {
  readonly namespace: string;
  /** Name of our own pod. */
  readonly replica: string;
  readonly pods: ReadonlyMap<string, LocalPod>;
  /** Since the API server was last heard about pods. */
  readonly staleMs: number;
}

export const isLastController = ({ namespace, replica, pods, staleMs }: FarewellInput): boolean => {
  const own = pods.get(`${namespace}/${replica}`);
  if (own === undefined || staleMs > staleMaxMs) return false;
  for (const pod of pods.values()) {
    if (pod === own || pod.namespace !== namespace || pod.serviceAccount !== own.serviceAccount) continue;
    // One that is not ready yet may be the next one of a rollout.
    if (!pod.terminating) return false;
  }
  return true;
};
