/** What members decide, through the store: grants, votes, verdicts with the writer's state, and the cluster set's policy. */
import { beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { Exports } from '../../../src/federation/exports.ts';
import type { Federation } from '../../../src/federation/federation.ts';
import { shippedState } from '../../../src/federation/view.ts';
import { signSetPolicy } from '../../../src/records/set_policy.ts';
import { authority, testMember } from '../trust/certificates.ts';
import { Author, federation, keys, membershipOf, Shelf, serviceBytes, times } from './author.ts';
import { endpoint, localCluster, localPod, localService } from './local.ts';

const east = await testMember('us-east', { region: 'us-east', addressRanges: ['10.1.0.0/16'] });
const west = await testMember('us-west', { region: 'us-west', addressRanges: ['10.2.0.0/16'] });
let shelf: Shelf;
let fed: Federation;
let author: Author;

const publish = (who: Author, changes: Record<string, Uint8Array | undefined>) =>
  fed.events(shelf.write(who.tick(changes)), times());
const desired = (exports: Exports): Record<string, Uint8Array | undefined> => Object.fromEntries(exports.take());
const fresh = () => new Exports({ clusterDomain: 'cluster.local' });
const must = (result: { ok: boolean; error?: Error }) => {
  if (!result.ok) throw result.error;
};

beforeEach(() => {
  shelf = new Shelf();
  fed = federation();
  fed.events(shelf.write({ ...membershipOf(east), ...membershipOf(west) }), times());
  author = new Author(west);
});

describe('grants', () => {
  it('reach the reader that they are for, and no other', () => {
    const exports = fresh();
    must(
      exports.setGrants([
        { reader: 'us-east', service: 'shop/pay', perSecond: 40 },
        { reader: 'us-east', service: '*', perSecond: 5.7 },
        { reader: 'eu-west', service: '*', perSecond: 7 },
      ]),
    );
    const change = publish(author, desired(exports));
    expect([...change.signals]).toEqual(['us-west']);
    expect([...change.members]).toEqual([]);
    const { grants, problems } = fed.members.get('us-west')!;
    expect(grants?.grants.map(({ service, perSecond }) => [service, perSecond])).toEqual([
      ['*', 5],
      ['shop/pay', 40],
    ]);
    expect(problems).toEqual([]);
  });

  it('are withdrawn for who is granted nothing more, and unchanged ones are not written again', () => {
    const exports = fresh();
    const ours = { reader: 'us-east', service: '*', perSecond: 5 };
    must(exports.setGrants([ours, { reader: 'eu-west', service: '*', perSecond: 7 }]));
    publish(author, desired(exports));
    must(exports.setGrants([ours]));
    expect([...exports.take()]).toEqual([['grants/eu-west', undefined]]);
    must(exports.setGrants([{ ...ours, perSecond: Number.POSITIVE_INFINITY }]));
    publish(author, desired(exports));
    expect(fed.members.get('us-west')?.grants?.grants[0]?.perSecond).toBe(limits.capacityPerSecondMax);
    must(exports.setGrants([]));
    publish(author, desired(exports));
    expect(fed.members.get('us-west')?.grants).toBeUndefined();
  });

  it('under a key that they are not for are refused, and the last good ones stay', () => {
    const exports = fresh();
    must(exports.setGrants([{ reader: 'us-east', service: '*', perSecond: 5 }]));
    publish(author, desired(exports));
    must(exports.setGrants([{ reader: 'eu-west', service: '*', perSecond: 900 }]));
    const stolen = exports.desired.get('grants/eu-west')!;
    publish(author, { 'grants/us-east': stolen });
    const view = fed.members.get('us-west')!;
    expect(view.grants?.grants[0]?.perSecond).toBe(5);
    expect(view.problems.map(({ message }) => message).join()).toContain('granted to eu-west');
  });
});

describe('votes', () => {
  it('count about others only: a vote about the own region is left out, and told', () => {
    const exports = fresh();
    must(exports.setVotes(['us-west', 'us-east', 'us-east']));
    publish(author, desired(exports));
    const view = fed.members.get('us-west')!;
    expect(view.votes?.accused).toEqual(['us-east']);
    expect(view.problems.map(({ message }) => message).join()).toContain('accuses its own region us-west');
    must(exports.setVotes([]));
    const change = publish(author, desired(exports));
    expect([...change.signals]).toEqual(['us-west']);
    expect(fed.members.get('us-west')?.votes).toBeUndefined();
    expect(fed.members.get('us-west')?.problems).toEqual([]);
  });

  it('beyond the bound are not published', () => {
    const exports = fresh();
    const many = Array.from({ length: limits.votesMax + 1 }, (_, i) => `r${i}`);
    expect(exports.setVotes(many)).toMatchObject({ ok: false, error: { code: 'record/malformed' } });
    expect(exports.take().size).toBe(0);
  });
});

describe('verdicts', () => {
  const state = Uint8Array.from({ length: limits.statePartBytesMax + 9 }, (_, i) => i % 256);
  const decided = {
    summary: [
      { service: 'shop/pay', member: 'us-west', state: 'quarantined', reason: 'ProbeFailed' },
      { service: undefined, member: 'eu-west', state: 'suspect', reason: 'ControlSilent' },
    ],
    frozen: false,
    state,
    atMs: 12.5,
    wallMs: 5_000,
  };

  it('bring the state to our own replicas, and to nobody else', () => {
    const exports = fresh();
    must(exports.setVerdicts(decided));
    const records = desired(exports);
    expect(Object.keys(records).sort()).toEqual(['verdicts', 'verdicts/0', 'verdicts/1']);
    publish(new Author(east), records);
    publish(author, records);
    const own = shippedState(fed.members.get('us-east')!);
    expect(own.ok && own.value !== undefined && Buffer.compare(own.value, state) === 0).toBe(true);
    const others = fed.members.get('us-west')!;
    expect(others.verdicts?.summary.map(({ service, member }) => `${service}@${member}`)).toEqual([
      '@eu-west',
      'shop/pay@us-west',
    ]);
    expect(others.stateParts?.size).toBe(0);
    expect(others.problems).toEqual([]);
  });

  it('are news when they differ, not when time has passed; a smaller state leaves no part behind', () => {
    const exports = fresh();
    must(exports.setVerdicts(decided));
    const self = new Author(east);
    publish(self, desired(exports));
    must(exports.setVerdicts({ ...decided, atMs: 99, wallMs: 6_000 }));
    expect(exports.take().size).toBe(0);
    must(exports.setVerdicts({ ...decided, state: state.subarray(0, 10) }));
    publish(self, desired(exports));
    const now = shippedState(fed.members.get('us-east')!);
    expect(now.ok && now.value?.length).toBe(10);
    expect(fed.members.get('us-east')?.stateParts?.size).toBe(1);
    must(exports.setVerdicts({ ...decided, state: undefined }));
    publish(self, desired(exports));
    expect(shippedState(fed.members.get('us-east')!)).toEqual({ ok: true, value: undefined });
  });

  it('too large to ship are refused, and those before stay', () => {
    const exports = fresh();
    must(exports.setVerdicts(decided));
    exports.take();
    const huge = { ...decided, state: new Uint8Array(2 * 1024 * 1024) };
    expect(exports.setVerdicts(huge)).toMatchObject({ ok: false, error: { code: 'record/too-large' } });
    expect(exports.take().size).toBe(0);
  });

  it('come back from the saved state, for a replica that starts with the store dark', () => {
    const exports = fresh();
    must(exports.setVerdicts(decided));
    publish(new Author(east), desired(exports));
    const saved = Buffer.concat([...fed.save(times())]);
    const again = federation();
    expect(again.restore(saved, times()).ok).toBe(true);
    const own = shippedState(again.members.get('us-east')!);
    expect(own.ok && own.value?.length).toBe(state.length);
  });
});

describe('draining', () => {
  const service = localService({ endpoints: [endpoint('a')] });
  const local = localCluster([service], [localPod('a')]);
  const setUp = () => {
    const exports = fresh();
    exports.update(local, { services: ['shop/checkout'], pods: [] });
    const gateway = { address: '10.2.0.5', federationPort: 15028, hbonePort: 15008, draining: false };
    must(exports.setGateways([{ ...gateway, id: 'g0', locality: undefined }], 'isthmus-system/isthmus-gateway'));
    return exports;
  };
  const none = { cluster: false, gateways: new Set<string>(), services: new Set<string>() };

  it('of a service, a gateway or the cluster is told by one record each, and taken back', () => {
    const exports = setUp();
    publish(author, desired(exports));
    const told = (draining: Parameters<Exports['setDraining']>[0]) => {
      must(exports.setDraining(draining, local));
      const records = desired(exports);
      publish(author, records);
      const view = fed.members.get('us-west')!;
      return {
        records: Object.keys(records),
        service: view.services.get('shop/checkout')?.draining ?? false,
        gateway: view.gateways?.gateways[0]?.draining,
        cluster: view.gateways?.draining ?? false,
      };
    };
    expect(told({ ...none, services: new Set(['shop/checkout']) })).toEqual({
      records: ['services/shop/checkout'],
      service: true,
      gateway: false,
      cluster: false,
    });
    expect(told({ ...none, gateways: new Set(['g0']) })).toMatchObject({ service: false, gateway: true });
    expect(told({ ...none, cluster: true })).toEqual({
      records: ['gateways'],
      service: false,
      gateway: false,
      cluster: true,
    });
    expect(told(none)).toMatchObject({ service: false, gateway: false, cluster: false });
  });
});

describe('declared capacity', () => {
  const exported = (text: string) => {
    const exports = fresh();
    const service = localService({ annotations: { 'isthmus.dev/capacity': text }, endpoints: [endpoint('a')] });
    exports.update(localCluster([service], [localPod('a')]), { services: ['shop/checkout'], pods: [] });
    publish(author, desired(exports));
    return { record: fed.members.get('us-west')?.services.get('shop/checkout'), problems: exports.problems };
  };
  it('goes with the service', () => {
    expect(exported('50/s').record?.declaredCapacityPerSecond).toBe(50);
    expect(exported(' 7/s ').record?.declaredCapacityPerSecond).toBe(7);
  });
  it.each(['50', '0/s', '-1/s', '1.5/s', '50/m', '2000000/s', '', 'x'.repeat(500)])(
    'that is malformed (case %#) is a problem told with its value, and the export goes on without',
    (text) => {
      const { record, problems } = exported(text);
      expect(record).toBeDefined();
      expect(record?.declaredCapacityPerSecond).toBeUndefined();
      const problem = problems.get('shop/checkout')!;
      expect(problem.code).toBe('service/capacity');
      expect(problem.message).toMatch(/isthmus\.dev\/capacity.*"50\/s"/);
      expect(problem.message.length).toBeLessThan(400);
    },
  );
});

describe('the cluster set’s policy', () => {
  const signed = (sequence: bigint, spec: Record<string, unknown>, key = authority.privateKey) => {
    const bytes = signSetPolicy({ clusterset: 'demo', sequence, spec }, key);
    if (!bytes.ok) throw bytes.error;
    return { [keys.policy]: bytes.value };
  };
  it('is in force from the authority’s word on, and told once', () => {
    expect(fed.policySpec).toBeUndefined();
    expect(fed.events(shelf.write(signed(1n, { mode: 'observe' })), times()).policy).toBe(true);
    expect(fed.policySpec).toEqual({ mode: 'observe' });
    expect(fed.snapshot(shelf.snapshot(), times()).policy).toBe(false);
    expect(fed.problems).toEqual([]);
  });
  it('stays when it is deleted, forged or set back, and says so', () => {
    fed.events(shelf.write(signed(5n, { mode: 'observe' })), times());
    const spoilt: [Record<string, Uint8Array | undefined>, string][] = [
      [{ [keys.policy]: undefined }, 'gone from the store'],
      [signed(9n, { mode: 'act' }, west.recordKey), 'not signed by its authority'],
      [signed(4n, { mode: 'act' }), 'is older'],
      [{ [keys.policy]: new Uint8Array(200_000) }, 'bytes'],
    ];
    for (const [change, message] of spoilt) {
      expect(fed.events(shelf.write(change), times()).policy).toBe(false);
      expect(fed.policySpec).toEqual({ mode: 'observe' });
      expect(fed.problems.map((p) => p.message).join()).toContain(message);
    }
    expect(fed.events(shelf.write(signed(6n, {})), times()).policy).toBe(true);
    expect(fed.policySpec).toEqual({});
    expect(fed.problems).toEqual([]);
  });
  it('is saved with its number, so that a restart in the dark keeps it and an older one stays refused', () => {
    fed.events(shelf.write(signed(5n, { mode: 'observe' })), times());
    publish(author, serviceBytes());
    const again = federation();
    const restored = again.restore(Buffer.concat([...fed.save(times())]), times());
    expect(restored).toMatchObject({ ok: true, value: { policy: true } });
    expect(again.policySpec).toEqual({ mode: 'observe' });
    expect(again.members.get('us-west')?.services.size).toBe(1);
    again.events(shelf.write(signed(4n, {})), times());
    expect(again.policySpec).toEqual({ mode: 'observe' });
  });
});
