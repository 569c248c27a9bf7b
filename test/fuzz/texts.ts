/** Everything that reads text or JSON which somebody else wrote: objects of a cluster, commands, headers, names, policies, tokens. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readRequest } from '../../src/ca/csr.ts';
import { parseMemberSpec } from '../../src/cli/init.ts';
import { loadConfig } from '../../src/config/load.ts';
import { parseCommand, parseDrain } from '../../src/controller/commands.ts';
import { parseDuration } from '../../src/core/duration.ts';
import { hopMark, parseHops } from '../../src/core/hop.ts';
import { parseServiceKey } from '../../src/core/names.ts';
import { defaultPolicy } from '../../src/failover/policy.ts';
import { parsePolicySpec } from '../../src/failover/policy_object.ts';
import { restoreWithdrawals } from '../../src/federation/withdrawals_saved.ts';
import { readHealth } from '../../src/health/saved.ts';
import { initialHealth } from '../../src/health/state.ts';
import { decodeValue, encodeValue } from '../../src/journal/value.ts';
import { projectEgressPolicy } from '../../src/kube/egress_policies.ts';
import { projectFailoverPolicy } from '../../src/kube/failover_policies.ts';
import { isRecord, type Json } from '../../src/kube/json.ts';
import { parseSubject, parseToken } from '../../src/kube/jwt.ts';
import { createLocalState, type Kind, type Objects } from '../../src/kube/local_state.ts';
import {
  projectExport,
  projectNamespace,
  projectNode,
  projectPod,
  projectService,
  projectSlice,
} from '../../src/kube/objects.ts';
import { projectPolicy, projectRule } from '../../src/kube/policies.ts';
import { parseGraySpec } from '../../src/probe/gray_spec.ts';
import { gatewayNodeProblem, ztunnelNodeProblem } from '../../src/server/node_id.ts';
import { readSummary } from '../../src/telemetry/ejections.ts';
import { AddressRanges, addressProblem } from '../../src/trust/addresses.ts';
import { parseEgressPolicy } from '../../src/trust/egress_policy.ts';
import { parseMemberId, parseWorkloadId } from '../../src/trust/spiffe.ts';
import { makeCsr } from '../unit/ca/requests.ts';
import { joiningTexts } from './joining.ts';
import type { Target } from './target.ts';

const jwt = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
const ranges = AddressRanges.parse(['10.0.0.0/8', 'fd00::/16']);
const granted = ranges.ok ? ranges.value : undefined;
const configFile = join(mkdtempSync(join(tmpdir(), 'isthmus-fuzz-')), 'config.yaml');
const token = { namespace: 'ns', serviceAccount: 'sa', pod: { name: 'pod', uid: 'u' }, node: 'n' };

export const textTargets: readonly Target<string>[] = [
  ...joiningTexts,
  {
    name: 'hops',
    seeds: [`${hopMark('egress', { member: 'a' })}, ${hopMark('federation', { member: 'b' })}`],
    run: (t) => parseHops(t),
  },
  {
    name: 'node-ztunnel',
    seeds: ['ztunnel~10.0.0.1~pod.ns~ns.svc.cluster.local'],
    run: (t) => ztunnelNodeProblem(t, token),
  },
  {
    name: 'node-gateway',
    seeds: ['isthmus-gateway-1~0'],
    run: (t) => gatewayNodeProblem(t, (pod) => pod.startsWith('isthmus-')),
  },
  { name: 'workload-id', seeds: ['spiffe://cluster.local/ns/shop/sa/checkout'], run: parseWorkloadId },
  { name: 'member-id', seeds: ['spiffe://demo/cluster/us-west'], run: parseMemberId },
  { name: 'service-key', seeds: ['shop/checkout'], run: parseServiceKey },
  { name: 'duration', seeds: ['1h30m', '250ms'], run: parseDuration },
  {
    name: 'address',
    seeds: ['10.1.2.3', 'fd00::1', '::ffff:10.0.0.1'],
    run: (t) => addressProblem(t, granted!, undefined),
  },
  { name: 'range', seeds: ['10.1.0.0/16', 'fd00:1::/48'], run: (t) => AddressRanges.parse([t]) },
  {
    name: 'member-spec',
    seeds: ['a,region=r,network=n,range=10.0.0.0/8+fd00::/8,namespaces=x+y,zone=z'],
    run: parseMemberSpec,
  },
  {
    name: 'jwt',
    seeds: [`${jwt({ alg: 'RS256', kid: 'k' })}.${jwt({ sub: 'system:serviceaccount:a:b', exp: 1 })}.c2ln`],
    run: parseToken,
  },
  { name: 'subject', seeds: ['system:serviceaccount:shop:checkout'], run: parseSubject },
  { name: 'csr-text', seeds: [await makeCsr(['spiffe://cluster.local/ns/shop/sa/checkout'])], run: readRequest },
  {
    name: 'ejections-line',
    seeds: [JSON.stringify({ members: { a: [1, 2] }, services: { 'shop/x': { a: [0, 1] } } })],
    run: readSummary,
  },
  {
    name: 'journal-value',
    seeds: [encoded({ a: 1n, b: new Map([['x', [1, 2, 'y']]]), c: new Uint8Array(4), d: new Set(['e']) })],
    run: decodeValue,
    again: (v) => decodeValue(encoded(v)),
  },
  {
    // The operator's own file: a parser that keeps every node with its place.
    name: 'config',
    memoryPerByte: 3_000,
    slowMs: 5_000,
    seeds: [
      'clusterset: demo\nmember: a\nnetwork: n\nstore:\n  endpoints: ["https://etcd:2379"]\nlease: { ttlMs: 4000 }\n',
      'a: &a [1]\nb: *a\n',
    ],
    run: (t) => {
      writeFileSync(configFile, t);
      return loadConfig({ file: configFile, environment: {}, sets: [`memberDir=${tmpdir()}/none`] });
    },
  },
];

function encoded(value: unknown): string {
  const text = encodeValue(value);
  if (!text.ok) throw text.error;
  return text.value;
}

/** As the API server's objects become a local cluster, together with a good one of every other kind. */
const cluster = (kind: Kind, project: (object: Json) => unknown): ((object: unknown) => unknown) => {
  const options = { defaultMode: 'gateway', clusterDomain: 'cluster.local' } as const;
  return (object) => {
    if (!isRecord(object)) return undefined;
    const projected = project(object);
    if (projected === undefined) return undefined;
    const state = createLocalState(options);
    for (const [other, good] of Object.entries(goods)) {
      if (other !== kind) state.set(other as Kind, 'shop/pay', good() as Objects[Kind]);
    }
    state.set(kind, 'shop/pay', projected as Objects[Kind]);
    state.flush();
    return state.cluster.services.size;
  };
};

