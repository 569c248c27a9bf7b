/** Two peers, both well or one of them gone, for stories of peers. */
import type { Signals } from '../../../src/health/signals.ts';
import { badProbe, memberView, probe, Scene, talks, thresholds, viewOf } from './scene.ts';

export const west = 'us-west';
export const eu = 'eu';
export const view = viewOf([memberView(west), memberView(eu)]);
export const scene = (of = thresholds()) => new Scene(view, of);

export const silent = (now: number, since: number): Partial<Signals> => ({
  control: new Map([[west, talks(now - since)]]),
});
/** West is gone, wholly, from `since` on; everybody is probed each second. */
export const outage =
  (since: number, until = Number.POSITIVE_INFINITY) =>
  (now: number): Partial<Signals> => {
    const gone = now >= since && now < until;
    return {
      probes: [gone ? badProbe(west, now) : probe(west, now), probe(eu, now)],
      ...(gone ? silent(now, since) : {}),
    };
  };
export const unreachable = (now: number): Partial<Signals> => ({ probes: [badProbe(west, now), probe(eu, now)] });
export const fine = (now: number): Partial<Signals> => ({ probes: [probe(west, now), probe(eu, now)] });
