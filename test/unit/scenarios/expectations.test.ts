import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { judge } from '../../../scenarios/chaos/expectations.ts';
import { htmlReport } from '../../../scenarios/chaos/html.ts';
import { junit } from '../../../scenarios/chaos/junit.ts';
import type { Observed } from '../../../scenarios/chaos/observed.ts';
import { type Result, verdictOf } from '../../../scenarios/chaos/result.ts';
import { type Expectation, readScenario, scenarioSchema } from '../../../scenarios/chaos/spec.ts';
import type { CallRecord } from '../../../scenarios/lab/outcome.ts';

const zero = 1_000_000;
/** One new call every 100 ms; `who` answers by the second in which it began, '' fails. */
const calls = (untilS: number, who: (s: number) => string, ms = 10): CallRecord[] =>
  Array.from({ length: untilS * 10 }, (_, i) => {
    const by = who(i / 10);
    return {
      kind: 'new',
      start: zero + i * 100,
      ms,
      ok: by !== '',
      answeredBy: by === '' ? '' : `${by}/pod-0`,
      error: by === '' ? 'reset' : '',
    };
  });
const observed = (over: Partial<Observed> = {}): Observed => ({
  zero,
  delays: [],
  untilS: 20,
  calls: new Map([['gateway', calls(20, (s) => (s < 5 ? 'west' : s < 6 ? '' : 'eu'))]]),
  states: [
    { at: 1, cluster: 'east', peer: 'west', state: 'fresh' },
    { at: 8, cluster: 'east', peer: 'west', state: 'quarantined' },
  ],
  journals: new Map([
    [
      'east',
      {
        entries: [
          {
            wallMs: zero + 8_000,
            kind: 'shift',
            rule: 'ProbeFailed',
            service: 'shop/checkout',
            member: 'west',
            detail: 'moved',
          },
        ],
        verified: undefined,
      },
    ],
  ]),
  done: [{ at: 5, what: 'cut <west>' }],
  lagMs: 3,
  ...over,
});
const met = (e: Expectation, o = observed()): boolean => judge(e, o).met;