const metadata = {
  namespace: 'shop',
  name: 'pay',
  labels: { 'istio.io/global': 'true' },
  annotations: { 'isthmus.dev/mode': 'direct' },
};
const objects = {
  service: {
    metadata,
    spec: {
      type: 'ClusterIP',
      clusterIP: '10.96.0.1',
      ports: [{ name: 'http', port: 80, targetPort: 8080, appProtocol: 'http' }],
      selector: { app: 'pay' },
    },
    status: { conditions: [{ type: 'A', status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z' }] },
  },
  slice: {
    metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'pay' } },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    endpoints: [
      {
        addresses: ['10.1.0.1'],
        conditions: { ready: true },
        targetRef: { kind: 'Pod', name: 'pay', namespace: 'shop' },
        nodeName: 'n',
      },
    ],
  },
  pod: {
    metadata: { ...metadata, uid: 'u' },
    spec: { nodeName: 'n', serviceAccountName: 'pay' },
    status: {
      podIP: '10.1.0.1',
      podIPs: [{ ip: '10.1.0.1' }],
      phase: 'Running',
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  },
  node: {
    metadata: { name: 'n', labels: { 'topology.kubernetes.io/region': 'r', 'topology.kubernetes.io/zone': 'z' } },
  },
  namespace: { metadata: { name: 'shop', labels: { 'istio.io/dataplane-mode': 'ambient' } } },
  export: { metadata: { ...metadata, creationTimestamp: '2026-01-01T00:00:00Z' }, status: { conditions: [] } },
  rule: {
    metadata,
    spec: {
      host: 'pay.shop.svc.cluster.local',
      trafficPolicy: {
        outlierDetection: { consecutive5xxErrors: 5, interval: '10s', baseEjectionTime: '30s' },
        connectionPool: { tcp: { maxConnections: 5, connectTimeout: '1s' } },
      },
    },
  },
  policy: {
    metadata,
    spec: { services: ['pay'], order: ['us-west', 'eu'], failback: { mode: 'gradual', holdDown: '5m' } },
  },
  egress: {
    metadata: { name: 'pay', uid: 'u', generation: 2 },
    spec: {
      action: 'ALLOW',
      rules: [
        {
          from: [
            { source: { namespaces: ['shop'] } },
            { source: { principals: ['spiffe://cluster.local/ns/shop/sa/web-*'] } },
          ],
          to: [{ services: ['pay/ledger', 'bank/*'] }],
          members: ['us-west'],
        },
      ],
    },
    status: { accepted: { generation: 1, spec: { action: 'ALLOW' } } },
  },
};
const goods: Partial<Record<Kind, () => unknown>> = {
  services: () => projectService(objects.service),
  endpointslices: () => projectSlice(objects.slice),
  pods: () => projectPod(objects.pod),
  namespaces: () => projectNamespace(objects.namespace),
  serviceexports: () => projectExport(objects.export),
};

export const jsonTargets: readonly Target<unknown>[] = [
  { name: 'kube-service', seeds: [objects.service], run: cluster('services', projectService) },
  { name: 'kube-slice', seeds: [objects.slice], run: cluster('endpointslices', projectSlice) },
  { name: 'kube-pod', seeds: [objects.pod], run: cluster('pods', projectPod) },
  { name: 'kube-node', seeds: [objects.node], run: cluster('nodes', projectNode) },
  { name: 'kube-namespace', seeds: [objects.namespace], run: cluster('namespaces', projectNamespace) },
  { name: 'kube-export', seeds: [objects.export], run: cluster('serviceexports', projectExport) },
  { name: 'kube-rule', seeds: [objects.rule], run: cluster('destinationrules', projectRule) },
  { name: 'kube-egress-policy', seeds: [objects.egress], run: cluster('egresspolicies', projectEgressPolicy) },
  {
    name: 'egress-policy-spec',
    seeds: [
      objects.egress.spec,
      { action: 'LIMIT', rules: [{ from: objects.egress.spec.rules[0]!.from, connectsPerSecond: 5 }] },
    ],
    run: (v) => parseEgressPolicy('p', v, 'cluster.local'),
  },
  { name: 'kube-failover-policy', seeds: [objects.policy], run: cluster('failoverpolicies', projectFailoverPolicy) },
  {
    name: 'kube-authorization',
    seeds: [{ metadata, spec: {} }],
    run: cluster('authorizationpolicies', projectPolicy('AuthorizationPolicy')),
  },
  { name: 'policy-spec', seeds: [objects.policy.spec, {}], run: (v) => parsePolicySpec(v, defaultPolicy, 'p') },
  {
    name: 'gray',
    seeds: [
      {
        'isthmus.dev/probe-path': '/healthz',
        'isthmus.dev/probe-status': '200-299',
        'isthmus.dev/probe-slow': '1s',
        'isthmus.dev/probe-interval': '2s',
      },
    ],
    run: (v) =>
      isRecord(v) && Object.values(v).every((t) => typeof t === 'string')
        ? parseGraySpec(v as Record<string, string>)
        : undefined,
  },
  {
    name: 'command',
    seeds: [
      { kind: 'drain', target: { scope: 'service', member: 'a', service: 'shop/pay' }, author: 'kim', reason: 'why' },
      { kind: 'freeze', author: 'kim', reason: '' },
      { kind: 'failback', author: 'kim', reason: 'x', member: 'a' },
    ],
    run: (v) => parseCommand(v, 'a'),
  },
  {
    name: 'drain',
    seeds: [{ kind: 'drain', target: { scope: 'region', region: 'r' }, author: 'kim', reason: 'why', overMs: 5 }],
    run: (v) => parseDrain(v, 'a'),
  },
  {
    name: 'withdrawals',
    seeds: [[{ member: 'a', service: 'shop/pay', sinceMs: 1, deadlineMs: 2, reason: 'Mass', record: '' }]],
    run: restoreWithdrawals,
  },
  { name: 'health', seeds: [initialHealth()], run: readHealth },
];
