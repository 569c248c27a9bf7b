/**
 * Routes: a virtual host for each service and port, found by the exact authority `host:port`.
 *
 * `egress` proxies the CONNECT to the service's class cluster and retries there; the others end it at our pods. Envoy compares
 * domains without regard to case, so each route asks once more for the exact authority: any other spelling is a 404, as
 * is everything that is not a CONNECT to an exported service.
 *
 * Virtual hosts are encoded one by one, and a route configuration is put together from their bytes: when one service
 * changes, one is encoded and the others are copied.
 */
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { sourceHeader } from '../../core/hop.ts';
import type { ServiceView } from '../../federation/view.ts';
import {
  type HeaderMatcherSchema,
  type RetryPolicySchema,
  type RouteAction,
  RouteActionSchema,
  type RouteSchema,
  VirtualHostSchema,
} from '../../gen/envoy/config/route/v3/route_components_pb.ts';
import { type RouteConfiguration, RouteConfigurationSchema } from '../../gen/envoy/config/route/v3/route_pb.ts';
import { PreviousHostsPredicateSchema } from '../../gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.ts';
import { PreviousPrioritiesConfigSchema } from '../../gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.ts';
import type { SourcePattern } from '../../trust/egress_source.ts';
import { grantedService } from './border.ts';
import { type answeringFor, slotOf } from './egress_members.ts';
import { stringMatch } from './egress_rights.ts';
import { duration, type Encoded, extension, typeUrls } from './encoded.ts';
import { answerMark, firstHop, provenSource } from './hops.ts';
import { localClusterName, peerHeader, routeNames } from './resource_names.ts';
import { tunnelPorts } from './tunnel_ports.ts';

type RetryInit = MessageInitShape<typeof RetryPolicySchema>;

