import { beforeEach, describe, expect, test } from 'vitest';
import { Admission } from '../../../src/ca/admission.ts';
import { limits } from '../../../src/core/limits.ts';

let nowMs = 0;
let admission: Admission;
const order: string[] = [];
/** Ends of the signings that have started. */
let running: (() => void)[] = [];

beforeEach(() => {
  nowMs = 1_000;
  order.length = 0;
  running = [];
  admission = new Admission({ monotonicMs: () => nowMs, wallMs: () => nowMs, after: () => ({ cancel: () => {} }) });
});

const settle = () => new Promise((resolve) => setImmediate(resolve));
const ask = (caller: string): Promise<string> =>
  admission
    .run(caller, () => {
      order.push(caller);
      return new Promise<{ notAfterMs: number }>((resolve) => running.push(() => resolve({ notAfterMs: nowMs + 1e9 })));
    })
    .then(
      () => 'signed',
      (error: { code: string }) => error.code,
    );
const finishAll = async (): Promise<void> => {
  await settle();
  while (running.length > 0) {
    for (const finish of running.splice(0)) finish();
    await settle();
  }
};
const fill = (): Promise<string>[] => Array.from({ length: limits.signingInFlightMax }, (_, i) => ask(`filler${i}`));

describe('when more ask than can be signed', () => {
  test('renewals go before first requests, each in the order they came', async () => {
    const known = [ask('old1'), ask('old2')];
    await finishAll();
    await Promise.all(known);
    order.length = 0;
    const all = [...fill(), ask('new1'), ask('new2'), ask('old1'), ask('old2')];
    await settle();
    expect(order).toHaveLength(limits.signingInFlightMax);
    await finishAll();
    expect(await Promise.all(all)).toEqual(all.map(() => 'signed'));
    expect(order.slice(limits.signingInFlightMax)).toEqual(['old1', 'old2', 'new1', 'new2']);
  });

  test('whoever waited too long is told so instead of being served when nobody listens any more', async () => {
    const first = fill();
    const late = ask('late');
    await settle();
    nowMs += limits.signingWaitMaxMs + 1;
    await finishAll();
    await Promise.all(first);
    expect(await late).toBe('csr/rate');
    expect(await Promise.all([ask('next'), finishAll()])).toEqual(['signed', undefined]);
  });

  test('the queue is bounded, and a renewal takes the place of the newest first request', async () => {
    const known = ask('old');
    await finishAll();
    await known;
    const first = fill();
    const waiting = Array.from({ length: limits.signingQueueLengthMax }, (_, i) => ask(`new${i}`));
    await settle();
    expect(await ask('one too many')).toBe('csr/rate');
    const renewal = ask('old');
    expect(await waiting.at(-1)).toBe('csr/rate');
    await finishAll();
    expect(await renewal).toBe('signed');
    expect(await waiting[0]).toBe('signed');
    await Promise.all(first);
  });
});

test('a signing that fails frees its place', async () => {
  for (let i = 0; i < 3 * limits.signingInFlightMax; i++) {
    await expect(admission.run(`c${i}`, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  }
  const all = fill();
  await finishAll();
  expect(await Promise.all(all)).toEqual(all.map(() => 'signed'));
});
