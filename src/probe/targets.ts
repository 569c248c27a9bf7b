/** What there is to probe, from the view: the gateways of the other members, and their services. */
import { fail, ok, type Result } from '../core/errors.ts';
import { carriesTcp } from '../core/transport.ts';
import type { LocalCluster, LocalService } from '../federation/local.ts';
import type { MemberView, ServiceView, View } from '../federation/view.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import { acceptedIds } from '../trust/grants.ts';
import { accountId } from '../trust/spiffe.ts';
import type { GrayTarget, LocalPodTarget } from './gray.ts';
import { grayAnnotations, parseGraySpec } from './gray_spec.ts';
import { type MetricTarget, parseMetricSpec } from './metric_spec.ts';
import type { ServiceTarget } from './rotation.ts';
import type { RemoteGateway } from './single.ts';

/** Federation listeners by member, ourselves left out. A draining gateway counts: it still answers, and may be the last. */
export const memberTargets = (
  members: ReadonlyMap<string, MemberView>,
  self: string,
): Map<string, readonly RemoteGateway[]> =>
  new Map(
    [...members]
      .filter(([name]) => name !== self)
      .map(([name, { gateways }]) => [
        name,
        (gateways?.gateways ?? [])
          .filter(({ federationPort }) => federationPort > 0)
          .map(({ id, address, federationPort }) => ({ id, address, port: federationPort })),
      ]),
  );

const ready = (record: ServiceRecord): boolean => record.capacity.some((capacity) => capacity.ready > 0);

/** How to ask for this service at one member; undefined when it says itself that nothing serves there, or nobody could answer. */
export const serviceTarget = (
  service: ServiceView,
  member: string,
  record: ServiceRecord,
  members: ReadonlyMap<string, MemberView>,
  trustDomain: string,
): ServiceTarget | undefined => {
  const view = members.get(member);
  if (view === undefined) return undefined;
  const wanted = (service.local?.ports ?? service.ports).filter(({ protocol }) => carriesTcp(protocol));
  const port = wanted.find((one) => record.ports.some(({ port }) => port === one.port))?.port;
  const accept = acceptedIds(trustDomain, [{ member: view.member, accounts: record.accounts }]);
  if (port === undefined || accept.length === 0) return undefined;
  return { member, service: service.key, authority: `${service.hostname}:${port}`, accept };
};

/** Of all members that say they have something ready. Not-ready ones are known by their records: a 503 would be no news. */
export const serviceTargets = (service: ServiceView, view: View, trustDomain: string): ServiceTarget[] =>
  service.unsupported !== undefined
    ? []
    : [...service.remotes].flatMap(([member, record]) =>
        ready(record) ? (serviceTarget(service, member, record, view.members, trustDomain) ?? []) : [],
      );

const localPods = (service: LocalService, port: number, local: LocalCluster, trustDomain: string): LocalPodTarget[] =>
  service.endpoints.flatMap((endpoint) => {
    const pod = endpoint.pod === undefined ? undefined : local.pods.get(endpoint.pod);
    const target = endpoint.ports.get(port);
    if (pod === undefined || !pod.hbone || pod.hostNetwork || !endpoint.ready || target === undefined) return [];
    const accept = [accountId(trustDomain, `${pod.namespace}/${pod.serviceAccount}`)];
    return [{ address: endpoint.address, tunnelPort: 15_008, port: target, accept }];
  });

/**
 * The opt-in HTTP probe of a service that exists here, by the annotations of its Service object. Undefined: none is asked for.
 * Errors: `service/probe`.
 */
export const grayTarget = (
  service: ServiceView,
  view: View,
  local: LocalCluster,
  trustDomain: string,
): Result<GrayTarget | undefined> => {
  const own = service.local;
  if (own === undefined || service.unsupported !== undefined) return ok(undefined);
  const parsed = parseGraySpec(own.annotations);
  if (!parsed.ok || parsed.value === undefined) return parsed.ok ? ok(undefined) : parsed;
  const spec = parsed.value;
  const tcp = own.ports.filter(({ protocol }) => carriesTcp(protocol)).map(({ port }) => port);
  const port = spec.port ?? tcp[0];
  if (port === undefined || !tcp.includes(port)) {
    return fail('service/probe', `${grayAnnotations.port}: ${service.key} has no TCP port ${port ?? 'at all'}`, {
      hint: `it has ${tcp.join(', ') || 'none'}`,
      subject: { annotation: grayAnnotations.port },
    });
  }
  const onPort = { ...service, local: { ...own, ports: own.ports.filter((one) => one.port === port) } };
  return ok({
    service: service.key,
    spec,
    hostname: service.hostname,
    local: localPods(own, port, local, trustDomain),
    remotes: serviceTargets(onPort, view, trustDomain),
  });
};

/** The metric query of a service that exists here, and who has it. Undefined: none is asked for. Errors: `service/probe`. */
export const metricTarget = (service: ServiceView, view: View): Result<MetricTarget | undefined> => {
  const own = service.local;
  if (own === undefined || service.unsupported !== undefined) return ok(undefined);
  const parsed = parseMetricSpec(own.annotations);
  if (!parsed.ok || parsed.value === undefined) return parsed.ok ? ok(undefined) : parsed;
  return ok({ service: service.key, spec: parsed.value, members: new Set([view.self, ...service.remotes.keys()]) });
};
