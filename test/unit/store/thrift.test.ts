/** A publisher at a store gateway that judges as the real one does, and has little room. */
import { createPublicKey } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Store } from '../../../src/core/store.ts';
import type { Federation } from '../../../src/federation/federation.ts';
import { Publisher } from '../../../src/store/publisher.ts';
import { judge, type WriteQuota } from '../../../src/writes/judge.ts';
import { emptyNote } from '../../../src/writes/ledger.ts';
import { costOf, Usage } from '../../../src/writes/usage.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';
import { SimEtcd, simStore } from '../../sim/store.ts';
import { federation, keys, membershipOf, serviceBytes } from '../federation/author.ts';
import { testMember } from '../trust/certificates.ts';

const member = 'us-west';
const identity = await testMember(member);
const prefix = keys.memberPrefix(member);
const roomy: WriteQuota = {
  keys: 1_000,
  bytes: 2 ** 26,
  changes: { perSecond: 1_000, burst: 40_000 },
  written: { perSecond: 2 ** 18, burst: 2 ** 26 },
};

let clock: SimClock;
let etcd: SimEtcd;
let quota: WriteQuota;
let reader: Federation;
let publisher: Publisher;
let note = emptyNote;
/** How long each commit takes besides. */
let holdMs = 0;
let refused: string[];
const open: Store[] = [];

const store = (seed: number): Store => {
  const made = simStore(etcd, { clock, rng: seededRng(seed) });
  open.push(made);
  return made;
};

/** Judges each write, and holds back what is too fast. */
const gateway = (base: Store): Store => ({
  list: (under) => base.list(under),
  watch: (under, handler) => base.watch(under, handler),
  close: () => base.close(),
  commit: async (txn) => {
    const { entries } = etcd.snapshot('root', keys.root);
    const usage = new Usage('demo');
    usage.replace(entries);
    const verdict = judge(txn, {
      ...{ clusterset: 'demo', member, usage, note, quota, wallMs: clock.wallMs() },
      recordKeys: [createPublicKey(identity.recordKey)],
      isMember: () => true,
      manifest: entries.find(({ key }) => key === keys.manifest(member))?.value,
    });
    if (!verdict.ok) {
      refused.push(verdict.error.code);
      throw verdict.error;
    }
    const { waitMs } = verdict.value;
    if (waitMs + holdMs > 0) await new Promise<void>((resolve) => clock.after(waitMs + holdMs, resolve));
    note = verdict.value.note;
    return base.commit(txn);
  },
});

const records = (...names: string[]) => new Map(names.flatMap((name) => Object.entries(serviceBytes(name))));
const without = (...names: string[]) => new Map(names.map((name) => [`services/shop/${name}`, undefined]));
const stored = () => etcd.snapshot('root', prefix).entries.map(({ key }) => key.slice(prefix.length));
const view = () => reader.members.get(member);
const services = () => [...(view()?.services.keys() ?? [])].sort();
const freshAgeMs = () => clock.monotonicMs() - (view()?.freshAtMs ?? Number.NaN);

beforeEach(async () => {
  clock = new SimClock();
  etcd = new SimEtcd();
  quota = roomy;
  note = emptyNote;
  holdMs = 0;
  refused = [];
  const key = keys.member(member);
  const membership = membershipOf({ ...identity, member: { ...identity.member, notAfterMs: 2e12 } })[key]!;
  etcd.commit('root', { compare: [], puts: [{ key, value: membership }], deletes: [] });
  reader = federation();
  const times = () => ({ nowMs: clock.monotonicMs(), wallMs: clock.wallMs() });
  store(99).watch(keys.root, {
    snapshot: (snapshot) => void reader.snapshot(snapshot, times()),
    events: (events) => void reader.events(events, times()),
    connected: () => {},
  });
  publisher = new Publisher({
    ...{ store: gateway(store(1)), clock, clusterset: 'demo', member, recordKey: identity.recordKey },
    heartbeatMs: 1_000,
    epochFloor: () => 0n,
  });
  await clock.advance(10);
});

