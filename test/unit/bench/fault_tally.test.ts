import { describe, expect, it } from 'vitest';
import { faultList } from '../../../bench/fault_list.ts';
import { figuresOf, type Sample, statsSum } from '../../../bench/fault_tally.ts';

const sample = (over: Partial<Sample>): Sample => ({
  fault: 'cut',
  mode: 'gateway',
  addedMs: 0,
  sent: 300,
  failed: 0,
  stallMs: 5,
  keptFailed: 0,
  ...over,
});

const aim = { failed: 1, stallMs: 600 };

describe('figures of a fault', () => {
  it('takes the worst of all runs, failures and stalls apart', () => {
    const samples = [sample({ failed: 1, stallMs: 20 }), sample({ stallMs: 601.2 }), sample({ keptFailed: 3 })];
    expect(figuresOf('cut', aim, 'gateway', 0, samples)).toEqual([
      { name: 'cut, gateway: tried', value: 300, unit: 'calls', aim: undefined, met: undefined },
      { name: 'cut, gateway: failed', value: 1, unit: 'calls', aim: 1, met: true },
      { name: 'cut, gateway: longest stall', value: 601, unit: 'ms', aim: 600, met: false },
      { name: 'cut, gateway: failed on kept connections', value: 3, unit: 'calls', aim: undefined, met: undefined },
    ]);
  });

  it('keeps faults, modes and distances apart, and aims only at gateway mode without a delay', () => {
    const samples = [sample({ failed: 9 }), sample({ mode: 'direct', failed: 7 }), sample({ addedMs: 80, failed: 5 })];
    const failed = (mode: 'gateway' | 'direct', addedMs: number) => figuresOf('cut', aim, mode, addedMs, samples)[1];
    expect(failed('gateway', 0)).toMatchObject({ value: 9, aim: 1, met: false });
    expect(failed('direct', 0)).toMatchObject({ value: 7, aim: undefined, met: undefined });
    expect(failed('gateway', 80)).toMatchObject({ name: 'cut, gateway, +80 ms: failed', value: 5, met: undefined });
  });

  it('does not call an aim met that no valid run has seen', () => {
    const [, failed, stall] = figuresOf('other', aim, 'gateway', 0, [sample({})]);
    expect(failed).toMatchObject({ value: Number.NaN, met: false });
    expect(stall).toMatchObject({ value: Number.NaN, met: false });
  });
});

describe('the list of faults', () => {
  it('names each once and lets far and near ones take turns', () => {
    expect(new Set(faultList.map(({ name }) => name)).size).toBe(faultList.length);
    const repeated = faultList.filter(({ side }, i) => i > 0 && faultList[i - 1]?.side === side);
    expect(repeated).toEqual([]);
  });
});

it('sums counters of an Envoy by the end of their names', () => {
  const text = [
    'cluster.class-1.outlier_detection.ejections_enforced_total: 2',
    'cluster.class-1.outlier_detection.ejections_enforced_total_extra: 9',
    'cluster.class-2.outlier_detection.ejections_enforced_total: 1',
    'cluster.class-2.outlier_detection.ejections_active: 4',
    'cluster.class-2.upstream_rq_time: No recorded values',
  ].join('\n');
  expect(statsSum(text, 'ejections_enforced_total')).toBe(3);
});
