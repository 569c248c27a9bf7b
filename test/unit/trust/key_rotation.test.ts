import { describe, expect, it } from 'vitest';
import { type RotationState, rotationStep } from '../../../src/trust/key_rotation.ts';

const day = 86_400_000;
const policy = { afterMs: 90 * day, overlapMs: 7 * day };
const unseen = { announced: false, allSinceMs: undefined };
const state = (change: Partial<RotationState> = {}): RotationState => ({
  ...{ madeMs: 0, caFromMs: 0, caUntilMs: 3_650 * day, overlapUntilMs: undefined, next: undefined, askedMs: undefined },
  ...change,
});
const next = { madeMs: 90 * day, previousUntilMs: 97 * day };

describe('keys are made anew', () => {
  it.each([
    ['not before they are due', state(), 89 * day, 'current none'],
    ['when they are', state(), 90 * day, 'current make'],
    ['when the CA has lived two thirds of its life', state({ caUntilMs: 30 * day }), 20 * day, 'current make'],
    ['when somebody asks', state({ madeMs: day, askedMs: 2 * day }), 2 * day, 'current make'],
    ['not because somebody asked before', state({ madeMs: 2 * day, askedMs: day }), 3 * day, 'current none'],
    ['not while those before are still accepted', state({ overlapUntilMs: 91 * day }), 90 * day, 'overlap none'],
  ])('%s', (_what, of, nowMs, expected) => {
    const { stage, act } = rotationStep(of, unseen, policy, nowMs);
    expect(`${stage} ${act}`).toBe(expected);
  });

  it('never by age where age is not counted, and says when it is late', () => {
    expect(rotationStep(state(), unseen, { ...policy, afterMs: 0 }, 1_000 * day).act).toBe('none');
    expect(rotationStep(state(), unseen, policy, 95 * day).late).toBe(false);
    expect(rotationStep(state(), unseen, policy, 100 * day).late).toBe(true);
  });
});

describe('keys that were announced are used', () => {
  it.each([
    ['not before the announcement is read back', { announced: false, allSinceMs: 90 * day }, 97 * day, 'none'],
    ['not while a live peer is missing', { announced: true, allSinceMs: undefined }, 91 * day, 'none'],
    ['not in the same moment', { announced: true, allSinceMs: 91 * day }, 91 * day, 'none'],
    ['when all have seen them for a moment', { announced: true, allSinceMs: 91 * day }, 91 * day + 30_000, 'use'],
    ['at half of the overlap, whoever is missing', { announced: true, allSinceMs: undefined }, 93.5 * day, 'use'],
  ])('%s', (_what, seen, nowMs, act) => {
    const step = rotationStep(state({ next }), seen, policy, nowMs);
    expect([step.stage, step.act]).toEqual(['announced', act]);
  });

  it('and are late when they are not', () => {
    expect(rotationStep(state({ next }), unseen, policy, 95 * day).late).toBe(true);
  });
});