afterEach(async () => {
  publisher.close();
  for (const each of open.splice(0).reverse()) await each.close();
});

describe('over its quota', () => {
  beforeEach(async () => {
    quota = { ...roomy, keys: 4 };
    publisher.publish(records('a', 'b'));
    publisher.lead();
    await clock.advance(100);
  });

  it('a member goes on saying that it lives, and what it has said stays', async () => {
    publisher.publish(records('c', 'd', 'e'));
    for (let i = 0; i < 30; i++) {
      await clock.advance(1_000);
      expect(freshAgeMs()).toBeLessThan(1_500);
    }
    expect(services()).toEqual(['shop/a', 'shop/b']);
    expect(view()?.problems).toEqual([]);
    expect([publisher.state, publisher.settled, publisher.heldBack]).toEqual(['leading', false, 3]);
    expect(publisher.lastError?.code).toBe('store/quota');
    expect(publisher.stands('services/shop/a')).toBe(true);
    expect(publisher.stands('services/shop/c')).toBe(false);
    // The whole is tried now and then, not all the time.
    expect(refused.length).toBeLessThan(6);
  });

  it('withdraws, and tells readiness, while more is held back', async () => {
    publisher.publish(records('c', 'd', 'e'));
    await clock.advance(1_000);
    const before = view()!.services.get('shop/b');
    publisher.publish(without('a'));
    publisher.publish(new Map(Object.entries(serviceBytes('b', { draining: true }))));
    await clock.advance(100);
    expect(services()).toEqual(['shop/b']);
    expect(view()!.services.get('shop/b')).not.toEqual(before);
    expect(view()!.services.get('shop/b')?.draining).toBe(true);
  });

  it('by its bytes, it withdraws, and what grows waits', async () => {
    const { bytes } = etcd
      .snapshot('root', prefix)
      .entries.reduce((sum, { key, value }) => ({ bytes: sum.bytes + costOf(key, value.length) }), { bytes: 0 });
    quota = { ...roomy, bytes };
    publisher.publish(records('c'));
    publisher.publish(new Map(Object.entries(serviceBytes('b', { draining: true }))));
    for (let i = 0; i < 4; i++) {
      await clock.advance(1_000);
      expect(freshAgeMs()).toBeLessThan(2_000);
    }
    expect([services(), publisher.heldBack]).toEqual([['shop/a', 'shop/b'], 2]);
    publisher.publish(without('a'));
    await clock.advance(100);
    expect(services()).toEqual(['shop/b']);
    // What was taken away leaves room for the two bytes more, not for a whole record besides.
    await clock.advance(10_000);
    expect(view()!.services.get('shop/b')?.draining).toBe(true);
    expect([services(), publisher.heldBack]).toEqual([['shop/b'], 1]);
  });

  it('writes the rest when there is room again, and forgets what is not wanted any more', async () => {
    publisher.publish(records('c', 'd', 'e'));
    await clock.advance(2_000);
    publisher.publish(without('c', 'd', 'e'));
    await clock.advance(100);
    expect([publisher.heldBack, publisher.settled]).toEqual([0, true]);
    publisher.publish(records('c', 'd', 'e'));
    await clock.advance(20_000);
    expect(services()).toEqual(['shop/a', 'shop/b']);
    quota = roomy;
    await clock.advance(61_000);
    expect(services()).toEqual(['shop/a', 'shop/b', 'shop/c', 'shop/d', 'shop/e']);
    expect([publisher.heldBack, publisher.settled, publisher.lastError]).toEqual([0, true, undefined]);
  });

  it('begins a new term with what fits', async () => {
    publisher.publish(records('c', 'd', 'e'));
    await clock.advance(1_000);
    publisher.resign();
    publisher.lead();
    await clock.advance(2_000);
    expect([publisher.state, services()]).toEqual(['leading', ['shop/a', 'shop/b']]);
    expect(freshAgeMs()).toBeLessThan(1_500);
    expect(publisher.lastError?.code).toBe('store/quota');
  });

  it('holds back for one reader alone as for everybody', async () => {
    const [key, bytes] = Object.entries(serviceBytes('x'))[0]!;
    publisher.publish(new Map([[`to/eu-central/${key}`, bytes]]));
    for (let i = 0; i < 5; i++) {
      await clock.advance(1_000);
      expect(freshAgeMs()).toBeLessThan(1_500);
    }
    expect(services()).toEqual(['shop/a', 'shop/b']);
    expect(publisher.heldBack).toBeGreaterThan(0);
    quota = roomy;
    await clock.advance(61_000);
    expect([publisher.heldBack, publisher.settled]).toEqual([0, true]);
    expect(etcd.snapshot('root', keys.partPrefix('eu-central', member)).entries.length).toBe(2);
  });

  it('claims of nothing that was refused that it stands, while the whole is tried or after it resigned', async () => {
    publisher.publish(records('c', 'd', 'e'));
    for (let i = 0; i < 400; i++) {
      await clock.advance(20);
      expect([publisher.stands('services/shop/c'), publisher.stands('services/shop/a')]).toEqual([false, true]);
    }
    expect(refused.length).toBeGreaterThan(1);
    expect(publisher.heldBack).toBe(3);
    publisher.resign();
    expect(publisher.heldBack).toBe(0);
  });

  it('says in its last manifest that it shuts down, without what is refused', async () => {
    publisher.publish(records('c', 'd'));
    const ending = publisher.shutdown();
    await clock.advance(500);
    await ending;
    expect([view()?.shuttingDown, services(), view()?.problems]).toEqual([true, ['shop/a', 'shop/b'], []]);
  });

  it('leaves no part for one reader there without the record that tells of it', async () => {
    quota = { ...roomy, keys: 5 };
    const [key, bytes] = Object.entries(serviceBytes('x'))[0]!;
    publisher.publish(new Map([[`to/us-east/${key}`, bytes]]));
    for (let i = 0; i < 12; i++) {
      await clock.advance(1_000);
      reader.tick({ nowMs: clock.monotonicMs(), wallMs: clock.wallMs() });
      expect(view()?.problems).toEqual([]);
    }
    expect([services(), publisher.heldBack]).toEqual([['shop/a', 'shop/b'], 2]);
    quota = roomy;
    await clock.advance(61_000);
    expect([services(), publisher.settled]).toEqual([['shop/a', 'shop/b', 'shop/x'], true]);
  });

  it('withdraws from one reader while there is no room for another', async () => {
    quota = roomy;
    const of = (name: string, to: string) =>
      new Map(Object.entries(serviceBytes(name)).map(([key, bytes]) => [`to/${to}/${key}`, bytes]));
    publisher.publish(of('x', 'us-east'));
    publisher.publish(of('y', 'us-east'));
    await clock.advance(100);
    const usage = new Usage('demo');
    usage.replace(etcd.snapshot('root', keys.root).entries);
    // There is room for this part, and not for the record of two parts besides.
    const [name, bytes] = [...of('z', 'eu')][0]!;
    const part = costOf(keys.partPrefix('eu', member) + name.slice('to/eu/'.length), bytes.length);
    const salt = costOf(`${keys.partPrefix('eu', member)}salt`, 64);
    quota = { ...roomy, bytes: usage.of(member).bytes + part + salt };
    publisher.publish(of('z', 'eu'));
    await clock.advance(1_000);
    publisher.publish(new Map([['to/us-east/services/shop/x', undefined]]));
    await clock.advance(3_500);
    reader.tick({ nowMs: clock.monotonicMs(), wallMs: clock.wallMs() });
    expect([services(), view()?.problems]).toEqual([['shop/a', 'shop/b', 'shop/y'], []]);
  });

  it('writes what its replicas go on from whole or not at all', async () => {
    quota = roomy;
    const state = (version: number, length: number) =>
      new Map([
        ['verdicts', new Uint8Array([version])],
        ['verdicts/0', new Uint8Array(length).fill(version)],
      ]);
    publisher.publish(state(1, 100));
    await clock.advance(100);
    const usage = new Usage('demo');
    usage.replace(etcd.snapshot('root', keys.root).entries);
    quota = { ...roomy, bytes: usage.of(member).bytes };
    publisher.publish(state(2, 200));
    await clock.advance(3_000);
    expect(etcd.snapshot('root', `${prefix}verdicts`).entries.map(({ value }) => value[0])).toEqual([1, 1]);
    publisher.publish(state(3, 100));
    await clock.advance(100);
    expect(etcd.snapshot('root', `${prefix}verdicts`).entries.map(({ value }) => value[0])).toEqual([3, 3]);
  });

  it('replaces many names by as many others at once', async () => {
    const many = (of: string) => Array.from({ length: 150 }, (_, i) => `${of}${i}`);
    quota = { ...roomy, keys: 153 };
    publisher.publish(records(...many('x')));
    await clock.advance(1_000);
    publisher.publish(without(...many('x')));
    publisher.publish(records(...many('y')));
    await clock.advance(1_000);
    expect([services().filter((name) => name.startsWith('shop/y')).length, refused]).toEqual([150, []]);
  });

  it('writes what was left out while a tick was under way', async () => {
    quota = roomy;
    publisher.publish(new Map([['to/us-east/services/shop/x', serviceBytes('x')['services/shop/x']]]));
    await clock.advance(100);
    quota = { ...roomy, keys: 6 };
    publisher.publish(records('c'));
    await clock.advance(4_900);
    quota = roomy;
    // Held back for longer than it takes until the whole is due.
    holdMs = 400;
    publisher.publish(
      new Map([['to/us-east/services/shop/x', serviceBytes('x', { draining: true })['services/shop/x']]]),
    );
    await clock.advance(20_000);
    expect([services(), publisher.settled]).toEqual([['shop/a', 'shop/b', 'shop/c', 'shop/x'], true]);
  });
});

