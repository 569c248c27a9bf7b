/** A cluster set of five as us-east sees it, to explain and to rehearse on: builders with defaults, one thing to change about each. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { ExplainInput } from '../../../src/controller/explaining.ts';
import type { CellStanding, Plan, ServicePlan } from '../../../src/failover/plan.ts';
import { noPlan } from '../../../src/failover/plan.ts';
import { defaultPolicies } from '../../../src/failover/policy.ts';
import type { MemberView, ServiceView, View } from '../../../src/federation/view.ts';
import {
  GatewaysRecordSchema,
  type ServiceRecord,
  ServiceRecordSchema,
  VantageRecordSchema,
} from '../../../src/gen/isthmus/v1/records_pb.ts';
import type { Verdicts } from '../../../src/health/verdict.ts';
import { undecided } from '../failover/undecided.ts';
import { endpoint, localService } from '../federation/local.ts';

export const nowMs = 10_000_000;
export const wallMs = Date.UTC(2026, 10, 21, 14, 32, 10);

const regions: Record<string, string> = {
  'us-east': 'us',
  'us-west': 'us',
  'eu-central': 'eu',
  'eu-north': 'eu',
  'ap-south': 'ap',
};

export const memberView = (name: string, over: Partial<MemberView> = {}): MemberView =>
  ({
    member: {
      clusterset: 'prod',
      name,
      sequence: 1n,
      region: regions[name] ?? name,
      zone: `${name}-a`,
      network: name,
      addressRanges: ['10.0.0.0/8'],
      namespaces: ['shop'],
      serviceAccounts: [],
      federationCa: new Uint8Array([0x30]),
      recordKey: new Uint8Array(32),
      notBeforeMs: 0,
      notAfterMs: 4_102_444_800_000,
    },
    head: { epoch: 3n, sequence: 41n },
    freshAtMs: nowMs - 400,
    shuttingDown: false,
    gateways: create(GatewaysRecordSchema, {
      gateways: ['0', '1'].map((n) => ({
        id: `${name}-gateway-${n}`,
        address: `10.1.0.${n}`,
        federationPort: 15028,
        hbonePort: 15008,
      })),
    }),
    trust: undefined,
    vantage: create(VantageRecordSchema, { peers: [] }),
    votes: [],
    grants: new Map(),
    verdicts: undefined,
    services: new Map(),
    problems: [],
    ...over,
  }) as MemberView;

export const record = (
  ready: number,
  total: number,
  over: MessageInitShape<typeof ServiceRecordSchema> = {},
): ServiceRecord =>
  create(ServiceRecordSchema, {
    namespace: 'shop',
    name: 'checkout',
    capacity: [{ locality: { region: '', zone: '', subzone: '' }, ready, total }],
    ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
    ...over,
  });

/** `shop/checkout`: local endpoints, and `[ready, total]` of each remote. */
export const serviceView = (
  local: readonly [number, number] | undefined,
  remotes: Readonly<Record<string, readonly [number, number]>>,
  name = 'checkout',
): ServiceView => ({
  key: `shop/${name}`,
  namespace: 'shop',
  name,
  hostname: `${name}.shop.svc.cluster.local`,
  local:
    local === undefined
      ? undefined
      : localService({
          key: `shop/${name}`,
          name,
          endpoints: Array.from({ length: local[1] }, (_, i) =>
            endpoint(`${name}-${i}`, { address: `10.1.1.${i}`, ready: i < local[0] }),
          ),
        }),
  remotes: new Map(Object.entries(remotes).map(([member, [ready, total]]) => [member, record(ready, total, { name })])),
  ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
  mode: 'gateway',
  unsupported: undefined,
  conflicts: [],
});

export const viewOf = (services: readonly ServiceView[], members: readonly MemberView[] = []): View => {
  const all = Object.keys(regions).map((name) => memberView(name));
  const services_ = new Map(services.map((service) => [service.key, service]));
  const found = [...all, ...members].map((m): [string, MemberView] => {
    const name = m.member.name;
    const own = services.flatMap((s): [string, ServiceRecord][] =>
      s.remotes.has(name) ? [[s.key, s.remotes.get(name)!]] : [],
    );
    return [name, m.services.size > 0 ? m : { ...m, services: new Map(own) }];
  });
  return { self: 'us-east', members: new Map(found), services: services_ };
};

export const standing = (member: string, over: Partial<CellStanding> = {}): CellStanding => ({
  member,
  state: 'fresh',
  reason: 'Healthy',
  detail: '',
  sinceMs: nowMs - 3 * 3_600_000,
  deadlineMs: undefined,
  tier: undefined,
  percent: 100,
  ready: 3,
  total: 3,
  ...over,
});

export const planOf = (
  standings: readonly CellStanding[],
  tiers: ServicePlan['tiers'],
  over: Partial<ServicePlan> = {},
): ServicePlan => ({ ...undecided, key: 'shop/checkout', tiers, usable: true, standings, ...over });

export const noVerdicts: Verdicts = { members: new Map(), cells: new Map(), regions: new Map() };

export const planFor = (plans: readonly ServicePlan[]): Plan => ({
  ...noPlan,
  services: new Map(plans.map((plan) => [plan.key, plan])),
});

export const explainInput = (
  view: View,
  plans: readonly ServicePlan[],
  over: Partial<ExplainInput> = {},
): ExplainInput => ({
  view,
  plan: planFor(plans),
  verdicts: noVerdicts,
  policies: defaultPolicies,
  nowMs,
  wallMs,
  deciding: true,
  frozen: undefined,
  readBackMs: 300,
  withdrawals: new Map(),
  opinions: new Map(),
  ageMs: () => 400,
  hasGraySignal: () => true,
  decisions: [],
  ...over,
});
