import { describe, expect, it } from 'vitest';
import { decisionReport, journalDecisions } from '../../../src/controller/decisions.ts';
import { observeReport } from '../../../src/controller/observing.ts';
import type { DecisionReport } from '../../../src/core/failover_report.ts';
import type { Entry } from '../../../src/journal/entry.ts';
import { wallMs } from './shop.ts';

const entry = (sequence: number, body: unknown, over: Partial<Entry> = {}): Entry => ({
  sequence,
  kind: 'decision',
  chain: 'c',
  member: 'us-east',
  replica: 'r',
  epoch: '1',
  wallMs: wallMs + sequence * 1_000,
  monotonicMs: sequence,
  previous: '',
  step: { first: sequence, count: 1 },
  inputs: undefined,
  body,
  ...over,
});
const shift = (service: string | undefined, over: object = {}) => ({
  kind: 'shift',
  service,
  rule: 'NotReady',
  detail: '',
  author: 'controller',
  ...over,
});
const source = (entries: readonly Entry[]) => ({
  entries: async ({ match }: { match?: unknown }) =>
    entries
      .map((one) => ({ entry: one, hash: '', intact: true }))
      .filter((found) => (match as ((f: typeof found) => boolean) | undefined)?.(found) !== false),
});
const query = {
  service: undefined,
  fromWallMs: undefined,
  untilWallMs: undefined,
  observed: undefined,
  newestFirst: true,
  limit: 10,
};

describe('a decision of the journal', () => {
  it('is read whatever it lacks, for another version may have written it', () => {
    expect(decisionReport(entry(1, {}))).toMatchObject({ kind: 'decision', service: null, before: null, guards: [] });
    expect(decisionReport(entry(1, { before: { localPercent: 'x' }, guards: [null, 3] }))).toMatchObject({
      before: null,
      guards: [],
    });
    expect(decisionReport(entry(1, { shortened: true, text: '{' }))!.detail).toMatch(/too long/);
    expect(decisionReport(entry(1, 'text'))).toBeUndefined();
    expect(decisionReport(entry(1, {}, { kind: 'begin' }))).toBeUndefined();
  });
  it('keeps its placement', () => {
    const after = { localPercent: 0, tiers: [[{ member: 'us-west', weight: 4, percent: 100 }]] };
    expect(decisionReport(entry(1, shift('a/b', { after })))!.after).toEqual(after);
  });
});

describe('decisions of the journal', () => {
  const entries = [
    entry(1, shift('shop/checkout')),
    entry(2, shift('shop/cart')),
    entry(3, { kind: 'freeze', author: 'alice' }),
    entry(4, shift('shop/checkout', { observed: true })),
  ];
  const numbers = async (
    over: Partial<typeof query> & { service?: string; observed?: boolean; untilWallMs?: number },
  ) => (await journalDecisions(source(entries), { ...query, ...over } as typeof query)).map((d) => d.entry);

  it('are those of a service and of none in particular, newest first', async () => {
    expect(await numbers({ service: 'shop/checkout' } as never)).toEqual(['4', '3', '1']);
    expect(await numbers({ service: 'shop/checkout', newestFirst: false } as never)).toEqual(['1', '3', '4']);
    expect(await numbers({ observed: true } as never)).toEqual(['4']);
    expect(await numbers({ untilWallMs: wallMs + 2_000 } as never)).toEqual(['2', '1']);
  });
  it('leave out what was written and not carried out, also when that was told later', async () => {
    const taken = [...entries, entry(5, { first: 1, last: 2, reason: 'refused' }, { kind: 'void' })];
    const found = await journalDecisions(source(taken), { ...query, untilWallMs: wallMs + 3_000 } as never);
    expect(found.map((d) => d.entry)).toEqual(['3']);
  });
});

describe('what would have been done', () => {
  it('is sorted by day and service, with the days without any', () => {
    const at = (day: string, service: string, observed = true) =>
      ({ at: `${day}T10:00:00.000Z`, service, observed }) as DecisionReport;
    const report = observeReport({
      self: 'us-east',
      nowWallMs: wallMs,
      days: 3,
      decisions: [
        at('2026-11-21', 'b/b'),
        at('2026-11-21', 'a/a'),
        at('2026-11-19', 'a/a'),
        at('2026-11-21', 'c/c', false),
        at('2026-11-01', 'a/a'),
      ],
      observing: [],
    });
    expect(report.days.map((day) => [day.day, day.services.map((s) => s.service)])).toEqual([
      ['2026-11-19', ['a/a']],
      ['2026-11-20', []],
      ['2026-11-21', ['a/a', 'b/b']],
    ]);
  });
});
