/**
 * Everything that one small cluster's gateways get, as text: what a change of the translation changes shows in its diff.
 * `GOLDEN=write` writes the file anew.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createRegistry, type DescMessage, fromBinary, toJson } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { ClusterSchema } from '../../../src/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { TypedExtensionConfigSchema } from '../../../src/gen/envoy/config/core/v3/extension_pb.ts';
import { ClusterLoadAssignmentSchema } from '../../../src/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { ListenerSchema } from '../../../src/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import {
  HttpGrpcAccessLogConfigSchema,
  TcpGrpcAccessLogConfigSchema,
} from '../../../src/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts';
import { HealthCheckSchema } from '../../../src/gen/envoy/extensions/filters/http/health_check/v3/health_check_pb.ts';
import { LocalRateLimitSchema } from '../../../src/gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts';
import { RBACSchema } from '../../../src/gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts';
import { RouterSchema } from '../../../src/gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import { TlsInspectorSchema } from '../../../src/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.ts';
import { ConnectionLimitSchema } from '../../../src/gen/envoy/extensions/filters/network/connection_limit/v3/connection_limit_pb.ts';
import { HttpConnectionManagerSchema } from '../../../src/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { HeaderMutationSchema } from '../../../src/gen/envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation_pb.ts';
import { PreviousHostsPredicateSchema } from '../../../src/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.ts';
import { PreviousPrioritiesConfigSchema } from '../../../src/gen/envoy/extensions/retry/priority/previous_priorities/v3/previous_priorities_config_pb.ts';
import { SecretSchema } from '../../../src/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts';
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '../../../src/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import { HttpProtocolOptionsSchema } from '../../../src/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts';
import { bootstrapFiles } from '../../../src/translate/envoy/bootstrap.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import { member, memberView, world } from './fixture.ts';

const tops: DescMessage[] = [
  ListenerSchema,
  RouteConfigurationSchema,
  ClusterSchema,
  ClusterLoadAssignmentSchema,
  SecretSchema,
  TypedExtensionConfigSchema,
];
const registry = createRegistry(
  ...tops,
  HttpConnectionManagerSchema,
  LocalRateLimitSchema,
  ConnectionLimitSchema,
  HealthCheckSchema,
  RBACSchema,
  RouterSchema,
  TlsInspectorSchema,
  PreviousHostsPredicateSchema,
  PreviousPrioritiesConfigSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
  HttpProtocolOptionsSchema,
  HttpGrpcAccessLogConfigSchema,
  TcpGrpcAccessLogConfigSchema,
  HeaderMutationSchema,
);

const check = (name: string, value: unknown): void => {
  const path = join(import.meta.dirname, '../../golden/envoy', name);
  const text = stringify(value, { lineWidth: 0, aliasDuplicateObjects: false });
  if (process.env.GOLDEN === 'write') writeFileSync(path, text);
  expect(text).toBe(readFileSync(path, 'utf8'));
};

describe('golden', () => {
  it('gateways of us-east', () => {
    const input = world({
      members: ['us-east', 'us-west', 'eu-central'].map((name, i) =>
        memberView(member(name), [
          { id: 'gw-1', address: `203.0.113.${i}1` },
          { id: 'gw-2', address: `203.0.113.${i}2`, draining: name === 'us-west' },
        ]),
      ),
      services: [
        {
          key: 'shop/checkout',
          ports: [80, 8443],
          pods: [
            { name: 'checkout-1', address: '10.244.0.7' },
            { name: 'checkout-2', address: '10.244.0.8', ready: false },
          ],
          tiers: [['us-west'], ['eu-central']],
        },
        {
          key: 'shop/cart',
          tiers: [
            [
              { member: 'us-west', weight: 8 },
              { member: 'eu-central', weight: 2 },
            ],
          ],
          trafficPolicy: { consecutiveGatewayErrors: 3, maxConnections: 100 },
          exported: false,
        },
      ],
      head: { epoch: 1_795_000_000_000n, sequence: 42n },
      roundTrips: new Map([
        ['us-west', { rttMs: 60, varMs: 4 }],
        ['eu-central', { rttMs: 90, varMs: 4 }],
      ]),
    });
    const resources = gatewayResources(input).map(({ typeUrl, name, bytes }) => {
      const schema = tops.find(({ typeName }) => typeUrl.endsWith(`/${typeName}`))!;
      return { [`${schema.name} ${name}`]: toJson(schema, fromBinary(schema, bytes), { registry }) };
    });
    check('us-east.yaml', Object.assign({}, ...resources));
  });

  it('bootstrap', () => {
    const files = bootstrapFiles({
      nodeId: 'gateway~10.244.0.30~gw-1.isthmus-system~us-east',
      cluster: 'us-east',
      admin: { pipe: '/run/isthmus/admin.sock' },
      controllers: [
        { address: '10.244.0.20', port: 15013 },
        { address: '10.244.0.21', port: 15013 },
      ],
      controllerIdentity: 'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-controller',
      files: { certificate: '/run/isthmus/cert.pem', key: '/run/isthmus/key.pem', roots: '/run/isthmus/roots.pem' },
      directory: '/run/isthmus/envoy-0',
    });
    check('bootstrap.yaml', Object.fromEntries(files.map(({ name, json }) => [name, json])));
  });
});
