import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import type { Store } from '../../../src/core/store.ts';
import type { Federation } from '../../../src/federation/federation.ts';
import { Publisher, type PublisherEvent, type PublisherOptions } from '../../../src/store/publisher.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';
import { SimEtcd, simStore } from '../../sim/store.ts';
import { federation, keys, membershipOf, serviceBytes } from '../federation/author.ts';
import { testMember } from '../trust/certificates.ts';

const identity = await testMember('us-west');
const prefix = keys.memberPrefix('us-west');

let clock: SimClock;
let etcd: SimEtcd;
let root: Store;
let reader: Federation;
const open: (Publisher | Store)[] = [];

const store = (seed: number): Store => {
  const made = simStore(etcd, { clock, rng: seededRng(seed) });
  open.push(made);
  return made;
};

/** A writer and what it told. */
const writer = (seed: number, change: Partial<PublisherOptions> = {}) => {
  const events: PublisherEvent[] = [];
  const publisher = new Publisher({
    store: store(seed),
    clock,
    clusterset: 'demo',
    member: 'us-west',
    recordKey: identity.recordKey,
    heartbeatMs: 1_000,
    epochFloor: () => 0n,
    onEvent: (event) => events.push(event),
    ...change,
  });
  open.push(publisher);
  const kinds = () => events.map(({ kind }) => kind);
  const written = () => events.filter((event) => event.kind === 'written');
  return { publisher, events, kinds, written };
};

const view = () => reader.members.get('us-west');
const services = () => [...(view()?.services.keys() ?? [])].sort();
const records = (...names: string[]) => new Map(names.flatMap((name) => Object.entries(serviceBytes(name))));
const without = (name: string) => new Map([[`services/shop/${name}`, undefined]]);
const stored = () => etcd.snapshot('root', prefix).entries.map(({ key }) => key.slice(prefix.length));

beforeEach(async () => {
  clock = new SimClock();
  etcd = new SimEtcd();
  root = store(99);
  const key = keys.member('us-west');
  const membership = membershipOf({ ...identity, member: { ...identity.member, notAfterMs: 2e12 } })[key]!;
  etcd.commit('root', { compare: [], puts: [{ key, value: membership }], deletes: [] });
  reader = federation();
  const times = () => ({ nowMs: clock.monotonicMs(), wallMs: clock.wallMs() });
  root.watch(keys.root, {
    snapshot: (snapshot) => void reader.snapshot(snapshot, times()),
    events: (events) => void reader.events(events, times()),
    connected: () => {},
  });
  await clock.advance(10);
});

afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

describe('a writer', () => {
  it('publishes what was asked before and after it began to lead, and removes what else stood there', async () => {
    etcd.commit('root', {
      compare: [],
      puts: [{ key: `${prefix}services/old/one`, value: Uint8Array.of(1) }],
      deletes: [],
    });
    const { publisher } = writer(1);
    publisher.publish(records('a'));
    await clock.advance(100);
    expect(services()).toEqual([]);
    publisher.lead();
    await clock.advance(20);
    expect([services(), publisher.state, publisher.settled]).toEqual([['shop/a'], 'leading', true]);
    publisher.publish(records('b'));
    publisher.publish(without('a'));
    await clock.advance(20);
    expect(services()).toEqual(['shop/b']);
    expect(stored()).toEqual(['manifest', 'services/shop/b']);
  });

  it('writes at once when idle, and the newest of what came while it wrote', async () => {
    const { publisher, written } = writer(1);
    publisher.lead();
    await clock.advance(20);
    const before = written().length;
    for (let i = 0; i < 50; i++) {
      publisher.publish(records(`s${i}`));
      if (i % 10 === 9) await clock.advance(0.1);
    }
    await clock.advance(10);
    expect(services()).toHaveLength(50);
    // One tick for what came in the first turn, one for the rest.
    expect(written().length - before).toBe(2);
  });

  it('that never pauses rests between ticks, so that no reader takes it for noisy', async () => {
    const { publisher, written } = writer(1);
    publisher.lead();
    await clock.advance(20);
    const before = written().length;
    for (let i = 0; i < 2_000; i++) {
      publisher.publish(records(`s${i % 50}-${i}`));
      await clock.advance(1);
    }
    expect(written().length - before).toBeLessThan(limits.publishTicksInARow + 2_000 / limits.publishRestMs + 1);
    await clock.advance(100);
    expect([publisher.settled, services().length]).toEqual([true, 2_000]);
  });

  it('names the newest entry of its journal in every manifest, and readers hold on to it', async () => {
    let head: { chain: string; sequence: number; hash: string } | undefined;
    const { publisher } = writer(1, { journalHead: () => head });
    publisher.lead();
    await clock.advance(100);
    expect(view()?.journals).toEqual([]);
    head = { chain: '0123456789abcdef', sequence: 7, hash: 'ab'.repeat(32) };
    await clock.advance(1_100);
    expect(view()?.journals).toEqual([head]);
    const before = head;
    head = { ...head, sequence: 5, hash: 'cd'.repeat(32) };
    await clock.advance(1_100);
    expect(view()?.journals).toEqual([before]);
    head = { chain: 'f'.repeat(16), sequence: 1, hash: 'ef'.repeat(32) };
    await clock.advance(1_100);
    expect(view()?.journals).toEqual([before, head]);
  });

  it('writes nothing but heartbeats when nothing changes', async () => {
    const { publisher, written } = writer(1);
    publisher.publish(records('a'));
    publisher.lead();
    await clock.advance(20);
    const revision = etcd.revision;
    const fresh = view()?.freshAtMs;
    publisher.publish(records('a'));
    await clock.advance(3_500);
    expect(etcd.revision - revision).toBe(3n);
    expect(written().at(-1)).toMatchObject({ sequence: view()?.head?.sequence });
    expect(view()!.freshAtMs!).toBeGreaterThan(fresh!);
    expect(publisher.readBackAgeMs()).toBeLessThan(1_100);
  });

  it('stages what is larger than a transaction, and readers get it whole', async () => {
    const { publisher } = writer(1);
    const sizes = new Set<number>();
    const original = reader.events.bind(reader);
    reader.events = (events, times) => {
      const change = original(events, times);
      sizes.add(services().length);
      return change;
    };
    publisher.publish(records(...Array.from({ length: 500 }, (_, i) => `s${i}`)));
    publisher.lead();
    await clock.advance(100);
    expect([...sizes]).toEqual([0, 500]);
    expect(stored()).toHaveLength(501);
  });

  it('says itself that it shuts down', async () => {
    const { publisher } = writer(1);
    publisher.publish(records('a'));
    publisher.lead();
    await clock.advance(20);
    const done = publisher.shutdown();
    await clock.advance(20);
    await done;
    expect([view()?.shuttingDown, services(), publisher.state]).toEqual([true, ['shop/a'], 'closed']);
    const revision = etcd.revision;
    publisher.publish(records('b'));
    await clock.advance(5_000);
    expect(etcd.revision).toBe(revision);
  });
});

