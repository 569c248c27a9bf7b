import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type HealthState, initialHealth } from '../../../src/health/assess.ts';
import { readHealth } from '../../../src/health/saved.ts';
import { badProbe, gray, memberView, probe, Scene, self, talks, traffic, viewOf } from './scene.ts';

const cart = 'shop/cart';
const view = viewOf([memberView('us-west'), memberView('eu'), memberView('asia')], {
  [cart]: { by: ['us-west', 'eu', 'asia'] },
});

/** A state in which every field that there is has a value. */
const busy = (): HealthState => {
  const s = new Scene(view);
  s.run(0, 20_000, (now) => ({
    probes: [
      badProbe('us-west', now, { gateway: 'g0', head: { epoch: 11n, sequence: BigInt(now) } }),
      probe('eu', now),
      badProbe('eu', now, { service: cart, failedAt: 'connect', status: 503 }),
    ],
    traffic: [
      traffic('us-west', now, { localErrors: 30, ejected: 2, gateways: 2 }),
      traffic('eu', now, { service: cart, gatewayErrors: 9 }),
      traffic('asia', now, { established: 50, localErrors: 60 }),
    ],
    gray: [gray(self, cart, now, false)],
    control: new Map([['us-west', talks(now)]]),
    votes: ['us-east', 'asia', 'us-west'].map((voter) => ({
      voter,
      voterRegion: voter,
      accused: 'eu',
      down: true,
      ageMs: 1,
    })),
  }));
  return s.state;
};

const asJson = (state: HealthState): HealthState => JSON.parse(JSON.stringify(state));

describe('a saved state', () => {
  it('is read as it was written', () => {
    const state = busy();
    expect(Object.keys(state.members)).toHaveLength(3);
    expect(Object.keys(state.cells)).toHaveLength(2);
    const read = readHealth(asJson(state));
    expect(read).toEqual(state);
  });

  it('loses the entries that do not fit, and no others', () => {
    const state = asJson(busy());
    const broken = {
      ...state,
      members: { ...state.members, eu: { ...state.members['eu'], state: 'dead' }, asia: null },
      cells: { ...state.cells, 'shop/pay|eu': { state: 'fresh' } },
      regions: [],
    };
    const read = readHealth(broken);
    expect(read.members).toEqual({ 'us-west': state.members['us-west'] });
    expect(read.cells).toEqual(state.cells);
    expect(read.regions).toEqual({});
  });

  it('is a new one when there is none, or none with times', () => {
    for (const nothing of [undefined, null, 7, 'x', [], {}, { presence: {} }, { members: {} }]) {
      expect(readHealth(nothing)).toEqual(initialHealth());
    }
  });

  it('can be gone on from, whatever was read', () => {
    const state = asJson(busy());
    /** All places of the state, as paths. */
    const paths = (value: unknown, path: readonly string[] = []): (readonly string[])[] =>
      typeof value === 'object' && value !== null
        ? [path, ...Object.entries(value).flatMap(([key, inner]) => paths(inner, [...path, key]))]
        : [path];
    const put = (value: unknown, [head, ...rest]: readonly string[], junk: unknown): unknown =>
      head === undefined
        ? junk
        : { ...(value as object), [head]: put((value as Record<string, unknown>)[head], rest, junk) };
    fc.assert(
      fc.property(fc.constantFrom(...paths(state)), fc.jsonValue(), (path, junk) => {
        const s = new Scene(view);
        s.state = readHealth(put(state, path, junk));
        s.run(30_000, 34_000, (now) => ({ probes: [probe('eu', now)] }));
        expect(s.last!.verdicts.members.size).toBe(3);
      }),
      { numRuns: 500 },
    );
  });
});
