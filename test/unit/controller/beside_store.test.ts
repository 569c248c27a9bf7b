/** What the writer decides while the store is dark reaches the other replicas through the API server, and nothing else does that way. */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { Config } from '../../../src/config/controller.ts';
import {
  BesideStore,
  type BesideStoreOptions,
  besideName,
  openBeside,
  sealBeside,
} from '../../../src/controller/beside_store.ts';
import type { Beside } from '../../../src/controller/following.ts';
import { sealsOf } from '../../../src/controller/seals.ts';
import { limits } from '../../../src/core/limits.ts';
import { openMetrics } from '../../../src/ops/metrics.ts';
import { openState, sealState } from '../../../src/records/sealed_state.ts';
import { SimClock } from '../../sim/clock.ts';
import { serviceView } from './shop.ts';
import { Api, memberView, names, pair, peer, Replica, recordKey, type Store, self } from './two_replicas.ts';

const seals = sealsOf({ now: recordKey });
const long = 60_000;
const textOf = ({ api }: Store): string => api.maps.get(besideName)!.binaryData!.state!;
const put = ({ api }: Store, bytes: Uint8Array | string): void => {
  const state = typeof bytes === 'string' ? bytes : Buffer.from(bytes).toString('base64');
  api.maps.set(besideName, { binaryData: { state } });
};
const opened = (store: Store): Beside => {
  const found = openBeside(seals.all, Buffer.from(textOf(store), 'base64'));
  if (!found.ok) throw found.error;
  return found.value;
};
const seconds = async (count: number, ...replicas: Replica[]): Promise<void> => {
  for (let second = 0; second < count; second++) for (const replica of replicas) await replica.tick(false);
};
/** By its probes: what it decides reaches nobody by itself. */
const withdraws = async (replica: Replica): Promise<void> => {
  for (let round = 0; round < 4; round++) {
    await replica.pathFails(3);
    await seconds(1, replica);
  }
  expect([replica.state, replica.sends]).toEqual(['quarantined', false]);
};

const dark = async () => {
  const two = await pair();
  for (const replica of [two.writer, two.other]) {
    replica.service = serviceView(undefined, { [peer]: [2, 2], 'eu-central': [2, 2] });
    await replica.tick(false);
    expect(replica.sends).toBe(true);
    replica.readBackMs = long;
  }
  return two;
};

describe('while the store is dark, a replica that follows', () => {
  it('brings back what it left out by itself, by the next word of the writer', async () => {
    const { writer, other } = await dark();
    await withdraws(other);
    await seconds(1, writer);
    await seconds(2, other);
    expect(other.sends).toBe(true);
    expect(other.logged).toContain('the store is dark: the writer is followed through the API server');
  });

  it('does not without it, whatever it finds itself', async () => {
    const { store, writer, other } = await dark();
    store.api.dark = true;
    await withdraws(other);
    await seconds(30, writer, other);
    expect(other.sends).toBe(false);
    for (const { logged } of [writer, other]) {
      expect(logged.filter((line) => line.startsWith('the API server does not'))).toHaveLength(1);
    }
  });

  it('leaves a peer when the writer does, and holds what it holds', async () => {
    const { store, writer, other } = await dark();
    store.peerHas(names(2));
    await withdraws(writer);
    await seconds(2, writer, other);
    expect([other.sends, other.held]).toEqual([false, writer.held]);
    expect(writer.held).toHaveLength(8);
  });

  it('lets go what the writer lets go', async () => {
    const { store, writer, other } = await dark();
    store.peerHas(names(9));
    await seconds(2, writer, other);
    writer.probed('s9', 'gone');
    await seconds(1, writer);
    expect(other.uses).toContain('s9');
    await seconds(1, other);
    expect([other.uses.includes('s9'), other.touched]).toEqual([false, ['shop/s9']]);
  });

  it('takes the writer at its word as it does through the store, and goes by its own probes when that ends', async () => {
    const { store, writer, other } = await dark();
    await seconds(2, writer, other);
    for (let round = 0; round < 4; round++) {
      await other.pathFails(3);
      await seconds(1, other);
    }
    expect(other.sends).toBe(true);
    // What it sees vanish itself it leaves, as ever, and the writer journals it.
    other.service = serviceView(undefined, { [peer]: [0, 2], 'eu-central': [2, 2] });
    await seconds(1, other);
    expect(other.sends).toBe(false);
    expect(other.failover.journalledAtMs).toBeUndefined();
    other.service = writer.service;
    await seconds(1, other);
    store.api.dark = true;
    await seconds(6, other);
    await withdraws(other);
    expect(other.failover.journalledAtMs).toBeDefined();
  });

  it('goes by its own probes when the writer says nothing more', async () => {
    const { writer, other } = await dark();
    await seconds(2, writer, other);
    await seconds(26, other);
    await withdraws(other);
  });

  it('is chosen, and goes on from there', async () => {
    const { store, writer, other } = await dark();
    await withdraws(writer);
    await seconds(2, writer, other);
    writer.chosen = false;
    other.chosen = true;
    await seconds(1, other);
    expect(other.sends).toBe(false);
    const before = opened(store).mark.atMs;
    await seconds(11, other);
    expect(opened(store).mark.atMs).toBeGreaterThan(before);
  });
});

