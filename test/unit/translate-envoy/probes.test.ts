/** The way of probes: pinned, apart from what calls use, and open to the controller alone. */
import { fromBinary } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { gatewayAuthority, parseHead, probeGatewayHeader, probeHeader } from '../../../src/core/probing.ts';
import { ClusterSchema } from '../../../src/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { ListenerSchema } from '../../../src/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import { HttpGrpcAccessLogConfigSchema } from '../../../src/gen/envoy/extensions/access_loggers/grpc/v3/als_pb.ts';
import { RouterSchema } from '../../../src/gen/envoy/extensions/filters/http/router/v3/router_pb.ts';
import { HttpConnectionManagerSchema } from '../../../src/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '../../../src/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import { typeUrls } from '../../../src/translate/envoy/encoded.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import { GatewayTranslation } from '../../../src/translate/envoy/translation.ts';
import { decoded, managerConfig, member, memberView, unpacked, world } from './fixture.ts';

const members = ['us-east', 'us-west', 'eu-central'].map((name) =>
  memberView(member(name), [{ id: 'gw-1', address: '10.1.0.1' }]),
);
const services = [{ key: 'shop/checkout', pods: [], tiers: [['us-west'], ['eu-central']] }];
const resources = gatewayResources(world({ members, services }));

const chainsOf = (name: string) => decoded(resources, ListenerSchema, name).filterChains;
const managerOf = (chain: ReturnType<typeof chainsOf>[number]) =>
  unpacked(managerConfig(chain), HttpConnectionManagerSchema);
const tlsOf = (chain: ReturnType<typeof chainsOf>[number]) =>
  unpacked(
    chain.transportSocket?.configType.case === 'typedConfig' ? chain.transportSocket.configType.value : undefined,
    DownstreamTlsContextSchema,
  );
const routerOf = (chain: ReturnType<typeof chainsOf>[number]) => {
  const filter = managerOf(chain).httpFilters.at(-1)!;
  return unpacked(filter.configType.case === 'typedConfig' ? filter.configType.value : undefined, RouterSchema);
};

describe('the chain of probes', () => {
  const [mesh, probe] = chainsOf('egress');

  it('is found by its own SNI and admits one exact identity', () => {
    expect(probe!.filterChainMatch?.serverNames).toEqual(['probe.demo.isthmus']);
    expect(mesh!.filterChainMatch?.serverNames).toEqual([]);
    const validation = tlsOf(probe!).commonTlsContext?.validationContextType;
    if (validation?.case !== 'combinedValidationContext') throw new Error('not combined');
    expect(validation.value.defaultValidationContext?.matchTypedSubjectAltNames).toMatchObject([
      {
        matcher: {
          matchPattern: { case: 'exact', value: 'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-controller' },
        },
      },
    ]);
  });

  it('takes the identity that the settings name', () => {
    const settings = {
      ...world().settings,
      controllerIdentity: 'spiffe://cluster.local/ns/mesh/sa/isthmus-controller',
    };
    const own = decoded(gatewayResources(world({ members, settings })), ListenerSchema, 'egress').filterChains[1]!;
    expect(JSON.stringify(tlsOf(own), (_, v) => (typeof v === 'bigint' ? `${v}` : v))).toContain('ns/mesh/');
  });

  it('is in no log of traffic, while that of callers is', () => {
    expect(managerOf(probe!).accessLog).toEqual([]);
    expect(routerOf(probe!).upstreamLog).toEqual([]);
    const names = [managerOf(mesh!).accessLog, routerOf(mesh!).upstreamLog].map((logs) => {
      const config = logs[0]?.configType.case === 'typedConfig' ? logs[0].configType.value : undefined;
      return unpacked(config, HttpGrpcAccessLogConfigSchema).commonConfig?.logName;
    });
    expect(names).toEqual(['tunnels', 'attempts']);
    for (const chain of chainsOf('federation')) expect(managerOf(chain).accessLog).toHaveLength(1);
  });
});