describe('expectations', () => {
  it('count failures of calls by when they began', () => {
    expect(met({ calls: { mode: 'gateway', from: 0, until: 5, failedMax: 0 } })).toBe(true);
    expect(met({ calls: { mode: 'gateway', from: 0, until: 20, failedMax: 9 } })).toBe(false);
    expect(met({ calls: { mode: 'gateway', from: 0, until: 20, failedMax: 10 } })).toBe(true);
    expect(met({ calls: { mode: 'gateway', from: 5, until: 20, lastFailureMaxS: 0.8 } })).toBe(false);
    expect(met({ calls: { mode: 'gateway', from: 5, until: 20, lastFailureMaxS: 1 } })).toBe(true);
    expect(met({ calls: { mode: 'gateway', from: 0, until: 5, stallMaxMs: 9 } })).toBe(false);
  });
  it('are eased by patience in times and in a few failures, and tell so; never in what was decided', () => {
    const late = (e: Expectation, patience: number) => {
      const { met, late } = judge(e, observed(), patience);
      return [met, late === true];
    };
    expect(late({ calls: { mode: 'gateway', from: 0, until: 5, stallMaxMs: 10 } }, 4)).toEqual([true, false]);
    expect(late({ calls: { mode: 'gateway', from: 0, until: 5, stallMaxMs: 9 } }, 4)).toEqual([true, true]);
    expect(late({ calls: { mode: 'gateway', from: 0, until: 5, stallMaxMs: 2 } }, 4)).toEqual([false, false]);
    // 10 of 200 failed: 4 and three in a hundred are 10.
    expect(late({ calls: { mode: 'gateway', from: 0, until: 20, failedMax: 4 } }, 4)).toEqual([true, true]);
    expect(late({ calls: { mode: 'gateway', from: 0, until: 20, failedMax: 3 } }, 4)).toEqual([false, false]);
    expect(late({ shifted: { mode: 'gateway', from: 5, to: ['eu'], withinS: 0.5, until: 20 } }, 4)).toEqual([
      true,
      true,
    ]);
    expect(late({ journal: { cluster: 'east', from: 0, until: 20, atLeast: 0, atMost: 0 } }, 4)).toEqual([
      false,
      false,
    ]);
  });
  it('wait for a command that took long', () => {
    const journal = (from: number, until: number): Expectation => ({
      journal: { cluster: 'east', from, until, atLeast: 1 },
    });
    const late = observed({ delays: [{ at: 3, byS: 5 }] });
    expect([met(journal(2, 4)), met(journal(2, 4), late)]).toEqual([false, true]);
    expect([met(journal(7, 9)), met(journal(7, 9), late)]).toEqual([true, false]);
    // What begins with the command begins when it was given.
    expect(met({ shifted: { mode: 'gateway', from: 3, to: ['eu'], withinS: 3, until: 10 } }, late)).toBe(true);
  });
  it('are never met by nothing having been seen', () => {
    const none = observed({ calls: new Map(), states: [], journals: new Map() });
    expect(met({ calls: { mode: 'gateway', from: 0, until: 5, failedMax: 0 } }, none)).toBe(false);
    expect(met({ answered: { mode: 'gateway', from: 0, until: 5, atMost: { eu: 0 } } }, none)).toBe(false);
    expect(met({ shifted: { mode: 'gateway', from: 0, to: ['eu'], withinS: 9, until: 20 } }, none)).toBe(false);
    expect(met({ journal: { cluster: 'east', from: 0, until: 20, atLeast: 0 } }, none)).toBe(false);
    expect(met({ journalVerifies: { cluster: 'east' } }, none)).toBe(false);
    expect(
      met({ state: { cluster: 'east', peer: 'west', is: ['fresh'], from: 0, until: 20, always: true } }, none),
    ).toBe(false);
  });
  it('judge shares, the time of a shift, states and the journal', () => {
    expect(met({ answered: { mode: 'gateway', from: 0, until: 5, atLeast: { west: 100 } } })).toBe(true);
    expect(met({ answered: { mode: 'gateway', from: 0, until: 20, atLeast: { west: 50 } } })).toBe(false);
    expect(met({ shifted: { mode: 'gateway', from: 5, to: ['eu'], withinS: 1, until: 20 } })).toBe(true);
    expect(met({ shifted: { mode: 'gateway', from: 5, to: ['eu'], withinS: 0.5, until: 20 } })).toBe(false);
    expect(met({ shifted: { mode: 'gateway', from: 5, to: ['west'], withinS: 20, until: 20 } })).toBe(false);
    expect(
      met({ state: { cluster: 'east', peer: 'west', is: ['quarantined'], from: 0, until: 7, always: false } }),
    ).toBe(false);
    expect(
      met({ state: { cluster: 'east', peer: 'west', is: ['quarantined'], from: 0, until: 9, always: false } }),
    ).toBe(true);
    expect(met({ journal: { cluster: 'east', kind: 'shift', member: 'west', from: 5, until: 20, atLeast: 1 } })).toBe(
      true,
    );
    expect(met({ journal: { cluster: 'east', kind: 'shift', from: 9, until: 20, atLeast: 1 } })).toBe(false);
    const broken = observed({ journals: new Map([['east', { entries: [], verified: 'entry 4 is changed' }]]) });
    expect(met({ journalVerifies: { cluster: 'east' } }, broken)).toBe(false);
  });
});

describe('scenario files', () => {
  const dir = join(import.meta.dirname, '../../../scenarios');
  const files = readdirSync(dir).filter((f) => f.endsWith('.scenario.yaml'));
  it.each(files)('%s is one', (file) => {
    expect(readScenario(join(dir, file)).expect.length).toBeGreaterThan(1);
  });
  it('name the field that is wrong', () => {
    const found = scenarioSchema.safeParse({ title: 'x', about: 'y', steps: [], until: -1 });
    expect(found.success).toBe(false);
    expect(found.error!.issues.map(({ path }) => path.join('.'))).toEqual(
      expect.arrayContaining(['setup', 'load', 'steps', 'until']),
    );
  });
});

describe('reports', () => {
  const scenario = readScenario(join(import.meta.dirname, '../../../scenarios/2-region-cut.scenario.yaml'));
  const result: Result = {
    scenario: { ...scenario, title: 'A <b>bold</b> title' },
    observed: observed(),
    judged: [{ what: 'a & b', met: false, seen: '"c"', figures: [] }],
    invalid: undefined,
    error: undefined,
    seconds: 12,
  };
  it('escape what they show', () => {
    const page = htmlReport([result]);
    expect(page).not.toContain('<b>bold');
    expect(page).not.toContain('cut <west>');
    expect(page).toContain('cut &#60;west&#62;');
    const xml = junit([result]);
    expect(xml).toContain('a &#38; b');
    expect(xml).toContain('failures="1"');
  });
  it('tell invalid from failed', () => {
    expect(verdictOf(result)).toBe('failed');
    expect(verdictOf({ ...result, judged: [], invalid: 'the machine was busy' })).toBe('invalid');
  });
});
