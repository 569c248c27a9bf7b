/**
 * The three listeners.
 *
 * `egress`: ztunnels of this cluster, by their mesh certificate; CONNECTs go on to other members.
 * `federation`: other members' gateways; a filter chain for each, chosen by the SNI that it sets and open only to its own
 * CA and exact name. One chain with all CAs was passed over: there any member's CA could mint any member's name.
 * `hbone`: ztunnels of this and other clusters, straight (direct mode).
 * The last two lead to our own pods and nowhere else. All end TLS and answer CONNECT only.
 *
 * SO_REUSEPORT stays on (Envoy's default): two Envoys stand on one port.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { HopRole } from '../../core/hop.ts';
import { probeSni } from '../../core/probing.ts';
import type { FilterChainSchema } from '../../gen/envoy/config/listener/v3/listener_components_pb.ts';
import { ListenerSchema } from '../../gen/envoy/config/listener/v3/listener_pb.ts';
import { HealthCheckSchema } from '../../gen/envoy/extensions/filters/http/health_check/v3/health_check_pb.ts';
import { RouterSchema } from '../../gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import { TlsInspectorSchema } from '../../gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.ts';
import {
  HttpConnectionManager_CodecType,
  HttpConnectionManager_ServerHeaderTransformation,
  HttpConnectionManagerSchema,
} from '../../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { memberServerName } from '../../trust/spiffe.ts';
import { attemptLog, borderLog, directLog, doorLog, tunnelLog } from './access_logs.ts';
import { connectionFilter, grantsFilter, rateFilter } from './border.ts';
import { limitsFilter } from './egress_limits.ts';
import { rightsFilters } from './egress_rights.ts';
import { duration, type Encoded, encode, extension, fromAds, typeUrls } from './encoded.ts';
import { anyAnswer, fromMember, fromWorkload, localAnswerMark, refuseAnyHop, refuseSecondHop } from './hops.ts';
import { serverHttp2 } from './http2.ts';
import type { Binding, GatewaySettings } from './input.ts';
import { listenerNames, probeRoutes, routeNames, secretNames } from './resource_names.ts';
import { downstreamTls, memberCheck, type PeerCheck } from './tls.ts';

type ChainInit = MessageInitShape<typeof FilterChainSchema>;
type Filter = ReturnType<typeof refuseAnyHop>;
type HttpFilter = Filter | ReturnType<typeof grantsFilter>;

/** First of all filters: probes of other gateways are answered before anything can refuse them. */
const healthFilter = (): Filter =>
  extension('envoy.filters.http.health_check', HealthCheckSchema, {
    passThroughMode: false,
    headers: [
      {
        name: ':path',
        headerMatchSpecifier: { case: 'stringMatch', value: { matchPattern: { case: 'exact', value: '/healthz' } } },
      },
    ],
  });

interface Manager {
  readonly role: HopRole;
  readonly statPrefix: string;
  /** Who is at the other end, written over what the caller says. */
  readonly from?: ReturnType<typeof fromMember>;
  /** Default: the role's. */
  readonly routes?: string;
  /** What may refuse a CONNECT besides its hops. */
  readonly bounds?: readonly HttpFilter[];
  readonly log?: ReturnType<typeof tunnelLog>;
  /** Of single tries. */
  readonly attempts?: ReturnType<typeof tunnelLog>;
}

const connectionManager = (member: string, loopFilter: Filter, manager: Manager) => {
  const { role, statPrefix, routes = routeNames[role], bounds = [], log, attempts, from } = manager;
  return extension('envoy.filters.network.http_connection_manager', HttpConnectionManagerSchema, {
    codecType: HttpConnectionManager_CodecType.HTTP2,
    statPrefix,
    routeSpecifier: { case: 'rds', value: { routeConfigName: routes, configSource: fromAds() } },
    httpFilters: [
      healthFilter(),
      loopFilter,
      ...bounds,
      extension('envoy.filters.http.router', RouterSchema, {
        suppressEnvoyHeaders: true,
        upstreamLog: attempts === undefined ? [] : [attempts],
      }),
    ],
    ...(log === undefined
      ? {}
      : { accessLog: [log], accessLogOptions: { flushLogOnTunnelSuccessfullyEstablished: true } }),
    ...(from === undefined ? {} : { earlyHeaderMutationExtensions: [from] }),
    http2ProtocolOptions: serverHttp2(),
    upgradeConfigs: [{ upgradeType: 'CONNECT' }],
    // Tunnels live as long as their callers want.
    streamIdleTimeout: duration(0),
    requestTimeout: duration(0),
    // Nobody is "internal": x-envoy-* headers of callers (timeouts, retries) are dropped.
    useRemoteAddress: true,
    internalAddressConfig: {},
    skipXffAppend: true,
    generateRequestId: false,
    serverHeaderTransformation: HttpConnectionManager_ServerHeaderTransformation.PASS_THROUGH,
    localReplyConfig: { mappers: [{ filter: anyAnswer, headersToAdd: [localAnswerMark(role, member)] }] },
  });
};

