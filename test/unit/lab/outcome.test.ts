import { expect, test } from 'vitest';
import { invalidBecause } from '../../../scenarios/lab/control-window.ts';
import { type CallRecord, outcome, quantile } from '../../../scenarios/lab/outcome.ts';

const call = (start: number, ms: number, answeredBy = 'east/a', kind: 'new' | 'keep' = 'new'): CallRecord => ({
  kind,
  start,
  ms,
  ok: answeredBy !== '',
  answeredBy,
  error: answeredBy === '' ? 'timeout' : '',
});

const span = { from: 1_000, until: 2_000 };

test('calls are counted where they started, and by who answered', () => {
  const calls = [
    call(999, 500),
    call(1_000, 5),
    call(1_500, 7, 'west/b'),
    call(1_999, 900, 'west/a'),
    call(2_000, 1, ''),
  ];
  const seen = outcome(calls, span);
  expect(seen).toMatchObject({ sent: 3, failed: 0, longestStallMs: 900, answeredBy: { east: 1, west: 2 } });
});

test('a failed call counts as failed, and its wait as a stall', () => {
  const seen = outcome([call(1_100, 20), call(1_200, 10_000, '')], span);
  expect(seen).toMatchObject({ sent: 2, failed: 1, longestStallMs: 10_000, errors: { timeout: 1 } });
});

test('the outage is the longest time without an answer, from the start of the window to its end', () => {
  expect(outcome([call(1_300, 100), call(1_450, 50)], span).outageMs).toBe(500);
  expect(outcome([call(1_700, 100)], span).outageMs).toBe(800);
  expect(outcome([call(1_700, 100, '')], span).outageMs).toBe(1_000);
  expect(outcome([], span).outageMs).toBe(1_000);
  // An answer after the window's end does not shorten it.
  expect(outcome([call(1_100, 5_000)], span).outageMs).toBe(1_000);
});

test('kinds of calls can be told apart', () => {
  const calls = [call(1_100, 1), call(1_200, 2, 'east/a', 'keep'), call(1_300, 3, '', 'keep')];
  expect(outcome(calls, span, 'new')).toMatchObject({ sent: 1, failed: 0 });
  expect(outcome(calls, span, 'keep')).toMatchObject({ sent: 2, failed: 1 });
});

test('quantiles are nearest ranks', () => {
  expect(quantile([], 0.5)).toBe(0);
  expect(quantile([7], 0.99)).toBe(7);
  expect(quantile([1, 2, 3, 4], 0.5)).toBe(2);
  expect(quantile([1, 2, 3, 4], 0.99)).toBe(4);
});

test('a control window is invalid when it is thin, broken, slow, late or answered by another', () => {
  const good = outcome([call(1_100, 5), call(1_200, 6)], span);
  const limits = { forMs: 1_000, callsMin: 2 };
  expect(invalidBecause(good, 0, limits)).toBeUndefined();
  expect(invalidBecause(good, 0, { ...limits, callsMin: 3 })).toContain('only 2 calls');
  expect(invalidBecause(outcome([call(1_100, 5), call(1_200, 6, '')], span), 0, limits)).toContain(
    '1 of 2 calls failed',
  );
  expect(invalidBecause(outcome([call(1_100, 5), call(1_200, 600)], span), 0, limits)).toContain('took 600 ms');
  expect(invalidBecause(good, 500, limits)).toContain('too busy');
  expect(invalidBecause(good, 0, { ...limits, answeredBy: 'west' })).toContain('east answered');
});
