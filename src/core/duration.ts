/**
 * Durations as people write them in objects: the form of the Gateway API (GEP-2257), `1h`, `1m30s`, `500ms`. A subset of Go's
 * that has one meaning and no fractions, and that CEL reads as well.
 */

/** The pattern that the API server checks. */
export const durationPattern = '^([0-9]{1,5}(h|m|s|ms)){1,4}$';

const whole = new RegExp(durationPattern);
const unitMs: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };

/** In ms; undefined: not a duration. */
export const parseDuration = (text: string): number | undefined => {
  if (!whole.test(text)) return undefined;
  let ms = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+)(h|ms|m|s)/g)) ms += Number(amount) * unitMs[unit!]!;
  return ms;
};

/** The shortest way to write it that `parseDuration` reads back. Whole ms, not negative. */
export const formatDuration = (ms: number): string => {
  let rest = Math.round(ms);
  let text = '';
  for (const [unit, size] of Object.entries(unitMs)) {
    const amount = Math.floor(rest / size);
    if (amount > 0) text += `${amount}${unit}`;
    rest -= amount * size;
  }
  return text === '' ? '0s' : text;
};
