/** Each costly trap of Envoy as a gateway has its test on the generated configuration; test/real/envoy has them running. */
import { describe, expect, it } from 'vitest';
import { ClusterSchema } from '../../../src/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { ClusterLoadAssignmentSchema } from '../../../src/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { ListenerSchema } from '../../../src/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import { HttpConnectionManagerSchema } from '../../../src/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { HttpProtocolOptionsSchema } from '../../../src/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.ts';
import { bootstrapFiles } from '../../../src/translate/envoy/bootstrap.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import { decoded, managerConfig, member, memberView, type ServiceSpec, unpacked, world } from './fixture.ts';

const members = ['us-east', 'us-west', 'eu-central'].map((name, i) =>
  memberView(member(name), [{ id: 'gw-1', address: `10.0.${i}.1` }]),
);
const checkout: ServiceSpec = {
  key: 'shop/checkout',
  tiers: [['us-west'], ['eu-central']],
  pods: [{ name: 'checkout-1', address: '10.244.0.7' }],
};
const resources = gatewayResources(world({ members, services: [checkout] }));
const className = 'us-west>eu-central';
const classCluster = decoded(resources, ClusterSchema, className);
const localCluster = decoded(resources, ClusterSchema, 'local/shop/checkout/80');

const managers = ['egress', 'federation', 'hbone'].flatMap((name) =>
  decoded(resources, ListenerSchema, name).filterChains.map((chain) =>
    unpacked(managerConfig(chain), HttpConnectionManagerSchema),
  ),
);
const upstreamHttp2 = () => {
  const options = unpacked(Object.values(classCluster.typedExtensionProtocolOptions)[0], HttpProtocolOptionsSchema);
  const explicit = options.upstreamProtocolOptions;
  if (explicit.case !== 'explicitHttpConfig') throw new Error('no explicit protocol');
  if (explicit.value.protocolConfig.case !== 'http2ProtocolOptions') throw new Error('not HTTP/2');
  return explicit.value.protocolConfig.value;
};
const routesOf = (name: string) =>
  decoded(resources, RouteConfigurationSchema, name).virtualHosts.flatMap(({ routes }) =>
    routes.map(({ action }) => {
      if (action.case !== 'route') throw new Error('no route');
      return action.value;
    }),
  );

describe('trap 1: RST_STREAM ends connections', () => {
  it('has wide limits on every listener and towards other gateways', () => {
    expect(managers.map(({ statPrefix }) => statPrefix)).toEqual([
      'egress',
      'probe',
      'federation.eu-central',
      'federation.us-west',
      'hbone',
    ]);
    for (const options of [...managers.map((manager) => manager.http2ProtocolOptions), upstreamHttp2()]) {
      expect(options?.streamResetBurst).toBeGreaterThanOrEqual(10_000n);
      expect(options?.streamResetRate).toBeGreaterThanOrEqual(1_000n);
    }
  });
  it('has a wide guard against premature resets, in the bootstrap', () => {
    const [bootstrap] = bootstrapFiles({
      nodeId: 'n',
      cluster: 'us-east',
      admin: { loopbackPort: 15000 },
      controllers: [{ address: '10.0.0.1', port: 15013 }],
      controllerIdentity: 'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-controller',
      files: { certificate: 'c', key: 'k', roots: 'r' },
      directory: '/run',
    });
    expect(bootstrap?.json).toMatchObject({
      layered_runtime: { layers: [{ static_layer: { 'overload.premature_reset_total_stream_count': 100_000 } }] },
    });
  });
});

describe('trap 2: max_retries is 3, and other bounds of 1,024', () => {
  it.each([
    ['a class', classCluster],
    ['a local service', localCluster],
  ])('lifts them for %s', (_, cluster) => {
    const [threshold] = cluster.circuitBreakers!.thresholds;
    for (const bound of ['maxRetries', 'maxConnections', 'maxRequests', 'maxPendingRequests'] as const) {
      expect(threshold?.[bound], bound).toBeGreaterThanOrEqual(1_000_000);
    }
  });
});

describe('trap 3: only pings free streams on a dead connection', () => {
  it('pings, and does not count on timeouts of an attempt', () => {
    expect(upstreamHttp2().connectionKeepalive).toMatchObject({
      interval: { seconds: 0n, nanos: 100_000_000 },
      intervalJitter: { value: 0 },
      connectionIdleInterval: { seconds: 0n, nanos: 50_000_000 },
    });
    for (const route of routesOf('egress')) {
      expect(route.retryPolicy?.perTryTimeout).toBeUndefined();
      expect(route.retryPolicy?.perTryIdleTimeout).toBeUndefined();
    }
  });
});

