import { describe, expect, it } from 'vitest';
import { captureStep, replayStep } from '../../../src/controller/replay.ts';
import { limits } from '../../../src/core/limits.ts';
import { packInputs, readInputs, unpackInputs } from '../../../src/journal/inputs.ts';
import { splitLines } from '../../../src/journal/lines.ts';
import { ClusterSet } from '../failover/set.ts';
import { type DecidedStep, decideFor } from './decided.ts';

/** Through the bytes that the journal keeps. */
const kept = ({ inputs, decisions }: DecidedStep): unknown => {
  const packed = packInputs(captureStep(inputs, decisions, '0.2.0'));
  expect(packed.ref.left).toBeUndefined();
  const read = readInputs(splitLines(Buffer.from(`${packed.line}\n`)).lines[0]!);
  const value = unpackInputs(read!.data!);
  if (!value.ok) throw value.error;
  return value.value;
};
const bodies = ({ decisions }: DecidedStep): unknown[] => JSON.parse(JSON.stringify(decisions)) as unknown[];
const replay = (step: DecidedStep, recorded = bodies(step), value = kept(step)) => {
  const result = replayStep(value, recorded);
  if (!result.ok) throw result.error;
  return result.value;
};

describe('a replay', () => {
  it('makes the same decisions, through a failure, its healing and a drain', () => {
    const steps = decideFor(60);
    const kinds = new Set(steps.flatMap(({ decisions }) => decisions.map(({ kind }) => kind)));
    for (const kind of ['state', 'shift', 'ramp', 'drain'] as const) expect([...kinds]).toContain(kind);
    for (const step of steps) {
      expect(replay(step), `at ${step.inputs.nowMs}`).toMatchObject({ same: true, differences: [], leftOut: 0 });
    }
  });

  it('shows in which field a decision differs', () => {
    const [step] = decideFor(30);
    const forged = bodies(step!);
    (forged[0] as { detail: string }).detail = 'because I say so';
    expect(replay(step!, forged)).toMatchObject({
      same: false,
      differences: [{ index: 0, field: 'detail', recorded: 'because I say so', replayed: step!.decisions[0]!.detail }],
    });
    expect(replay(step!, []).differences[0]).toMatchObject({ index: 0, field: 'decision', recorded: undefined });
  });

  it('depends on the inputs: with others it decides otherwise', () => {
    const step = decideFor(30).find(({ decisions }) => decisions.some(({ kind }) => kind === 'shift'))!;
    const other = { ...step, inputs: { ...step.inputs, signals: { ...step.inputs.signals, probes: [] } } };
    expect(replay(other, bodies(step)).same).toBe(false);
  });

  it('of a large set keeps what the step decided about, and makes the same decisions', () => {
    const services = Array.from({ length: limits.journalRecordsWholeMax }, (_, i) => `shop/s${i}`);
    const set = new ClusterSet({ local: [2, 2], services });
    for (const key of services) set.export(key === 'shop/s7' ? { eu: 2, 'us-west': 2 } : { 'us-west': 2 }, [0, 2], key);
    const steps = decideFor(12, set);
    expect(steps.length).toBeGreaterThan(0);
    for (const step of steps) {
      expect(packInputs(captureStep(step.inputs, step.decisions, '0.2.0')).ref.bytes).toBeLessThan(200_000);
      const result = replay(step);
      expect(result.leftOut).toBeGreaterThan(0);
      expect(result.same).toBe(true);
    }
  });

  it('of a step that moved more than there is room for keeps the first of them, and compares those', () => {
    const services = Array.from({ length: limits.journalRecordsMax }, (_, i) => `shop/s${i}`);
    const steps = decideFor(12, new ClusterSet({ local: [0, 2], services }));
    const moved = steps.find(({ decisions }) => decisions.length > services.length)!;
    const result = replay(moved);
    expect(result).toMatchObject({ same: true });
    expect(result.leftOut).toBeGreaterThan(1_000);
    const covered = services.filter((key) => result.covers(key));
    expect(covered.length).toBe(services.length - result.leftOut);
  });

  it('refuses what is no inputs of a step', () => {
    for (const value of [
      undefined,
      null,
      1,
      {},
      { format: 99 },
      { format: 1 },
      { format: 1, state: '{}', services: 3 },
    ]) {
      const result = replayStep(value, []);
      expect(result.ok ? '' : result.error.code).toBe('journal/malformed');
    }
  });
});
