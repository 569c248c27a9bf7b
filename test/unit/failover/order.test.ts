import { describe, expect, it } from 'vitest';
import { classOf } from '../../../src/failover/classes.ts';
import { orderSteps } from '../../../src/failover/order.ts';
import type { RemotePlan } from '../../../src/failover/plan.ts';
import { defaultPolicies, defaultPolicy } from '../../../src/failover/policy.ts';
import { initialState, step } from '../../../src/failover/step.ts';
import { mergeService } from '../../../src/federation/merge.ts';
import type { MemberView } from '../../../src/federation/view.ts';
import type { ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { noSignals } from '../../../src/health/signals.ts';
import { localService } from '../federation/local.ts';
import { someService } from '../records/arbitrary.ts';
import { memberOf, memberView } from './set.ts';

interface Peer {
  readonly region?: string;
  readonly ready?: number;
  readonly total?: number;
  /** One entry a gateway: whether it drains. */
  readonly gateways?: readonly boolean[];
  readonly record?: Partial<ServiceRecord>;
}

const setup = (peers: Record<string, Peer>) => {
  const members = new Map<string, MemberView>();
  const remotes = new Map<string, ServiceRecord>();
  for (const [name, { region = name, ready = 1, total = ready, gateways = [false], record }] of Object.entries(peers)) {
    members.set(name, memberView(name, region, gateways));
    remotes.set(name, someService({ capacity: [{ $typeName: 'isthmus.v1.Capacity', ready, total }], ...record }));
  }
  return { members, remotes };
};

const self = memberOf('us-east-1', 'us-east');
const key = 'shop/checkout';

/** Of a set of which nothing but its records is known. */
const planned = (
  { members, remotes }: ReturnType<typeof setup>,
  ports: readonly number[] = [80],
  order: readonly string[] = [],
): RemotePlan => {
  const local = localService({ ports: ports.map((port) => ({ name: `p${port}`, port, protocol: 'TCP' })) });
  const service = mergeService(key, local, remotes, { self: self.name, clusterDomain: 'cluster.local' })!;
  const view = {
    self: self.name,
    members: new Map([
      [self.name, setup({ [self.name]: { region: self.region } }).members.get(self.name)!],
      ...members,
    ]),
    services: new Map([[key, service]]),
  };
  const policies = { ...defaultPolicies, default: { ...defaultPolicy, order: orderSteps(order) } };
  return step(initialState(), view, noSignals, policies, 1_000_000, () => 0.5).plan.services.get(key)!;
};
const plan = (peers: Record<string, Peer>, order?: readonly string[]) => planned(setup(peers), [80], order);
const shape = ({ tiers }: RemotePlan): string =>
  tiers.map((cells) => cells.map(({ member: name, weight }) => `${name}=${weight}`).join(' ')).join(' > ');

describe('the order of remote cells', () => {
  it('is own region, configured order, then regions by name', () => {
    const peers = {
      'us-west': {},
      'us-east-2': { region: 'us-east', ready: 3 },
      'eu-central': {},
      'ap-1': { region: 'ap', ready: 2 },
      'ap-2': { region: 'ap', ready: 4 },
    };
    expect(shape(plan(peers))).toBe('us-east-2=3 > ap-1=2 ap-2=4 > eu-central=1 > us-west=1');
    expect(shape(plan(peers, ['us-west', 'ap-2']))).toBe('us-east-2=3 > us-west=1 > ap-2=4 > ap-1=2 > eu-central=1');
    expect(shape(plan(peers, ['eu-central', 'ap']))).toBe('us-east-2=3 > eu-central=1 > ap-1=2 ap-2=4 > us-west=1');
  });

  it('leaves out who has nothing ready, unless nobody has', () => {
    const some = plan({ a: { ready: 0, total: 3 }, b: { ready: 1 } });
    expect([shape(some), some.usable]).toEqual(['b=1', true]);
    const none = plan({ a: { ready: 0, total: 3 }, b: { ready: 0 } });
    expect([shape(none), none.usable]).toEqual(['a=3 > b=1', false]);
  });

  it('leaves out who has no gateway or drains all of them, unless it is the last', () => {
    expect(shape(plan({ a: { gateways: [] }, b: {} }))).toBe('b=1');
    expect(shape(plan({ a: { gateways: [true, true] }, b: {} }))).toBe('b=1');
    expect(shape(plan({ a: { gateways: [true, false] }, b: {} }))).toBe('a=1 > b=1');
    const draining = plan({ a: { gateways: [true] }, b: { ready: 0 } });
    expect([shape(draining), draining.usable]).toEqual(['a=1', true]);
    const nothing = plan({ a: { gateways: [] } });
    expect([shape(nothing), nothing.usable]).toEqual(['a=1', false]);
  });

  it('leaves out who does not have the port', () => {
    const grpc = {
      ports: [{ $typeName: 'isthmus.v1.ServicePort' as const, name: 'grpc', port: 9090, protocol: 'TCP' }],
    };
    const made = planned(setup({ a: {}, b: { record: grpc } }), [80, 9090]);
    expect(shape({ ...made, tiers: made.ports!.get(9090)! })).toBe('b=1');
    expect(shape({ ...made, tiers: made.ports!.get(80)! })).toBe('a=1');
    expect(shape(made)).toBe('a=1 > b=1');
  });

  it('has a plan of its own for a port that not all exporters have', () => {
    const tcp = (name: string, port: number, protocol = 'TCP') => ({
      $typeName: 'isthmus.v1.ServicePort' as const,
      name,
      port,
      protocol,
    });
    const set = setup({
      a: { record: { ports: [tcp('http', 80), tcp('dns', 53, 'UDP')] } },
      b: { record: { ports: [tcp('http', 80), tcp('dns', 53)] } },
      c: { ready: 0, record: { ports: [tcp('grpc', 9090)] } },
    });
    const some = planned(set, [80, 53, 9090, 5000]);
    expect(shape(some)).toBe('a=1 > b=1');
    const ports = [...some.ports!].map(([port, tiers]) => `${port}: ${shape({ ...some, tiers })}`);
    expect(ports).toEqual(['80: a=1 > b=1', '53: b=1', '9090: c=1', '5000: ']);
  });

  it('has one plan for all ports when all exporters have them', () => {
    expect(plan({ a: {}, b: {} }).ports).toBeUndefined();
  });

  it('has no cells for a service without a data path', () => {
    expect(plan({ a: { record: { headless: true } }, b: { record: { sessionAffinity: true } } })).toBeUndefined();
    expect(shape(plan({ a: { record: { exportedMs: 0n, headless: true } }, b: {} }))).toBe('b=1');
  });
});

describe('classes', () => {
  const of = (...tiers: [string, number][][]): RemotePlan => ({
    key: 'shop/checkout',
    tiers: tiers.map((cells) => cells.map(([name, weight]) => ({ member: name, weight }))),
    usable: true,
  });
  const policy = {
    consecutive5xxErrors: 7,
    consecutiveGatewayErrors: undefined,
    intervalMs: undefined,
    baseEjectionTimeMs: undefined,
    maxEjectionPercent: undefined,
    maxConnections: undefined,
  };

  it('are shared by services that go to the same places, and named readably', () => {
    expect(classOf(of([['us-west', 3]], [['eu-central', 9]]), undefined).name).toBe('us-west>eu-central');
    expect(classOf(of([['us-west', 30]], [['eu-central', 1]]), undefined).name).toBe('us-west>eu-central');
    expect(
      classOf(
        of([
          ['a', 4],
          ['b', 5],
        ]),
        undefined,
      ).name,
    ).toBe('a+b');
    expect(
      classOf(
        of([
          ['a', 2],
          ['b', 8],
        ]),
        undefined,
      ).name,
    ).toBe('a*16+b*64');
    expect(
      classOf(
        of([
          ['a', 1],
          ['b', 1000],
        ]),
        undefined,
      ).name,
    ).toBe('a+b*64');
    expect(classOf(of(), undefined).name).toBe('nowhere');
  });

  it('differ by traffic policy, and stay bounded in length', () => {
    const name = classOf(of([['a', 1]]), policy).name;
    expect(name).toMatch(/^a~[0-9a-f]{8}$/);
    expect(classOf(of([['a', 1]]), { ...policy, consecutive5xxErrors: 8 }).name).not.toBe(name);
    expect(classOf(of([['a', 1]]), { ...policy, consecutive5xxErrors: undefined }).name).toBe('a');
    const long = (last: string) =>
      classOf(of(...[...Array(60).keys(), last].map((n) => [[`member-${n}`, 1] as [string, number]])), undefined);
    expect(long('x').name.length).toBeLessThanOrEqual(120);
    expect(long('x').name).not.toBe(long('y').name);
  });
});