describe('epochs', () => {
  const epoch = () => view()?.head?.epoch;

  it('are above the wall clock, the store, the disk and what peers echo', async () => {
    const first = writer(1);
    first.publisher.lead();
    await clock.advance(20);
    expect(epoch()).toBeGreaterThan(BigInt(clock.wallMs() - 1_000));
    first.publisher.resign();
    clock.wallStartMs -= 3_600_000;
    const before = epoch()!;
    const second = writer(2);
    second.publisher.lead();
    await clock.advance(20);
    expect(epoch()).toBe(before + 1n);
    second.publisher.resign();
    const floor = before + 1_000_000n;
    const third = writer(3, { epochFloor: () => floor });
    third.publisher.lead();
    await clock.advance(20);
    expect(epoch()).toBe(floor + 1n);
  });

  it('of two writers that both believe to lead, let only the later one go on', async () => {
    const first = writer(1);
    const second = writer(2);
    first.publisher.publish(records('a'));
    second.publisher.publish(records('a'));
    first.publisher.lead();
    await clock.advance(50);
    second.publisher.lead();
    await clock.advance(50);
    first.publisher.publish(records('late'));
    await clock.advance(50);
    expect([first.publisher.state, second.publisher.state]).toEqual(['fenced', 'leading']);
    expect(first.publisher.lastError?.code).toBe('store/fenced');
    expect(services()).toEqual(['shop/a']);
    const head = view()!.head!;
    await clock.advance(3_000);
    expect([first.publisher.state, view()!.head!.epoch]).toEqual(['fenced', head.epoch]);
    // Told to lead again, it takes over.
    first.publisher.lead();
    await clock.advance(2_000);
    expect([first.publisher.state, second.publisher.state, services()]).toEqual([
      'leading',
      'fenced',
      ['shop/a', 'shop/late'],
    ]);
  });

  it('fence a writer whose watch is dead at its very next write', async () => {
    const deaf: Store = Object.assign(Object.create(store(3)) as Store, { watch: () => ({ close: () => {} }) });
    const first = writer(1, { store: deaf });
    first.publisher.publish(records('a'));
    first.publisher.lead();
    await clock.advance(50);
    const second = writer(2);
    second.publisher.publish(records('a'));
    second.publisher.lead();
    await clock.advance(50);
    const head = view()!.head!;
    first.publisher.publish(records('late'));
    await clock.advance(10);
    expect([first.publisher.state, stored()]).toEqual(['fenced', ['manifest', 'services/shop/a']]);
    expect(view()!.head).toEqual(head);
  });

  it('of two writers that begin at once with many records, let one finish', async () => {
    const many = records(...Array.from({ length: 300 }, (_, i) => `s${i}`));
    const writers = [writer(1), writer(2)];
    for (const { publisher } of writers) {
      publisher.publish(many);
      publisher.lead();
    }
    await clock.advance(3_000);
    expect(writers.map(({ publisher }) => publisher.state).sort()).toEqual(['fenced', 'leading']);
    expect([services().length, view()?.problems]).toEqual([300, []]);
  });
});

