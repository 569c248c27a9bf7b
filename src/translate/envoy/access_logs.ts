/**
 * What gateways tell their controllers of traffic, as access logs over gRPC.
 *
 * Four logs. `tunnels`: CONNECTs of our own workloads to other members, when they are answered 200 and when they end. `attempts`: each
 * try at a member's gateway that failed or broke, retries included; the log of the request alone would name only the last one, which is
 * the one that worked. `border`: CONNECTs of other members at our federation listener; `direct`: of ztunnels at the hbone listener; both
 * as in `tunnels`. Decisions need the beginning of a tunnel at once, and the border audit its end: how long, how many bytes.
 * `door-…`: connections of each listener when they close, since one that failed its handshake, or asked for a name that no member has,
 * gets no further. Load reports were passed over as the source of this: they know neither services nor kinds of errors.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { refusedHeader, sourceHeader } from '../../core/hop.ts';
import { gatewayAuthority, probeHeader } from '../../core/probing.ts';
import {
  type AccessLogFilterSchema,
  type AccessLogSchema,
  ComparisonFilter_Op,
} from '../../gen/envoy/config/accesslog/v3/accesslog_pb.ts';
import { ApiVersion } from '../../gen/envoy/config/core/v3/config_source_pb.ts';
import { AccessLogType } from '../../gen/envoy/data/accesslog/v3/accesslog_pb.ts';
import {
  type CommonGrpcAccessLogConfigSchema,
  HttpGrpcAccessLogConfigSchema,
  TcpGrpcAccessLogConfigSchema,
} from '../../gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts';
import { duration, packed } from './encoded.ts';
import { telemetryCluster } from './resource_names.ts';

type Log = Extract<MessageInitShape<typeof AccessLogSchema>, { $typeName?: never }>;
type Filter = Extract<MessageInitShape<typeof AccessLogFilterSchema>, { $typeName?: never }>;

/** Of the listeners: a connection that came to no request shows in no other log. */
export const doorNames = { egress: 'door-egress', federation: 'door-federation', hbone: 'door-hbone' } as const;

export const logNames = { tunnels: 'tunnels', attempts: 'attempts', border: 'border', direct: 'direct' } as const;

/** The custom tag that holds the member whose gateway was tried. */
export const memberTag = 'member';

const bufferBytes = 64 * 1024;
/** Failures are what decisions wait for. */
const flushMs = { tunnels: 1_000, attempts: 250, border: 1_000, direct: 1_000 } as const;
const requestHeaders = { tunnels: [], attempts: [], border: [probeHeader, sourceHeader], direct: [] };

/** Flags of tries that could not connect, were reset, timed out or broke. A caller that ends its own tunnel sets none of them. */
const failureFlags = ['UF', 'UC', 'UR', 'UT', 'UPE'];

const any = (...filters: Filter[]): Filter => ({ filterSpecifier: { case: 'orFilter', value: { filters } } });
const all = (...filters: Filter[]): Filter => ({ filterSpecifier: { case: 'andFilter', value: { filters } } });
const types = (...of: AccessLogType[]): Filter => ({
  filterSpecifier: { case: 'logTypeFilter', value: { types: of } },
});
const refused: Filter = {
  filterSpecifier: {
    case: 'statusCodeFilter',
    value: { comparison: { op: ComparisonFilter_Op.GE, value: { defaultValue: 400, runtimeKey: 'isthmus.log_from' } } },
  },
};
/** Health checks of other gateways come every second, and are not what people ask about. */
const noHealthCheck: Filter = { filterSpecifier: { case: 'notHealthCheckFilter', value: {} } };
const begunAndEnded = all(
  noHealthCheck,
  types(AccessLogType.DownstreamTunnelSuccessfullyEstablished, AccessLogType.DownstreamEnd),
);
const notForUs: Filter = {
  filterSpecifier: {
    case: 'headerFilter',
    value: {
      header: {
        name: ':authority',
        invertMatch: true,
        headerMatchSpecifier: {
          case: 'stringMatch',
          value: { matchPattern: { case: 'exact', value: gatewayAuthority } },
        },
      },
    },
  },
};

type Common = Extract<MessageInitShape<typeof CommonGrpcAccessLogConfigSchema>, { $typeName?: never }>;

const common = (logName: string, flush: number): Common => ({
  logName,
  grpcService: { targetSpecifier: { case: 'envoyGrpc', value: { clusterName: telemetryCluster } } },
  transportApiVersion: ApiVersion.V3,
  bufferFlushInterval: duration(flush),
  bufferSizeBytes: bufferBytes,
});

const log = (name: keyof typeof logNames, filter: Filter): Log => ({
  name: 'envoy.access_loggers.http_grpc',
  filter,
  configType: {
    case: 'typedConfig',
    value: packed(HttpGrpcAccessLogConfigSchema, {
      commonConfig: {
        ...common(logNames[name], flushMs[name]),
        customTags: [
          {
            tag: memberTag,
            type: {
              case: 'metadata',
              value: {
                kind: { kind: { case: 'host', value: {} } },
                metadataKey: {
                  key: 'envoy.transport_socket_match',
                  path: [{ segment: { case: 'key', value: 'member' } }],
                },
              },
            },
          },
        ],
      },
      additionalRequestHeadersToLog: requestHeaders[name],
      // Which bound refused it.
      additionalResponseHeadersToLog: [refusedHeader],
    }),
  },
});

/** Of the egress: CONNECTs as callers see them. */
export const tunnelLog = (): Log => log('tunnels', begunAndEnded);

/** Of the egress's router: single tries that went wrong. */
export const attemptLog = (): Log =>
  log(
    'attempts',
    all(
      types(AccessLogType.UpstreamEnd),
      any(refused, { filterSpecifier: { case: 'responseFlagFilter', value: { flags: failureFlags } } }),
    ),
  );

/** Of the federation listener: what other members send us. Probes of the gateway itself are no traffic. */
export const borderLog = (): Log => log('border', all(notForUs, begunAndEnded));

/** Of the hbone listener. */
export const directLog = (): Log => log('direct', begunAndEnded);

/**
 * Of a listener. Envoy has no filter that tells failed handshakes from others; connections are pooled, and those that end in good order are
 * few.
 */
export const doorLog = (listener: keyof typeof doorNames): Log => ({
  name: 'envoy.access_loggers.tcp_grpc',
  configType: {
    case: 'typedConfig',
    value: packed(TcpGrpcAccessLogConfigSchema, { commonConfig: common(doorNames[listener], 1_000) }),
  },
});
