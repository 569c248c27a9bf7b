/** Times and lengths of time as people give them on the command line. UTC throughout: who compares two clusters has one clock. */
import { parseDuration } from '../core/duration.ts';
import { IsthmusError } from '../core/errors.ts';
import { span } from '../core/span.ts';

const dayMs = 86_400_000;

/** In ms. @param option - as `--over`, for the error */
export const lengthOf = (option: string, text: string, minMs: number, maxMs: number): number => {
  const ms = parseDuration(text);
  const bad = (why: string) =>
    new IsthmusError('usage/invalid', `${option} "${text}" ${why}`, {
      hint: `write it as 30s, 5m or 1h, from ${span(minMs)} to ${span(maxMs)}`,
      subject: { field: option, value: text },
    });
  if (ms === undefined) throw bad('is not a length of time');
  if (ms < minMs) throw bad('is too short');
  if (ms > maxMs) throw bad('is too long');
  return ms;
};

const full = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?$/;
const short = /^(\d\d):(\d\d)(?::(\d\d))?Z?$/;

/**
 * A time in the past: `2026-11-21T14:32:05Z`, `2026-11-21 14:32`, `14:32` (the last time that it was so), or `5m` ago. Without a zone it
 * is UTC, as in everything that is printed.
 */
export const timeOf = (option: string, text: string, nowMs: number): number => {
  const bad = (why: string) =>
    new IsthmusError('usage/invalid', `${option} "${text}" ${why}`, {
      hint: 'write it as 2026-11-21T14:32:05Z, 14:32 (UTC) or 5m (ago)',
      subject: { field: option, value: text },
    });
  const ago = parseDuration(text.replace(/^-/, '').replace(/ ago$/, ''));
  if (ago !== undefined) return nowMs - ago;
  let at = Number.NaN;
  const clock = short.exec(text);
  if (clock !== null && Number(clock[1]) < 24 && Number(clock[2]) < 60 && Number(clock[3] ?? 0) < 60) {
    const intoDay = Number(clock[1]) * 3_600_000 + Number(clock[2]) * 60_000 + Number(clock[3] ?? 0) * 1_000;
    at = Math.floor(nowMs / dayMs) * dayMs + intoDay;
    if (at > nowMs) at -= dayMs;
  }
  const date = full.exec(text);
  if (date !== null) at = Date.parse(`${date[1]}T${date[2] ?? '00:00'}${date[3] ?? ':00'}${date[4] ?? 'Z'}`);
  if (Number.isNaN(at)) throw bad('is not a time');
  if (at > nowMs) throw bad('is in the future');
  return at;
};

/** `14:32:05Z` today, else `11-20 14:32:05Z`. */
export const shortTime = (iso: string, nowIso: string): string =>
  iso.slice(0, 10) === nowIso.slice(0, 10) ? `${iso.slice(11, 19)}Z` : `${iso.slice(5, 10)} ${iso.slice(11, 19)}Z`;
