/** Members with an etcd of their own beside a shared one: whose word is taken from where. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Records } from '../../../src/controller/records.ts';
import type { Store } from '../../../src/core/store.ts';
import { openMetrics } from '../../../src/ops/metrics.ts';
import { Publisher } from '../../../src/store/publisher.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';
import { SimEtcd, simStore } from '../../sim/store.ts';
import { keys, membershipOf, serviceBytes } from '../federation/author.ts';
import { authority, testMember } from '../trust/certificates.ts';

const identities = { west: await testMember('us-west'), central: await testMember('eu-central') };

let clock: SimClock;
let shared: SimEtcd;
let wests: SimEtcd;
let records: Records;
const open: { close(): unknown }[] = [];
let seed = 1;

const handle = (etcd: SimEtcd, user: string): Store => {
  const made = simStore(etcd, { clock, rng: seededRng(seed++), user });
  open.push(made);
  return made;
};
const writer = (identity: typeof identities.west, etcd: SimEtcd): Publisher => {
  const { name } = identity.member;
  const publisher = new Publisher({
    ...{ store: handle(etcd, name), clock, clusterset: 'demo', member: name, recordKey: identity.recordKey },
    ...{ heartbeatMs: 1_000, epochFloor: () => 0n },
  });
  open.push(publisher);
  publisher.lead();
  return publisher;
};
const put = (etcd: SimEtcd, changes: Record<string, Uint8Array>) =>
  etcd.commit('root', {
    compare: [],
    puts: Object.entries(changes).map(([key, value]) => ({ key, value })),
    deletes: [],
  });
const services = (name: string) => [...(records.members.get(name)?.services.keys() ?? [])].sort();
const problems = (name: string) => records.members.get(name)?.problems.map(({ code }) => code);
const named = (prefix: string, name: string) =>
  new Map(Object.entries(serviceBytes(name)).map(([key, bytes]): [string, Uint8Array] => [prefix + key, bytes]));

beforeEach(async () => {
  clock = new SimClock();
  [shared, wests] = [new SimEtcd(), new SimEtcd()];
  for (const identity of Object.values(identities)) {
    const key = keys.member(identity.member.name);
    const lasting = { ...identity, member: { ...identity.member, notAfterMs: 2e12 } };
    put(shared, { [key]: membershipOf(lasting)[key]! });
  }
  records = new Records({
    federation: { clusterset: 'demo', self: 'us-east', trustDomain: 'corp.example', authorityKey: authority.publicKey },
    store: handle(shared, 'root'),
    apart: new Map([['us-west', handle(wests, 'us-east')]]),
    ...{ clock, log: () => {}, metrics: openMetrics('test'), onChange: () => {} },
  });
  open.push(records);
  // What `isthmus store init` sets up.
  const [all, ours] = [keys.memberPrefix('us-west'), keys.partPrefix('us-east', 'us-west')];
  wests.allow('us-west', { read: [keys.setPrefix, keys.publicPrefix, ours], write: [all, ours] });
  wests.allow('us-east', { read: [all, ours], write: [] });
});
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

describe('a member with an etcd of its own', () => {
  it('writes there alone, and is read there, for all and for us; the others as before', async () => {
    records.start();
    const west = writer(identities.west, wests);
    const central = writer(identities.central, shared);
    west.publish(named('', 'open'));
    west.publish(named('to/us-east/', 'secret'));
    central.publish(named('', 'plain'));
    await clock.advance(100);
    expect([services('us-west'), services('eu-central')]).toEqual([['shop/open', 'shop/secret'], ['shop/plain']]);
    expect(shared.snapshot('root', keys.memberPrefix('us-west')).entries).toEqual([]);
    west.publish(new Map([['to/us-east/services/shop/secret', undefined]]));
    await clock.advance(100);
    expect(services('us-west')).toEqual(['shop/open']);
  });

  it('is not believed from the shared one, whatever that holds; nor are others from its own', async () => {
    records.start();
    writer(identities.west, wests).publish(named('', 'open'));
    writer(identities.central, shared).publish(named('', 'plain'));
    await clock.advance(100);
    const planted = serviceBytes('planted')['services/shop/planted']!;
    put(shared, { [keys.service('us-west', 'shop', 'planted')]: planted, [keys.manifest('us-west')]: planted });
    put(wests, { [keys.service('eu-central', 'shop', 'planted')]: planted, [keys.policy]: planted });
    await clock.advance(5_000);
    expect([services('us-west'), services('eu-central')]).toEqual([['shop/open'], ['shop/plain']]);
    expect([problems('us-west'), problems('eu-central'), records.problems]).toEqual([[], [], []]);
  });

  it('stays at its last good state when its etcd is dark, and nobody else does; and the other way round', async () => {
    records.start();
    const west = writer(identities.west, wests);
    const central = writer(identities.central, shared);
    west.publish(named('', 'open'));
    central.publish(named('', 'plain'));
    await clock.advance(100);
    wests.state = 'stopped';
    central.publish(named('', 'more'));
    await clock.advance(2_000);
    expect([services('us-west'), services('eu-central')]).toEqual([['shop/open'], ['shop/more', 'shop/plain']]);
    wests.state = 'up';
    shared.state = 'stopped';
    west.publish(named('', 'more'));
    await clock.advance(20_000);
    expect([services('us-west'), services('eu-central')]).toEqual([
      ['shop/more', 'shop/open'],
      ['shop/more', 'shop/plain'],
    ]);
  });
});