describe('writing too fast', () => {
  it('a member that changes without end writes the newest state now and then', async () => {
    quota = { ...roomy, written: { perSecond: 3_000, burst: 30_000 } };
    publisher.publish(records('a'));
    publisher.lead();
    for (let i = 0; i < 3_000; i++) {
      publisher.publish(new Map(Object.entries(serviceBytes(`s${i % 40}`, { draining: i % 80 > 40 }))));
      if (i === 1_500) publisher.publish(records('late'));
      await clock.advance(20);
    }
    expect(services()).toContain('shop/late');
    expect(freshAgeMs()).toBeLessThan(4_500);
  });

  it('a member says that it lives, and what came meanwhile goes as one when there is room', async () => {
    quota = { ...roomy, written: { perSecond: 3_000, burst: 16_384 } };
    publisher.publish(records('a'));
    publisher.lead();
    await clock.advance(100);
    let oldest = 0;
    for (let i = 0; i < 200; i++) {
      for (let n = 0; n < 20; n++) {
        publisher.publish(new Map(Object.entries(serviceBytes(`s${n}`, { draining: i % 7 > 3 }))));
      }
      await clock.advance(100);
      oldest = Math.max(oldest, freshAgeMs());
    }
    expect(refused).toContain('store/rate');
    // A write is held back for two seconds at most, and the one after its refusal is small.
    expect(oldest).toBeLessThan(4_500);
    expect(view()?.problems).toEqual([]);
    await clock.advance(61_000);
    expect([publisher.settled, publisher.lastError]).toEqual([true, undefined]);
    expect(services().length).toBe(21);
    expect(stored().length).toBe(22);
  });
});