describe('what stands beside the store and', () => {
  /** The writer left the peer, the other one followed it there; `old` is of before that. */
  const followed = async () => {
    const two = await dark();
    await seconds(1, two.writer);
    const old = textOf(two.store);
    await seconds(2, two.other);
    await withdraws(two.writer);
    await seconds(2, two.writer, two.other);
    expect(two.other.sends).toBe(false);
    two.writer.mayShip = false;
    return { ...two, old, beside: opened(two.store) };
  };
  /** As `old` said it, and newer than all. */
  const fresh = ({ old, beside }: { readonly old: string; readonly beside: Beside }): Beside => {
    const before = openBeside(seals.all, Buffer.from(old, 'base64'));
    if (!before.ok) throw before.error;
    const { atMs, wallMs } = beside.mark;
    return { ...before.value, mark: { atMs: atMs + 1, wallMs: wallMs + 1 } };
  };

  it('is newer is followed: what the others here are compared with', async () => {
    const two = await followed();
    put(two.store, sealBeside(seals.now, fresh(two)));
    await seconds(2, two.other);
    expect(two.other.sends).toBe(true);
  });

  it('was kept back for a while is followed, and does not keep a replica from what it finds itself', async () => {
    const two = await followed();
    const { mark, ...rest } = fresh(two);
    put(two.store, sealBeside(seals.now, { ...rest, mark: { ...mark, wallMs: mark.wallMs - 15_000 } }));
    await seconds(2, two.other);
    expect(two.other.sends).toBe(true);
    await seconds(6, two.other);
    await withdraws(two.other);
  });

  it('is older than what was followed changes nothing', async () => {
    const { store, other, old } = await followed();
    put(store, old);
    await seconds(3, other);
    expect(other.sends).toBe(false);
  });

  it('is older than what was followed changes nothing after a restart either', async () => {
    const { store, clock, other, old } = await followed();
    const { saved } = other;
    const again = new Replica(store, false, clock);
    again.readBackMs = long;
    again.service = other.service;
    await again.failover.open(saved);
    put(store, old);
    await seconds(3, again);
    expect(again.sends).toBe(false);
  });

  it.each([
    ['of an earlier term', (beside: Beside): Beside => ({ ...beside, epoch: 2n })],
    [
      'half a minute old',
      (beside: Beside): Beside => ({ ...beside, mark: { ...beside.mark, wallMs: beside.mark.wallMs - 30_000 } }),
    ],
  ])('is %s changes nothing', async (_what, made) => {
    const two = await followed();
    put(two.store, sealBeside(seals.now, made(fresh(two))));
    await seconds(2, two.other);
    expect(two.other.sends).toBe(false);
  });

  it.each([
    ['sealed by another key', (beside: Beside) => sealBeside(foreign, beside)],
    ['not sealed', ({ packed }: Beside) => packed],
    ['in the clear', (beside: Beside) => clear(beside)],
    ['sealed for the store', ({ packed }: Beside) => sealState(seals.now, packed)],
    ['of another shape', (beside: Beside) => sealBeside(seals.now, { ...beside, mark: { atMs: -1, wallMs: 0 } })],
    [
      'changed in its last byte',
      (beside: Beside) => sealBeside(seals.now, beside).map((b, i, { length }) => (i < length - 1 ? b : b ^ 1)),
    ],
    ['cut off', (beside: Beside) => sealBeside(seals.now, beside).subarray(0, 40)],
    ['empty', () => new Uint8Array()],
    ['not packed', (beside: Beside) => sealBeside(seals.now, { ...beside, packed: randomBytes(100) })],
    ['no state', (beside: Beside) => sealBeside(seals.now, { ...beside, packed: gzipSync('{}') })],
  ])('is %s changes nothing, and is said once', async (_what, made) => {
    const two = await followed();
    const beside = fresh(two);
    for (let time = 1; time <= 3; time++) {
      const mark = { ...beside.mark, atMs: beside.mark.atMs + time };
      put(two.store, made({ ...beside, mark }));
      await seconds(2, two.other);
    }
    expect(two.other.sends).toBe(false);
    expect(two.other.logged.filter((line) => line.startsWith('what stands beside the store'))).toHaveLength(1);
  });
  const clear = (beside: Beside): Uint8Array => {
    const state = openState(seals.all, sealBeside(seals.now, beside));
    if (!state.ok) throw state.error;
    return state.value;
  };
  const foreign = sealsOf({ now: generateKeyPairSync('ed25519').privateKey }).now;

  it('is of before the dark, in the store, does not undo it when that answers again; what is written then counts', async () => {
    const { store, writer, other } = await followed();
    const before = store.members.get(self)!;
    for (const replica of [writer, other]) replica.readBackMs = 300;
    store.members.set(self, memberView(self, { ...before, verdicts: { ...before.verdicts! } }));
    store.changed();
    await seconds(2, other);
    expect(other.sends).toBe(false);
    // A new term, by a replica that was never told of any of this and whose clock is behind.
    const late = new Replica(store, true, new SimClock(writer.clock.wallStartMs - 500_000));
    late.service = other.service;
    await late.failover.open(undefined);
    store.head = { epoch: 4n, sequence: 1n };
    const announced = await late.tick(false);
    store.ship(announced!);
    await seconds(2, other);
    expect(other.sends).toBe(true);
  });
});

