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
import type { ServiceView } from '../../federation/view.ts';
import {
  type HeaderMatcherSchema,
  type RetryPolicySchema,
  type RouteAction,
  RouteActionSchema,
  VirtualHostSchema,
} from '../../gen/envoy/config/route/v3/route_components_pb.ts';
import { type RouteConfiguration, RouteConfigurationSchema } from '../../gen/envoy/config/route/v3/route_pb.ts';
import { PreviousHostsPredicateSchema } from '../../gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.ts';
import { PreviousPrioritiesConfigSchema } from '../../gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.ts';
import { grantedService } from './border.ts';
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

/** For requests of these members alone; others find no route, as for a service that there is not. */
const onlyFrom = (members: readonly string[]): MessageInitShape<typeof HeaderMatcherSchema> => ({
  name: peerHeader,
  headerMatchSpecifier: {
    case: 'stringMatch',
    // Labels hold nothing that means anything in a regular expression. The whole value must match; nobody at all: none does.
    value: {
      matchPattern: { case: 'safeRegex', value: { regex: members.length === 0 ? '[^\\s\\S]' : members.join('|') } },
    },
  },
});

const virtualHost = (authority: string, action: RouteAction, only?: readonly string[]): EncodedHost => ({
  name: authority,
  bytes: toBinary(
    VirtualHostSchema,
    create(VirtualHostSchema, {
      name: authority,
      domains: [authority],
      routes: [
        {
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
              ...(only === undefined ? [] : [onlyFrom(only)]),
            ],
          },
          action: {
            case: 'route',
            value: action,
          },
        },
      ],
    }),
  ),
});

/**
 * CONNECTs to one port of a service, to the cluster of its class.
 * @param tunnelAgeMs - how old the tunnels opened by this route may become; undefined: as old as their callers want
 */
export const egressHost = (hostname: string, port: number, className: string, tunnelAgeMs?: number): EncodedHost =>
  virtualHost(
    `${hostname}:${port}`,
    create(RouteActionSchema, {
      ...unlimited(),
      ...(tunnelAgeMs === undefined ? {} : { maxStreamDuration: { maxStreamDuration: duration(tunnelAgeMs) } }),
      clusterSpecifier: { case: 'cluster', value: className },
      retryPolicy: egressRetry(),
    }),
  );

/**
 * TCP ports of a service that callers here may use: our own Service's, where there is one. Others' ports may not add to it or take
 * from it.
 */
export const egressPorts = ({ local, ports }: ServiceView): number[] => tunnelPorts(local?.ports ?? ports);

/** `classes`: the name of each port's class. */
export const egressHosts = (
  service: ServiceView,
  classes: ReadonlyMap<number, string>,
  tunnelAgeMs?: number,
): EncodedHost[] => [...classes].map(([port, name]) => egressHost(service.hostname, port, name, tunnelAgeMs));

/**
 * The service's CONNECTs from elsewhere, one virtual host a port, ended here and handed to a pod as bytes. One that is exported to some
 * members has a route for those.
 */
export const localHosts = (service: ServiceView): EncodedHost[] =>
  tunnelPorts(service.local?.ports ?? []).map((port) =>
    virtualHost(
      `${service.hostname}:${port}`,
      create(RouteActionSchema, {
        ...unlimited(),
        clusterSpecifier: { case: 'cluster', value: localClusterName(service.key, port) },
        upgradeConfigs: [{ upgradeType: 'CONNECT', connectConfig: {} }],
        retryPolicy: localRetry(),
        rateLimits: [grantedService(service.key)],
      }),
      service.local?.exported?.to,
    ),
  );

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