/** A handshake may take two long round trips and a lost packet; who takes longer is not one of ours. */
const handshakeTimeoutMs = 5_000;

const chain = (
  name: string,
  certificate: string,
  peer: PeerCheck,
  manager: ReturnType<typeof connectionManager>,
  serverNames: string[] = [],
  first: readonly Filter[] = [],
): ChainInit => ({
  name,
  filterChainMatch: { serverNames },
  transportSocket: downstreamTls(certificate, peer),
  transportSocketConnectTimeout: duration(handshakeTimeoutMs),
  filters: [...first, manager],
});

const listener = (
  name: keyof typeof listenerNames,
  binding: Binding,
  port: number,
  rest: Pick<MessageInitShape<typeof ListenerSchema>, 'filterChains' | 'listenerFilters'>,
): Encoded =>
  encode(
    typeUrls.listener,
    name,
    ListenerSchema,
    create(ListenerSchema, {
      name,
      statPrefix: name,
      address: {
        address: {
          case: 'socketAddress',
          value: {
            address: binding.address,
            portSpecifier: { case: 'portValue', value: port },
            ipv4Compat: binding.address === '::',
          },
        },
      },
      enableReusePort: true,
      listenerFiltersTimeout: duration(handshakeTimeoutMs),
      accessLog: [doorLog(name)],
      ...rest,
    }),
  );

/**
 * Identities of the mesh, under the roots of that secret. Where clusters share a root these are the workloads of all of them, on
 * the egress too: only being out of their reach keeps it to our own. Trusting our issuing CA alone was passed over: after that
 * is replaced it would refuse every workload that still has a certificate of the former one.
 */
const meshCheck = (trustDomain: string, roots: string): PeerCheck => ({
  roots,
  uri: { prefix: `spiffe://${trustDomain}/ns/` },
});

const defaultController = (trustDomain: string): string =>
  `spiffe://${trustDomain}/ns/isthmus-system/sa/isthmus-controller`;

/** Callers, and by an SNI that no caller sets, the probes of our own controllers. */
export const egressListener = ({ self, trustDomain, binding, controllerIdentity }: GatewaySettings): Encoded =>
  listener(listenerNames.egress, binding, binding.egressPort, {
    listenerFilters: [extension('envoy.filters.listener.tls_inspector', TlsInspectorSchema, {})],
    filterChains: [
      chain(
        'mesh',
        secretNames.mesh,
        meshCheck(trustDomain, secretNames.meshRoots),
        connectionManager(self.name, refuseAnyHop(), {
          role: 'egress',
          statPrefix: 'egress',
          from: fromWorkload(),
          bounds: [limitsFilter(), ...rightsFilters()],
          log: tunnelLog(),
          attempts: attemptLog(),
        }),
      ),
      chain(
        'probe',
        secretNames.mesh,
        { roots: secretNames.meshRoots, uri: { exact: controllerIdentity ?? defaultController(trustDomain) } },
        connectionManager(self.name, refuseAnyHop(), { role: 'egress', statPrefix: 'probe', routes: probeRoutes }),
        [probeSni(self.clusterset)],
      ),
    ],
  });

/**
 * Stands where there is no other member. Envoy refuses a listener without any chain and keeps what it had: the last member that left
 * would still be let in, and a gateway of a set of one never be ready. No filters: whoever matched it would be hung up on.
 */
const nobody: ChainInit = { name: 'nobody', filterChainMatch: { serverNames: ['nobody.invalid'] }, filters: [] };

/** `members`: the other members that may call us, by name. */
export const federationListener = ({ self, binding }: GatewaySettings, members: readonly string[]): Encoded =>
  listener(listenerNames.federation, binding, binding.federationPort, {
    listenerFilters: [extension('envoy.filters.listener.tls_inspector', TlsInspectorSchema, {})],
    filterChains:
      members.length === 0
        ? [nobody]
        : [...members].sort().map((member) =>
            chain(
              member,
              secretNames.federation,
              memberCheck(self.clusterset, member),
              connectionManager(self.name, refuseSecondHop(), {
                role: 'federation',
                statPrefix: `federation.${member}`,
                from: fromMember(member),
                bounds: [rateFilter(), grantsFilter(member)],
                log: borderLog(),
              }),
              [memberServerName(self.clusterset, member)],
              [connectionFilter(member)],
            ),
          ),
  });

/** All exported services are reachable here: which of them callers use directly is said by their workloads, not by us. */
export const hboneListener = ({ self, trustDomain, binding }: GatewaySettings): Encoded =>
  listener(listenerNames.hbone, binding, binding.hbonePort, {
    filterChains: [
      chain(
        'mesh',
        secretNames.mesh,
        meshCheck(trustDomain, secretNames.tradedRoots),
        connectionManager(self.name, refuseSecondHop(), { role: 'hbone', statPrefix: 'hbone', log: directLog() }),
      ),
    ],
  });