describe('a store in trouble', () => {
  const leading = async () => {
    const made = writer(1);
    made.publisher.publish(records('a', 'b'));
    made.publisher.lead();
    await clock.advance(20);
    return made;
  };

  it('that is down for a while loses nothing', async () => {
    const { publisher } = await leading();
    etcd.stop();
    publisher.publish(records('c'));
    publisher.publish(without('a'));
    await clock.advance(20_000);
    expect([publisher.state, publisher.lastError?.code, publisher.settled]).toEqual([
      'leading',
      'store/unavailable',
      false,
    ]);
    expect(publisher.readBackAgeMs()).toBeGreaterThan(19_000);
    etcd.start();
    await clock.advance(limits.publishRetryMaxMs + limits.watchBackoffMaxMs);
    expect([services(), publisher.lastError]).toEqual([['shop/b', 'shop/c'], undefined]);
    expect(publisher.readBackAgeMs()).toBeLessThan(2_000);
  });

  it('that loses an answer is listed again, in the same term', async () => {
    const { publisher, events } = await leading();
    etcd.loseNextAnswer = true;
    publisher.publish(records('c'));
    await clock.advance(1_000);
    expect([services(), publisher.state]).toEqual([['shop/a', 'shop/b', 'shop/c'], 'leading']);
    expect(events.filter(({ kind }) => kind === 'term')).toHaveLength(1);
  });

  it('that was restored to an older state gets everything again, at a higher epoch', async () => {
    const { publisher, events } = await leading();
    const backup = etcd.saveData();
    publisher.publish(records('c'));
    await clock.advance(2_000);
    const head = view()!.head!;
    etcd.restoreData(backup);
    await clock.advance(10_000);
    expect(services()).toEqual(['shop/a', 'shop/b', 'shop/c']);
    expect(view()!.head!.epoch).toBeGreaterThan(head.epoch);
    expect(view()!.problems).toEqual([]);
    expect(stored()).toHaveLength(4);
    expect(events.filter(({ kind }) => kind === 'term')).toHaveLength(2);
    expect(publisher.state).toBe('leading');
  });

  it('that was replaced by an empty one gets everything again', async () => {
    const { publisher } = await leading();
    const head = view()!.head!;
    etcd.replace();
    await clock.advance(10_000);
    expect(stored()).toEqual(['manifest', 'services/shop/a', 'services/shop/b']);
    // The membership was lost with the store; the reader keeps the one it has.
    expect(view()!.head!.epoch).toBeGreaterThan(head.epoch);
    expect([services(), publisher.state]).toEqual([['shop/a', 'shop/b'], 'leading']);
  });

  it('in which somebody changes, deletes or adds our records is put right', async () => {
    const { publisher } = await leading();
    const attack = (puts: Record<string, Uint8Array>, deletes: string[] = []) =>
      etcd.commit('root', {
        compare: [],
        puts: Object.entries(puts).map(([key, value]) => ({ key: prefix + key, value })),
        deletes: deletes.map((key) => prefix + key),
      });
    for (const damage of [
      () => attack({ 'services/shop/a': Uint8Array.of(1) }),
      () => attack({}, ['services/shop/a']),
      () => attack({ 'services/shop/x': Uint8Array.of(1) }),
      () => attack({}, ['manifest']),
      () => attack({ manifest: Uint8Array.of(1, 2, 3) }),
    ]) {
      damage();
      await clock.advance(1_500);
      reader.tick({ nowMs: clock.monotonicMs(), wallMs: clock.wallMs() });
      expect(stored()).toEqual(['manifest', 'services/shop/a', 'services/shop/b']);
      expect([services(), view()!.problems, publisher.state]).toEqual([['shop/a', 'shop/b'], [], 'leading']);
    }
  });

  it('that has no space is tried again, and told', async () => {
    const { publisher, kinds } = await leading();
    etcd.noSpace = true;
    publisher.publish(records('c'));
    await clock.advance(10_000);
    expect([publisher.lastError?.code, kinds().filter((kind) => kind === 'failed').length < 10]).toEqual([
      'store/no-space',
      true,
    ]);
    etcd.noSpace = false;
    await clock.advance(limits.publishRetryMaxMs);
    expect(services()).toEqual(['shop/a', 'shop/b', 'shop/c']);
  });

  it('whose watch breaks again and again stays right', async () => {
    const { publisher } = await leading();
    etcd.dropAfterRevisions = 2;
    for (let i = 0; i < 30; i++) {
      publisher.publish(records(`s${i}`));
      await clock.advance(50);
    }
    etcd.dropAfterRevisions = 0;
    await clock.advance(10_000);
    expect([services().length, publisher.state]).toEqual([32, 'leading']);
  });
});