describe('trap 4: closing connections on failed health checks frees nothing', () => {
  it('is not relied on', () => expect(classCluster.closeConnectionsOnHostHealthFailure).toBe(false));
});

describe('trap 5: a passing health check un-ejects', () => {
  it('is switched off', () => {
    expect(classCluster.outlierDetection?.successfulActiveHealthCheckUnejectHost).toBe(false);
    expect(localCluster.outlierDetection?.successfulActiveHealthCheckUnejectHost).toBe(false);
  });
});

describe('trap 6: a shared cluster shares fate', () => {
  it('ejects only for failures to reach a gateway', () => {
    expect(classCluster.outlierDetection).toMatchObject({
      splitExternalLocalOriginErrors: true,
      enforcingConsecutiveLocalOriginFailure: 100,
      enforcingConsecutive5xx: 0,
      enforcingConsecutiveGatewayFailure: 0,
      enforcingSuccessRate: 0,
      enforcingLocalOriginSuccessRate: 0,
      enforcingFailurePercentage: 0,
      enforcingFailurePercentageLocalOrigin: 0,
    });
  });
  it('needs more failures in a row than a dying pod has tunnels', () => {
    expect(classCluster.outlierDetection?.consecutiveLocalOriginFailure).toBeGreaterThanOrEqual(100);
  });
  it('tries everybody when everybody is out, and uses a tier to its last gateway', () => {
    expect(classCluster.commonLbConfig?.healthyPanicThreshold?.value).toBe(1);
    const endpoints = decoded(resources, ClusterLoadAssignmentSchema, className);
    expect(endpoints.policy?.overprovisioningFactor).toBe(100_000);
  });
});

describe('trap 7: idle tunnels are cut', () => {
  it('has no timeout on any of them', () => {
    const zero = { seconds: 0n, nanos: 0 };
    for (const manager of managers) expect(manager.streamIdleTimeout).toMatchObject(zero);
    for (const route of ['egress', 'federation', 'hbone'].flatMap(routesOf)) {
      expect(route.timeout).toMatchObject(zero);
      expect(route.idleTimeout).toMatchObject(zero);
    }
    expect(managers.map((manager) => manager.commonHttpProtocolOptions?.maxStreamDuration)).toEqual(
      managers.map(() => undefined),
    );
    expect(classCluster.maxRequestsPerConnection).toBeUndefined();
  });
});

describe('trap 8: a dead app behind a living pod', () => {
  it('leaves nothing to connect to, and refuses at once', () => {
    const unready = { ...checkout, pods: [{ name: 'checkout-1', address: '10.244.0.7', ready: false }] };
    const empty = gatewayResources(world({ members, services: [unready] }));
    expect(decoded(empty, ClusterLoadAssignmentSchema, 'local/shop/checkout/80').endpoints).toEqual([]);
    // With a threshold above 0 a service whose pods are all ejected would be tried, a timeout each.
    expect(localCluster.commonLbConfig?.healthyPanicThreshold?.value).toBe(0);
  });
});

describe('trap 9: ztunnel does not retry', () => {
  it('lets two Envoys stand on one port', () => {
    for (const name of ['egress', 'federation', 'hbone']) {
      expect(decoded(resources, ListenerSchema, name).enableReusePort).toBe(true);
    }
  });
  it('tries again in its place: the next priority, another host, soon', () => {
    const [route] = routesOf('egress');
    expect(route?.retryPolicy).toMatchObject({
      retryOn: 'connect-failure,refused-stream,reset,reset-before-request,gateway-error,retriable-status-codes',
      retriableStatusCodes: [404, 429],
      numRetries: 3,
      retryPriority: { name: 'envoy.retry_priorities.previous_priorities' },
      retryHostPredicate: [{ name: 'envoy.retry_host_predicates.previous_hosts' }],
      retryBackOff: { baseInterval: { nanos: 5_000_000 }, maxInterval: { nanos: 50_000_000 } },
    });
  });
});

describe('trap 10: the outlier event log is late and says what was not enforced', () => {
  it('is not asked for', () => expect(JSON.stringify(bootstrapOf())).not.toContain('event_log'));
});

const bootstrapOf = () =>
  bootstrapFiles({
    nodeId: 'n',
    cluster: 'us-east',
    admin: { pipe: '/run/admin.sock' },
    controllers: [
      { address: 'a.isthmus-system.svc', port: 15013 },
      { address: 'b.isthmus-system.svc', port: 15013 },
    ],
    controllerIdentity: 'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-controller',
    files: { certificate: '/c.pem', key: '/k.pem', roots: '/r.pem' },
    directory: '/run/isthmus',
  });
