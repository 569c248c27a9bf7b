import type { Invariant } from './invariant.ts';

const spanMs = 5_000;
/** A step a second, one for each change that a member publishes, and some. */
const stepsMax = 400;

export const noBusyLoop: Invariant = {
  name: 'no-busy-loop',
  what: 'A controller that asks to be woken is not woken all the time.',
  begin: () => {
    const counts = new Map<string, number>();
    let fromMs = 0;
    return {
      step: ({ process }) => {
        const name = `${process.o.cluster.name} ${process.o.replica}`;
        const count = (counts.get(name) ?? 0) + 1;
        counts.set(name, count);
        return count > stepsMax ? `${name} made ${count} steps within ${spanMs / 1_000} s` : undefined;
      },
      second: ({ nowMs }) => {
        if (nowMs - fromMs < spanMs) return undefined;
        fromMs = nowMs;
        counts.clear();
        return undefined;
      },
    };
  },
};