describe('the writer', () => {
  it('writes nothing while the store answers, nor while it may not', async () => {
    const { store, writer, other } = await pair();
    await seconds(20, writer, other);
    expect(store.api.calls).toEqual([]);
    for (const replica of [writer, other]) replica.readBackMs = long;
    writer.mayShip = false;
    await seconds(20, writer);
    expect(store.api.calls).toEqual([]);
  });

  it('seals always, though nothing is for some members alone', async () => {
    const { store, writer } = await dark();
    await seconds(1, writer);
    const bytes = Buffer.from(textOf(store), 'base64');
    expect(bytes.includes(Buffer.from(opened(store).packed))).toBe(false);
    expect(openBeside([], bytes).ok).toBe(false);
  });

  it('says it once, every ten seconds again, and what is new within a second', async () => {
    const { store, writer } = await dark();
    await seconds(9, writer);
    expect(store.api.calls.splice(0)).toEqual(['PUT', 'POST']);
    await seconds(11, writer);
    expect(store.api.calls.splice(0)).toEqual(['PUT']);
    const { mark } = opened(store);
    await withdraws(writer);
    await seconds(1, writer);
    expect(opened(store).mark.atMs).toBeGreaterThan(mark.atMs);
    for (let i = 0; i < 50; i++) writer.failover.tick();
    expect(store.api.calls.length).toBeLessThanOrEqual(4);
  });

  it('takes it away some time after the store answers again', async () => {
    const { store, writer } = await dark();
    await seconds(1, writer);
    writer.readBackMs = 300;
    await seconds(20, writer);
    expect(store.api.maps.size).toBe(1);
    await seconds(15, writer);
    expect(store.api.maps.size).toBe(0);
    expect(store.api.calls.at(-1)).toBe('DELETE');
  });

  it('does not ship what does not fit, and says so once', async () => {
    const clock = new SimClock();
    const api = new Api();
    const logged: string[] = [];
    let versions = 0;
    const text = (bytes: number) => Buffer.from(`{"of":"${randomBytes(bytes).toString('base64')}"}`);
    let state = text(limits.stateBesideBytesMax + 10_000);
    const beside = new BesideStore({
      ...{ api, clock, mayShip: () => true, seals: () => seals, epoch: () => 1n, metrics: openMetrics('test') },
      ...{ chosen: () => true, recordsKnown: () => true, readBackMs: () => long, onServices: () => {} },
      config: { namespace: 'isthmus-system', publish: { silenceMs: 6_000 } } as unknown as Config,
      log: (_level: string, message: string) => void logged.push(message),
      deciding: { stepped: true, version: 1, scale: { mark: () => ({ atMs: 1, wallMs: 1 }) }, encoded: () => state },
      // There is always something new.
      withdrawing: {
        get version() {
          return versions++;
        },
        ship: () => ({ held: [], letGo: [] }),
      },
      following: { newest: () => 1n, shipped: () => {} },
    } as unknown as BesideStoreOptions);
    const run = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        beside.tick();
        await clock.advance(1_000);
      }
    };
    await run(30);
    expect(api.calls).toEqual([]);
    expect(logged).toEqual(['the state is too large to be shipped beside the store']);
    // The most that fits is written no more often than it may burden the API server.
    state = text(900_000);
    await run(30);
    expect(api.calls.filter((method) => method !== 'POST').length).toBeLessThanOrEqual(4);
    expect(api.maps.size).toBe(1);
  });
});
