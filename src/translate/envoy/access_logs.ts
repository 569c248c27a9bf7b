/**
 * What gateways tell their controllers of traffic, as access logs over gRPC.
 *
 * Three logs. `tunnels`: a CONNECT that was answered 200, when it is, and one that ended without. `attempts`: each try at a member's
 * gateway that failed or broke, retries included; the log of the request alone would name only the last one, which is the one that
 * worked. `border`: the CONNECTs of other members at our federation listener. A tunnel that ends in good order is told by nobody: one
 * entry a connection is enough. Load reports were passed over as the source of this: they know neither services nor kinds of errors.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { gatewayAuthority, probeHeader } from '../../core/probing.ts';
import {
  type AccessLogFilterSchema,
  type AccessLogSchema,
  ComparisonFilter_Op,
} from '../../gen/envoy/config/accesslog/v3/accesslog_pb.ts';
import { ApiVersion } from '../../gen/envoy/config/core/v3/config_source_pb.ts';
import { AccessLogType } from '../../gen/envoy/data/accesslog/v3/accesslog_pb.ts';
import { HttpGrpcAccessLogConfigSchema } from '../../gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts';
import { duration, packed } from './encoded.ts';
import { telemetryCluster } from './resource_names.ts';

type Log = Extract<MessageInitShape<typeof AccessLogSchema>, { $typeName?: never }>;
type Filter = Extract<MessageInitShape<typeof AccessLogFilterSchema>, { $typeName?: never }>;

export const logNames = { tunnels: 'tunnels', attempts: 'attempts', border: 'border' } as const;

/** The custom tag that holds the member whose gateway was tried. */
export const memberTag = 'member';

const bufferBytes = 64 * 1024;
/** Failures are what decisions wait for. */
const flushMs = { tunnels: 1_000, attempts: 250, border: 1_000 } as const;

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
const answered = any(
  types(AccessLogType.DownstreamTunnelSuccessfullyEstablished),
  all(types(AccessLogType.DownstreamEnd), refused),
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

const log = (name: keyof typeof logNames, filter: Filter): Log => ({
  name: 'envoy.access_loggers.http_grpc',
  filter,
  configType: {
    case: 'typedConfig',
    value: packed(HttpGrpcAccessLogConfigSchema, {
      commonConfig: {
        logName: logNames[name],
        grpcService: { targetSpecifier: { case: 'envoyGrpc', value: { clusterName: telemetryCluster } } },
        transportApiVersion: ApiVersion.V3,
        bufferFlushInterval: duration(flushMs[name]),
        bufferSizeBytes: bufferBytes,
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
      additionalRequestHeadersToLog: name === 'border' ? [probeHeader] : [],
    }),
  },
});

/** Of the egress: CONNECTs as callers see them. */
export const tunnelLog = (): Log => log('tunnels', answered);

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
export const borderLog = (): Log => log('border', all(notForUs, answered));
