/** What is written for one reader alone, and what that reader and the others make of it; the store has roles as etcd has them. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Store } from '../../../src/core/store.ts';
import type { Federation } from '../../../src/federation/federation.ts';
import { codec } from '../../../src/records/codec.ts';
import { Publisher, type PublisherEvent } from '../../../src/store/publisher.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';
import { SimEtcd, simStore } from '../../sim/store.ts';
import { federation, keys, membershipOf, serviceBytes } from '../federation/author.ts';
import { testMember } from '../trust/certificates.ts';

const identity = await testMember('us-west');
const prefix = keys.memberPrefix('us-west');
const east = keys.partPrefix('us-east', 'us-west');
const eu = keys.partPrefix('eu', 'us-west');

let clock: SimClock;
let etcd: SimEtcd;
const open: (Publisher | Store)[] = [];

const store = (seed: number, user: string): Store => {
  const made = simStore(etcd, { clock, rng: seededRng(seed), user });
  open.push(made);
  return made;
};

const writer = () => {
  const events: PublisherEvent[] = [];
  const publisher = new Publisher({
    store: store(1, 'us-west'),
    clock,
    clusterset: 'demo',
    member: 'us-west',
    recordKey: identity.recordKey,
    heartbeatMs: 1_000,
    epochFloor: () => 0n,
    onEvent: (event) => events.push(event),
  });
  open.push(publisher);
  return { publisher, events };
};

const reader = (self: string, seed: number): Federation => {
  const made = federation({ self });
  const times = () => ({ nowMs: clock.monotonicMs(), wallMs: clock.wallMs() });
  for (const part of [keys.setPrefix, keys.publicPrefix, keys.readerPrefix(self)]) {
    store(seed, self).watch(part, {
      snapshot: (snapshot) => void made.snapshot(snapshot, times(), part),
      events: (events) => void made.events(events, times()),
      connected: () => {},
    });
  }
  return made;
};

const services = (of: Federation) => [...(of.members.get('us-west')?.services.keys() ?? [])].sort();
const forReader = (name: string, ...services: string[]) =>
  new Map(
    services.flatMap((service) =>
      Object.entries(serviceBytes(service)).map(([key, bytes]): [string, Uint8Array] => [`to/${name}/${key}`, bytes]),
    ),
  );
const stored = (under: string) => etcd.snapshot('root', under).entries.map(({ key }) => key.slice(under.length));
const root = (put: Record<string, Uint8Array>, deletes: string[] = []) =>
  etcd.commit('root', { compare: [], puts: Object.entries(put).map(([key, value]) => ({ key, value })), deletes });

beforeEach(async () => {
  clock = new SimClock();
  etcd = new SimEtcd();
  const key = keys.member('us-west');
  root({ [key]: membershipOf({ ...identity, member: { ...identity.member, notAfterMs: 2e12 } })[key]! });
  for (const name of ['us-east', 'eu', 'asia']) {
    etcd.allow(name, { read: [keys.setPrefix, keys.publicPrefix, keys.readerPrefix(name)], write: [] });
  }
  etcd.allow('us-west', { read: [keys.root], write: [prefix, east, eu] });
  await clock.advance(10);
});

afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

describe('what is for one reader', () => {
  it('is read by that reader alone, beside what is for all, and goes there alone', async () => {
    const { publisher } = writer();
    const readers = { east: reader('us-east', 10), eu: reader('eu', 20), asia: reader('asia', 30) };
    publisher.publish(new Map(Object.entries(serviceBytes('open'))));
    publisher.publish(forReader('us-east', 'a', 'both'));
    publisher.publish(forReader('eu', 'both'));
    publisher.lead();
    await clock.advance(50);
    expect(services(readers.east)).toEqual(['shop/a', 'shop/both', 'shop/open']);
    expect(services(readers.eu)).toEqual(['shop/both', 'shop/open']);
    expect(services(readers.asia)).toEqual(['shop/open']);
    expect(publisher.stands('to/eu/services/shop/both')).toBe(true);
    publisher.publish(new Map([['to/eu/services/shop/both', undefined]]));
    await clock.advance(50);
    expect([services(readers.eu), services(readers.east)]).toEqual([
      ['shop/open'],
      ['shop/a', 'shop/both', 'shop/open'],
    ]);
    expect([stored(eu), stored(east)]).toEqual([[], ['salt', 'services/shop/a', 'services/shop/both']]);
    for (const of of Object.values(readers)) expect(of.members.get('us-west')?.problems).toEqual([]);
  });

  it('is missed when the store withholds it, from the first moment on', async () => {
    const { publisher } = writer();
    publisher.publish(forReader('us-east', 'a', 'b'));
    publisher.lead();
    await clock.advance(20);
    root({}, [`${east}services/shop/b`]);
    const late = reader('us-east', 10);
    const times = () => ({ nowMs: clock.monotonicMs(), wallMs: clock.wallMs() });
    await clock.advance(4_000);
    late.tick(times());
    expect(services(late)).toEqual([]);
    expect(late.members.get('us-west')?.problems).toMatchObject([
      { code: 'manifest/root', subject: { key: 'to/us-east/us-west' } },
    ]);
    // The whole part, salt and all, makes no difference.
    root({}, [`${east}services/shop/a`, `${east}salt`]);
    await clock.advance(1_000);
    late.tick(times());
    expect(late.members.get('us-west')?.problems.map(({ code }) => code)).toEqual(['manifest/root']);
  });

  it('keeps its last good records when some are changed or planted, and takes none that no manifest names', async () => {
    const { publisher } = writer();
    const east1 = reader('us-east', 10);
    publisher.publish(forReader('us-east', 'a'));
    publisher.lead();
    await clock.advance(50);
    root({ [`${east}services/shop/planted`]: serviceBytes('planted')['services/shop/planted']! });
    const asia = keys.partPrefix('asia', 'us-west');
    root({ [`${asia}services/shop/planted`]: serviceBytes('planted')['services/shop/planted']! });
    const asia1 = reader('asia', 20);
    await clock.advance(4_000);
    const times = { nowMs: clock.monotonicMs(), wallMs: clock.wallMs() };
    for (const of of [east1, asia1]) of.tick(times);
    expect([services(east1), services(asia1)]).toEqual([['shop/a'], []]);
    expect(east1.members.get('us-west')?.problems.map(({ code }) => code)).toEqual(['manifest/root']);
    expect(asia1.members.get('us-west')?.problems.map(({ code }) => code)).toEqual(['record/uncovered']);
  });

  it('has a root that says nothing to those who may not read it', async () => {
    const { publisher } = writer();
    publisher.publish(forReader('us-east', 'both'));
    publisher.publish(forReader('eu', 'both'));
    publisher.lead();
    await clock.advance(20);
    const bytes = etcd.snapshot('root', keys.readers('us-west')).entries[0]!.value;
    const record = codec.readers.decode(bytes);
    const roots = record.ok ? record.value.parts.map(({ root }) => Buffer.from(root).toString('hex')) : [];
    // The same records, and two roots.
    expect(new Set(roots).size).toBe(2);
  });

  it('survives a restart of its reader with the store dark', async () => {
    const { publisher } = writer();
    const before = reader('us-east', 10);
    publisher.publish(new Map(Object.entries(serviceBytes('open'))));
    publisher.publish(forReader('us-east', 'a'));
    publisher.lead();
    await clock.advance(50);
    const times = { nowMs: clock.monotonicMs(), wallMs: clock.wallMs() };
    const after = federation({ self: 'us-east' });
    expect(after.restore(Buffer.concat([...before.save(times)]), times).ok).toBe(true);
    expect(services(after)).toEqual(['shop/a', 'shop/open']);
    // And what the store says then is compared with it.
    for (const part of [keys.publicPrefix, keys.readerPrefix('us-east')]) {
      after.snapshot(etcd.snapshot('root', part), times, part);
    }
    expect([services(after), after.members.get('us-west')?.problems]).toEqual([['shop/a', 'shop/open'], []]);
  });
});

describe('a part that the store does not let its writer write', () => {
  it('is left out and said; all else goes on; it follows when the right is there', async () => {
    etcd.allow('us-west', { read: [keys.root], write: [prefix, east] });
    const { publisher, events } = writer();
    const readers = { east: reader('us-east', 10), eu: reader('eu', 20) };
    publisher.publish(new Map(Object.entries(serviceBytes('open'))));
    publisher.publish(forReader('us-east', 'a'));
    publisher.publish(forReader('eu', 'a'));
    publisher.lead();
    await clock.advance(50);
    expect(publisher.state).toBe('leading');
    expect(services(readers.east)).toEqual(['shop/a', 'shop/open']);
    expect(services(readers.eu)).toEqual(['shop/open']);
    expect([...publisher.denied.keys()]).toEqual(['eu']);
    expect(events.filter(({ kind }) => kind === 'denied')).toMatchObject([{ reader: 'eu' }]);
    expect(readers.eu.members.get('us-west')?.problems).toEqual([]);
    etcd.allow('us-west', { read: [keys.root], write: [prefix, east, eu] });
    publisher.recheck();
    await clock.advance(50);
    expect([services(readers.eu), publisher.denied.size]).toEqual([['shop/a', 'shop/open'], 0]);
  });

  it('comes back for the reader although nothing of it was written anew', async () => {
    const { publisher } = writer();
    const eu1 = reader('eu', 10);
    publisher.publish(forReader('eu', 'a'));
    publisher.lead();
    await clock.advance(50);
    // The right to read it is lost for a while: what stands there is not known.
    etcd.allow('us-west', { read: [keys.publicPrefix], write: [prefix, east] });
    publisher.resign();
    publisher.lead();
    await clock.advance(50);
    expect([services(eu1), [...publisher.denied.keys()]]).toEqual([[], ['eu']]);
    etcd.allow('us-west', { read: [keys.root], write: [prefix, east, eu] });
    publisher.recheck();
    await clock.advance(50);
    expect(services(eu1)).toEqual(['shop/a']);
  });

  it('is cleared of what an earlier life left there', async () => {
    root({ [`${eu}services/shop/old`]: serviceBytes('old')['services/shop/old']! });
    const { publisher } = writer();
    const eu1 = reader('eu', 10);
    publisher.lead();
    await clock.advance(50);
    publisher.publish(forReader('eu', 'a'));
    await clock.advance(50);
    expect(services(eu1)).toEqual(['shop/a']);
    expect(stored(eu)).toEqual(['salt', 'services/shop/a']);
  });
});
