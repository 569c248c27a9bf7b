/** Rates as people write them: `50/s`, new connections a second. The unit is written so that nobody has to guess it. */
import { limits } from './limits.ts';

export const ratePattern = '^([1-9][0-9]{0,5}|1000000)/s$';

const whole = new RegExp(ratePattern);

/** A second, from 1 to `limits.capacityPerSecondMax`; undefined: not a rate. */
export const parseRate = (text: string): number | undefined =>
  whole.test(text) ? Number(text.slice(0, -2)) : undefined;

if (parseRate(`${limits.capacityPerSecondMax}/s`) === undefined) throw new Error('ratePattern ends below the limit');

export const formatRate = (perSecond: number): string => `${perSecond}/s`;
