/** The real clock and the real randomness: the only place that asks the machine for either. */
import { randomBytes } from 'node:crypto';
import type { Clock, Rng } from '../core/clock.ts';

export const realClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

export const realRng: Rng = () => randomBytes(6).readUIntBE(0, 6) / 2 ** 48;
