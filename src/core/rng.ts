/**
 * Uniform numbers from a seed (mulberry32): what was drawn in a decision can be drawn again when it is replayed. Not for secrets.
 */
import type { Rng } from './clock.ts';

/** @param seed - an integer; its low 32 bits count */
export const seededRng = (seed: number): Rng => {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
};
