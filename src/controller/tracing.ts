/**
 * `isthmus trace`, run where the certificates can be issued: one connection made as the calling workload would make it, with a
 * certificate of its identity that lives for minutes and never leaves this process.
 */
import type { X509Certificate } from 'node:crypto';
import type { Authority } from '../ca/authority.ts';
import type { Config } from '../config/controller.ts';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { parseServiceKey } from '../core/names.ts';
import type { TraceReport } from '../core/report.ts';
import type { Plan } from '../failover/plan.ts';
import type { LocalCluster } from '../federation/local.ts';
import type { ServiceView, View } from '../federation/view.ts';
import type { Credentials } from '../hbone/credentials.ts';
import { type TraceOptions, trace } from '../hbone/trace.ts';
import { serviceSans } from '../translate/ztunnel/identities.ts';
import { workloadId } from '../trust/spiffe.ts';
import type { GatewayPod } from './cluster.ts';
import { selfIssued } from './self_issued.ts';

export interface TracingInput {
  readonly config: Config;
  readonly authority: Authority;
  readonly moreRoots: readonly X509Certificate[];
  readonly local: LocalCluster;
  readonly view: View;
  readonly plan: Plan;
  readonly gateways: readonly GatewayPod[];
  /** Rules of the egress are in force: nothing goes around it. */
  readonly gatewayOnly?: boolean;
  readonly clock: Clock;
}

export interface TraceRequest {
  readonly from: string;
  readonly service: string;
  readonly timeoutMs: number;
}

const ttlS = 300;
const hbonePort = 15_008;
const egressPort = 15_018;

const parseTarget = (text: string): { key: string; port: number | undefined } => {
  const [key = '', port, rest] = text.split(':');
  const parsed = parseServiceKey(key);
  const number = port === undefined ? undefined : Number(port);
  const badPort = number !== undefined && (!Number.isInteger(number) || number < 1 || number > 65_535);
  if (!parsed.ok || rest !== undefined || badPort) {
    throw new IsthmusError('usage/invalid', `"${text}" is not a service`, {
      hint: 'write it as <namespace>/<service> or <namespace>/<service>:<port>',
    });
  }
  return { key, port: number };
};

const credentialsFor = async (
  from: string,
  input: TracingInput,
): Promise<{ identity: string; credentials: Credentials }> => {
  const account = parseServiceKey(from);
  if (!account.ok) {
    throw new IsthmusError('usage/invalid', `"${from}" is not a workload's account`, {
      hint: 'write it as <namespace>/<service account>',
    });
  }
  const { namespace, name } = account.value;
  const identity = workloadId(input.config.trustDomain, namespace, name);
  const { authority, moreRoots, clock } = input;
  return { identity, credentials: await selfIssued({ authority, moreRoots, identity, ttlS, clock }) };
};

type Route = Pick<TraceOptions, 'outer' | 'inner' | 'authority'> & { readonly path: TraceReport['path'] };

const localRoute = (service: ServiceView, port: number, input: TracingInput): Route | undefined => {
  const ready = service.local?.endpoints.filter((e) => e.ready && e.pod !== undefined) ?? [];
  const endpoint = ready[0];
  const pod = endpoint === undefined ? undefined : input.local.pods.get(endpoint.pod!);
  if (endpoint === undefined || pod === undefined) return undefined;
  const accept = [workloadId(input.config.trustDomain, pod.namespace, pod.serviceAccount)];
  return {
    path: 'local',
    outer: {
      name: `pod ${pod.namespace}/${pod.name}`,
      addresses: [{ host: endpoint.address, port: hbonePort }],
      accept,
    },
    authority: `${endpoint.address}:${endpoint.ports.get(port) ?? port}`,
  };
};

const remoteRoute = (service: ServiceView, port: number, input: TracingInput): Route => {
  const { config, view, local, plan } = input;
  const sans = service.local === undefined ? [] : serviceSans(service, service.local, local, view, config.trustDomain);
  const inner = { name: `workload of ${service.key}`, accept: sans };
  const authority = `${service.hostname}:${port}`;
  const accept = [workloadId(config.trustDomain, config.namespace, config.gateway.serviceAccount)];
  if (service.mode === 'direct' && input.gatewayOnly !== true) {
    const members = (plan.services.get(service.key)?.tiers ?? []).flat().map((cell) => cell.member);
    const addresses = members
      .flatMap((m) => view.members.get(m)?.gateways?.gateways ?? [])
      .map((g) => ({ host: g.address, port: g.hbonePort }));
    return { path: 'direct', outer: { name: 'remote gateway', addresses, accept }, inner, authority };
  }
  const addresses = input.gateways.map((g) => ({ host: g.address, port: egressPort }));
  return { path: 'gateway', outer: { name: 'local gateway', addresses, accept }, inner, authority };
};

/** Errors are about the request; a path that is broken is a report. */
export const runTrace = async (request: TraceRequest, input: TracingInput): Promise<TraceReport> => {
  const { key, port: wanted } = parseTarget(request.service);
  const service = input.view.services.get(key);
  const known = service?.ports.map((p) => p.port) ?? [];
  if (service === undefined || known.length === 0) {
    throw new IsthmusError(
      'usage/invalid',
      `there is no service ${key} in this cluster or among what its peers export`,
      {
        hint: 'see the services in `isthmus status`',
      },
    );
  }
  const port = wanted ?? known[0]!;
  if (!known.includes(port)) {
    throw new IsthmusError('usage/invalid', `${key} has no port ${port}`, { hint: `it has ${known.join(', ')}` });
  }
  const { credentials, identity } = await credentialsFor(request.from, input);
  const base = { apiVersion: 'isthmus.dev/v1', kind: 'Trace', from: identity, service: `${key}:${port}` } as const;
  const route = localRoute(service, port, input) ?? remoteRoute(service, port, input);
  if (route.outer.addresses.length === 0) {
    const verdict =
      route.path === 'gateway'
        ? 'this cluster has no gateway pods'
        : 'no endpoint is ready, here or in another cluster';
    return { ...base, path: route.path, ok: false, hops: [], verdict };
  }
  const { path, ...way } = route;
  const result = await trace({ ...way, credentials, timeoutMs: request.timeoutMs, clock: input.clock });
  return { ...base, path, ...result };
};
