/** Rates as people write them: `50/s`, new connections a second. The unit is written so that nobody has to guess it. */
import { limits } from './limits.ts';

export const ratePattern = '^[1-9][0-9]{0,6}/s$';

const whole = new RegExp(ratePattern);

/** A second; undefined: not a rate, or above `limits.capacityPerSecondMax`. */
export const parseRate = (text: string): number | undefined => {
  if (!whole.test(text)) return undefined;
  const perSecond = Number(text.slice(0, -2));
  return perSecond <= limits.capacityPerSecondMax ? perSecond : undefined;
};

export const formatRate = (perSecond: number): string => `${perSecond}/s`;
