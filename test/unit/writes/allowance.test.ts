import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { spend } from '../../../src/writes/allowance.ts';
import { decodeNote, encodeNote } from '../../../src/writes/ledger.ts';

const allowance = { perSecond: 10, burst: 100 };

describe('an allowance', () => {
  it('lets so much through at once, then as much as its rate', () => {
    const first = spend(allowance, 0, 100, 1_000);
    expect(first.waitMs).toBe(0);
    expect(spend(allowance, first.untilMs, 1, 1_000).waitMs).toBe(100);
    expect(spend(allowance, first.untilMs, 1, 1_100).waitMs).toBe(0);
    expect(spend(allowance, first.untilMs, 50, 1_000).waitMs).toBe(5_000);
  });
  it('never lets through what is more than all at once', () => {
    expect(spend(allowance, 0, 101, 1_000).waitMs).toBe(Number.POSITIVE_INFINITY);
  });
  it('does not believe a note from a clock far ahead, and bears one a little ahead', () => {
    expect(spend(allowance, 10_000_000, 1, 1_000).waitMs).toBe(0);
    expect(spend(allowance, 1_000 + 10_000 + 5_000, 1, 1_000).waitMs).toBe(5_100);
  });
  it('holds over any stretch of time', () => {
    const calls = fc.array(fc.tuple(fc.nat(3_000), fc.integer({ min: 1, max: 100 })), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(calls, (steps) => {
        let [nowMs, untilMs] = [1_000_000, 0];
        const taken: { atMs: number; amount: number }[] = [];
        for (const [ms, amount] of steps) {
          nowMs += ms;
          const spent = spend(allowance, untilMs, amount, nowMs);
          if (spent.waitMs > 0) continue;
          untilMs = spent.untilMs;
          taken.push({ atMs: nowMs, amount });
        }
        for (const [i, { atMs }] of taken.entries()) {
          let sum = 0;
          for (const { atMs: end, amount } of taken.slice(i)) {
            sum += amount;
            expect(sum).toBeLessThanOrEqual(allowance.burst + ((end - atMs) / 1_000) * allowance.perSecond + 1);
          }
        }
      }),
    );
  });
});

describe('a note', () => {
  it('comes back as it was', () => {
    const note = { keys: 3, bytes: 4_000, changesUntilMs: 1_700_000_000_001, bytesUntilMs: 2 };
    expect(decodeNote(encodeNote(note))).toEqual(note);
  });
  it.each([
    '',
    'null',
    '[]',
    '{}',
    '{"keys":-1,"bytes":0,"changesUntilMs":0,"bytesUntilMs":0}',
    '{"keys":"1"}',
    'x'.repeat(600),
  ])('is none when it is %s', (text) => expect(decodeNote(Buffer.from(text))).toBeUndefined());
});