/** One encoded virtual host: an element of a route configuration. */
export interface EncodedHost {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * Towards other members. The next attempt goes to the next priority at once (without `previous_priorities` a silent cut
 * stalls nearly twice as long). 503 from the other side means "no ready endpoint here"; 404, that it does not export the
 * service any more; 429, that it takes no more from us just now: all say that another member should be asked. `per_try_timeout`
 * does nothing on CONNECT.
 */
const egressRetry = (): RetryInit => ({
  retryOn: 'connect-failure,refused-stream,reset,reset-before-request,gateway-error,retriable-status-codes',
  retriableStatusCodes: [404, 429],
  numRetries: 3,
  retryBackOff: { baseInterval: duration(5), maxInterval: duration(50) },
  retryHostPredicate: [extension('envoy.retry_host_predicates.previous_hosts', PreviousHostsPredicateSchema, {})],
  hostSelectionRetryMaxAttempts: 5n,
  retryPriority: extension('envoy.retry_priorities.previous_priorities', PreviousPrioritiesConfigSchema, {
    updateFrequency: 1,
  }),
});

/** Towards our pods: a pod that takes no connection is passed over once; then the caller's gateway looks elsewhere. */
const localRetry = (): RetryInit => ({
  retryOn: 'connect-failure',
  numRetries: 1,
  retryBackOff: { baseInterval: duration(1), maxInterval: duration(5) },
  retryHostPredicate: [extension('envoy.retry_host_predicates.previous_hosts', PreviousHostsPredicateSchema, {})],
  hostSelectionRetryMaxAttempts: 5n,
});

/** A tunnel lives, idle or not, as long as its callers want; the default would cut it after minutes. */
const unlimited = () => ({ timeout: duration(0), idleTimeout: duration(0) });

type HeaderInit = MessageInitShape<typeof HeaderMatcherSchema>;

/** For requests of this member alone. A list as a regular expression was passed over: Envoy takes no more than 100 steps, seven names or so. */
const ofMember = (member: string): HeaderInit => ({
  name: peerHeader,
  headerMatchSpecifier: { case: 'stringMatch', value: { matchPattern: { case: 'exact', value: member } } },
});

/** For requests of these workloads alone. */
const ofSource = (source: SourcePattern): HeaderInit => ({
  name: sourceHeader,
  headerMatchSpecifier: { case: 'stringMatch', value: stringMatch(source) },
});

interface HostRoute {
  readonly action: RouteAction;
  /** What must hold besides the authority. */
  readonly only?: HeaderInit | undefined;
}

/** @param routes - the first that fits decides */
const virtualHost = (authority: string, routes: readonly HostRoute[]): EncodedHost => ({
  name: authority,
  bytes: toBinary(
    VirtualHostSchema,
    create(VirtualHostSchema, {
      name: authority,
      domains: [authority],
      routes: routes.map(
        ({ action, only }): MessageInitShape<typeof RouteSchema> => ({
          match: {
            pathSpecifier: { case: 'connectMatcher', value: {} },
            headers: [
              {
                name: ':authority',
                headerMatchSpecifier: {
                  case: 'stringMatch',
                  value: { matchPattern: { case: 'exact', value: authority } },
                },
              },
              ...(only === undefined ? [] : [only]),
            ],
          },
          action: {
            case: 'route',
            value: action,
          },
        }),
      ),
    }),
  ),
});

/** No cluster has this name, or one without an endpoint. */
const nowhere = 'nowhere';

/** @param tunnelAgeMs - how old the tunnels opened by this route may become; undefined: as old as their callers want */
const egressAction = (className: string, tunnelAgeMs?: number): RouteAction =>
  create(RouteActionSchema, {
    ...unlimited(),
    ...(tunnelAgeMs === undefined ? {} : { maxStreamDuration: { maxStreamDuration: duration(tunnelAgeMs) } }),
    clusterSpecifier: { case: 'cluster', value: className },
    retryPolicy: egressRetry(),
  });

/**
 * TCP ports of a service that callers here may use: our own Service's, where there is one. Others' ports may not add to it or take
 * from it.
 */
export const egressPorts = ({ local, ports }: ServiceView): number[] => tunnelPorts(local?.ports ?? ports);

/**
 * CONNECTs to the ports of a service, each to the cluster of its class.
 * @param classes - names of classes, by `slotOf`
 * @param answering - whom some members alone may answer, best fit first
 */
export const egressHosts = (
  service: ServiceView,
  classes: ReadonlyMap<string, string>,
  tunnelAgeMs?: number,
  answering: ReturnType<typeof answeringFor> = [],
): EncodedHost[] =>
  egressPorts(service).flatMap((port) => {
    const ofAll = classes.get(slotOf(port));
    if (ofAll === undefined) return [];
    const routes = answering.map(({ source, members }) => ({
      // Without a class of those members it leads nowhere, and not to the others.
      action: egressAction(classes.get(slotOf(port, members)) ?? nowhere, tunnelAgeMs),
      only: source === undefined ? undefined : ofSource(source),
    }));
    // The last may be for everybody already.
    const rest =
      answering.at(-1)?.source === undefined && routes.length > 0 ? [] : [{ action: egressAction(ofAll, tunnelAgeMs) }];
    return virtualHost(`${service.hostname}:${port}`, [...routes, ...rest]);
  });

/**
 * The service's CONNECTs from elsewhere, one virtual host a port, ended here and handed to a pod as bytes. One that is exported to some
 * members has a route for those.
 */
export const localHosts = (service: ServiceView): EncodedHost[] =>
  tunnelPorts(service.local?.ports ?? []).map((port) => {
    const action = create(RouteActionSchema, {
      ...unlimited(),
      clusterSpecifier: { case: 'cluster', value: localClusterName(service.key, port) },
      upgradeConfigs: [{ upgradeType: 'CONNECT', connectConfig: {} }],
      retryPolicy: localRetry(),
      rateLimits: [grantedService(service.key)],
    });
    const only = service.local?.exported?.to;
    // Others, or all when it is for nobody, find no route, as for a service that there is not.
    const routes = only?.map((member) => ({ action, only: ofMember(member) })) ?? [{ action }];
    return virtualHost(`${service.hostname}:${port}`, routes);
  });

const virtualHostsField = RouteConfigurationSchema.field.virtualHosts.number;

const assembled = (base: RouteConfiguration, hosts: Iterable<EncodedHost>): Encoded => {
  const writer = new BinaryWriter().raw(toBinary(RouteConfigurationSchema, base));
  const sorted = [...hosts].sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const host of sorted) writer.tag(virtualHostsField, WireType.LengthDelimited).bytes(host.bytes);
  return { typeUrl: typeUrls.routes, name: base.name, bytes: writer.finish() };
};

/** `self`: this member's name, for the marks on answers. */
export const egressRoutes = (self: string, hosts: Iterable<EncodedHost>): Encoded =>
  assembled(
    create(RouteConfigurationSchema, {
      name: routeNames.egress,
      requestHeadersToAdd: [firstHop, provenSource],
      responseHeadersToAdd: [answerMark('egress', self)],
    }),
    hosts,
  );

/**
 * The routes of the listeners that lead to our own pods: the same, but for the mark.
 * @param atBorder - only on the federation listener: there alone it is known which member asks
 */
export const localRoutes = (
  self: string,
  hosts: readonly EncodedHost[],
  atBorder: readonly EncodedHost[] = [],
): Encoded[] =>
  (['federation', 'hbone'] as const).map((role) =>
    assembled(
      create(RouteConfigurationSchema, { name: routeNames[role], responseHeadersToAdd: [answerMark(role, self)] }),
      role === 'federation' ? [...hosts, ...atBorder] : hosts,
    ),
  );