describe('the routes of probes', () => {
  it('lead to one member each, by header, without retries; not to ourselves', () => {
    const config = decoded(resources, RouteConfigurationSchema, 'probe');
    expect(config.virtualHosts).toHaveLength(1);
    const routes = config.virtualHosts[0]!.routes.map(({ match, action }) => ({
      headers: match?.headers.map(({ name, headerMatchSpecifier: { case: how, value } }) =>
        how === 'stringMatch' ? [name, value.matchPattern.value] : [],
      ),
      cluster: action.case === 'route' ? action.value.clusterSpecifier.value : undefined,
      retry: action.case === 'route' ? action.value.retryPolicy : 'none',
    }));
    expect(routes).toEqual([
      { headers: [[probeHeader, 'eu-central']], cluster: 'probe/eu-central', retry: undefined },
      { headers: [[probeHeader, 'us-west']], cluster: 'probe/us-west', retry: undefined },
    ]);
    expect(config.virtualHosts[0]!.retryPolicy).toBeUndefined();
  });

  it('go over clusters of their own that eject nobody, fall back to nobody and know one name', () => {
    const cluster = decoded(resources, ClusterSchema, 'probe/us-west');
    expect(cluster.outlierDetection).toBeUndefined();
    expect(cluster.healthChecks).toEqual([]);
    expect(cluster.transportSocketMatches).toEqual([]);
    expect(cluster.lbConfig).toMatchObject({
      case: 'originalDstLbConfig',
      value: { useHttpHeader: true, httpHeaderName: probeGatewayHeader },
    });
    const socket = cluster.transportSocket?.configType;
    const tls = unpacked(socket?.case === 'typedConfig' ? socket.value : undefined, UpstreamTlsContextSchema);
    expect(JSON.stringify(tls.commonTlsContext, (_, v) => (typeof v === 'bigint' ? `${v}` : v))).toContain(
      'spiffe://demo/cluster/us-west',
    );
  });

  it('are not among those of services: no caller can ask for them', () => {
    const egress = decoded(resources, RouteConfigurationSchema, 'egress');
    expect(JSON.stringify(egress, (_, v) => (typeof v === 'bigint' ? `${v}` : v))).not.toContain('probe');
  });

  it('wait as the path needs', () => {
    const far = gatewayResources(
      world({ members, services, roundTrips: new Map([['us-west', { rttMs: 300, varMs: 20 }]]) }),
    );
    const waits = (of: typeof far) => decoded(of, ClusterSchema, 'probe/us-west').connectTimeout;
    expect(waits(far)).toMatchObject({ seconds: 1n, nanos: 100_000_000 });
  });
});

describe('the head', () => {
  const headOf = (of: ReturnType<typeof gatewayResources>) =>
    decoded(of, RouteConfigurationSchema, 'head').responseHeadersToAdd.map(({ header }) => header?.value);

  it('is in a small resource of its own', () => {
    const head = { epoch: 1_795_000_000_000n, sequence: 7n };
    const with7 = gatewayResources(world({ members, services, head }));
    expect(headOf(with7)).toEqual(['1795000000000.7']);
    expect(parseHead(headOf(with7)[0])).toEqual(head);
    const small = with7.find(({ typeUrl, name }) => typeUrl === typeUrls.routes && name === 'head')!;
    expect(small.bytes.length).toBeLessThan(200);
    expect(headOf(resources)).toEqual([]);
  });

  it('is told with the marks of who was put out', () => {
    const told = gatewayResources(
      world({ members, services, head: { epoch: 1n, sequence: 7n }, revocations: '=ab,m:cd' }),
    );
    expect(headOf(told)).toEqual(['1.7', '=ab,m:cd']);
    expect(headOf(gatewayResources(world({ members, services, revocations: '=ab' })))).toEqual(['=ab']);
  });

  it('changes nothing else when it rises', () => {
    const translation = new GatewayTranslation();
    const nothing = { services: new Set<string>(), pods: new Set<string>(), members: false };
    translation.rebuild(world({ members, services, head: { epoch: 1n, sequence: 7n } }));
    const { changed } = translation.update(
      world({ members, services, head: { epoch: 1n, sequence: 8n } }),
      nothing,
      1_000,
    );
    expect(changed.map(({ typeUrl, name }) => [typeUrl, name])).toEqual([[typeUrls.routes, 'head']]);
    const again = translation.update(world({ members, services, head: { epoch: 1n, sequence: 8n } }), nothing, 2_000);
    expect(again.changed).toEqual([]);
  });

  it('is answered at the border alone', () => {
    const hosts = (name: string) =>
      fromBinary(
        RouteConfigurationSchema,
        resources.find((r) => r.typeUrl === typeUrls.routes && r.name === name)!.bytes,
      ).virtualHosts.map(({ name }) => name);
    expect(hosts('federation')).toContain(gatewayAuthority);
    expect(hosts('hbone')).not.toContain(gatewayAuthority);
    expect(hosts('egress')).not.toContain(gatewayAuthority);
  });

  it.each(['', '1', '1.', '.1', '-1.2', '1.2.3', '99999999999999999999.1', ' 1.2', '0x1.2'])(
    'is not read from "%s"',
    (text) => {
      expect(parseHead(text)).toBeUndefined();
    },
  );
});
