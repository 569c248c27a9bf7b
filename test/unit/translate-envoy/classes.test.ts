/** Clusters and endpoints of classes: who is in them, in which order, and with which timers. */
import { describe, expect, it } from 'vitest';
import { ClusterSchema } from '../../../src/gen/envoy/config/cluster/v3/cluster_pb.ts';
import { HealthStatus } from '../../../src/gen/envoy/config/core/v3/health_check_pb.ts';
import { ClusterLoadAssignmentSchema } from '../../../src/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import { UpstreamTlsContextSchema } from '../../../src/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import { typeUrls } from '../../../src/translate/envoy/encoded.ts';
import { isClassCluster } from '../../../src/translate/envoy/resource_names.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import { timersFor, unmeasured } from '../../../src/translate/envoy/timers.ts';
import { decoded, type GatewaySpec, member, memberView, type ServiceSpec, unpacked, world } from './fixture.ts';

const gateways: Record<string, GatewaySpec[]> = {
  'us-east': [{ id: 'gw-1', address: '10.0.0.1' }],
  'us-west': [
    { id: 'gw-2', address: '10.1.0.2', draining: true },
    { id: 'gw-1', address: '10.1.0.1' },
  ],
  'eu-central': [{ id: 'gw-1', address: '10.2.0.1' }],
  'ap-south': [],
};
const members = Object.entries(gateways).map(([name, list]) => memberView(member(name), list));
const translate = (services: ServiceSpec[], rest: object = {}) =>
  gatewayResources(world({ members, services, ...rest }));
const clusterNames = (resources: ReturnType<typeof translate>) =>
  resources.filter(({ typeUrl, name }) => typeUrl === typeUrls.cluster && isClassCluster(name)).map((r) => r.name);

describe('classes', () => {
  it('are one cluster for all services with the same peers, order, weights and policy', () => {
    const services = Array.from({ length: 50 }, (_, i) => ({
      key: `shop/s${i}`,
      tiers: i % 2 === 0 ? [['us-west'], ['eu-central']] : [['eu-central'], ['us-west']],
    }));
    expect(clusterNames(translate(services)).sort()).toEqual(['eu-central>us-west', 'us-west>eu-central']);
  });

  it('are of one service alone when it has a traffic policy', () => {
    const tiers = [['us-west']];
    const trafficPolicy = { maxConnections: 7, consecutiveGatewayErrors: 3, baseEjectionTimeMs: 60_000 };
    const resources = translate([
      { key: 'shop/a', tiers },
      { key: 'shop/b', tiers, trafficPolicy },
      { key: 'shop/c', tiers, trafficPolicy },
    ]);
    const names = clusterNames(resources);
    expect(names).toHaveLength(3);
    const own = decoded(resources, ClusterSchema, names.find((name) => name.endsWith('@shop/b'))!);
    expect(own.circuitBreakers?.thresholds[0]).toMatchObject({ maxConnections: 7, maxRequests: 7 });
    expect(own.outlierDetection).toMatchObject({
      splitExternalLocalOriginErrors: false,
      consecutiveGatewayFailure: 3,
      enforcingConsecutiveGatewayFailure: 100,
      enforcingConsecutive5xx: 0,
      baseEjectionTime: { seconds: 60n },
      maxEjectionTime: { seconds: 60n },
      successfulActiveHealthCheckUnejectHost: false,
    });
  });

  it('take 0 in a policy as "never", and leave alone what it does not name', () => {
    const trafficPolicy = { consecutive5xxErrors: 0, maxEjectionPercent: 50, intervalMs: 2_500 };
    const [name] = clusterNames(translate([{ key: 'shop/a', tiers: [['us-west']], trafficPolicy }]));
    const cluster = decoded(translate([{ key: 'shop/a', tiers: [['us-west']], trafficPolicy }]), ClusterSchema, name!);
    expect(cluster.outlierDetection).toMatchObject({
      enforcingConsecutive5xx: 0,
      maxEjectionPercent: 50,
      interval: { seconds: 2n, nanos: 500_000_000 },
    });
    expect(cluster.circuitBreakers?.thresholds[0]?.maxConnections).toBeGreaterThan(1_000_000);
  });

  it('have a transport socket for each member: its CA alone, its exact name, our SNI', () => {
    const cluster = decoded(
      translate([{ key: 'shop/a', tiers: [['us-west'], ['eu-central']] }]),
      ClusterSchema,
      'us-west>eu-central',
    );
    const seen = cluster.transportSocketMatches.map(({ match, transportSocket }) => {
      const config = transportSocket?.configType;
      const tls = unpacked(config?.case === 'typedConfig' ? config.value : undefined, UpstreamTlsContextSchema);
      const validation = tls.commonTlsContext?.validationContextType;
      if (validation?.case !== 'combinedValidationContext') throw new Error('no validation');
      const [san] = validation.value.defaultValidationContext!.matchTypedSubjectAltNames;
      return [match, tls.sni, validation.value.validationContextSdsSecretConfig?.name, san?.matcher?.matchPattern];
    });
    const sni = 'us-east.demo.federation.isthmus';
    expect(seen).toEqual([
      [
        { member: 'eu-central' },
        sni,
        'member/eu-central',
        { case: 'exact', value: 'spiffe://demo/cluster/eu-central' },
      ],
      [{ member: 'us-west' }, sni, 'member/us-west', { case: 'exact', value: 'spiffe://demo/cluster/us-west' }],
    ]);
    // What matches nothing meets the first member's check, never the clear.
    expect(cluster.transportSocket).toEqual(cluster.transportSocketMatches[0]?.transportSocket);
  });
});

describe('endpoints of a class', () => {
  const endpointsOf = (tiers: ServiceSpec['tiers'], name: string) =>
    decoded(translate([{ key: 'shop/a', tiers: tiers! }]), ClusterLoadAssignmentSchema, name).endpoints;

  it('are the gateways of each tier, a priority a tier, a locality a member', () => {
    const seen = endpointsOf([['us-west'], ['eu-central']], 'us-west>eu-central').map((locality) => [
      locality.priority,
      locality.locality?.subZone,
      locality.lbEndpoints.map(({ healthStatus, metadata, hostIdentifier }) => {
        const address = hostIdentifier.case === 'endpoint' ? hostIdentifier.value.address?.address : undefined;
        const socket = address?.case === 'socketAddress' ? address.value : undefined;
        return [socket?.address, socket?.portSpecifier.value, healthStatus, metadata?.filterMetadata];
      }),
    ]);
    const socket = (name: string) => ({ 'envoy.transport_socket_match': { member: name } });
    expect(seen).toEqual([
      [
        0,
        'us-west',
        [
          ['10.1.0.1', 15028, HealthStatus.UNKNOWN, socket('us-west')],
          ['10.1.0.2', 15028, HealthStatus.DRAINING, socket('us-west')],
        ],
      ],
      [1, 'eu-central', [['10.2.0.1', 15028, HealthStatus.UNKNOWN, socket('eu-central')]]],
    ]);
  });

  it('share a tier by weight, whatever the number of gateways', () => {
    const tiers = [
      [
        { member: 'us-west', weight: 30 },
        { member: 'eu-central', weight: 10 },
      ],
    ];
    const [name] = clusterNames(translate([{ key: 'shop/a', tiers }]));
    const weights = endpointsOf(tiers, name!).map(({ locality, loadBalancingWeight }) => [
      locality?.subZone,
      loadBalancingWeight,
    ]);
    expect(
      new Map(weights as [string, number][]).get('us-west')! /
        new Map(weights as [string, number][]).get('eu-central')!,
    ).toBeGreaterThanOrEqual(2);
  });

  it('have no gap where a member has no gateway', () => {
    const endpoints = endpointsOf([['ap-south'], ['us-west']], 'ap-south>us-west');
    expect(endpoints.map(({ priority, locality }) => [priority, locality?.subZone])).toEqual([[0, 'us-west']]);
  });

  it('are kept for a service that nobody can serve just now', () => {
    const input = world({ members, services: [{ key: 'shop/a', tiers: [['us-west']] }] });
    const plan = input.plan.services.get('shop/a')!;
    const unusable = { ...input, plan: { ...input.plan, services: new Map([['shop/a', { ...plan, usable: false }]]) } };
    const { endpoints } = decoded(gatewayResources(unusable), ClusterLoadAssignmentSchema, 'us-west');
    expect(endpoints).toHaveLength(1);
    expect(decoded(gatewayResources(unusable), RouteConfigurationSchema, 'egress').virtualHosts).toHaveLength(1);
  });
});

describe('timers', () => {
  it('bear a lost ping and its lost repetition: 2 × (RTT + max(200 ms, 4 × deviation)), or more', () => {
    for (const rttMs of [0, 1, 17, 80, 250]) {
      for (const varMs of [0, 10, 80]) {
        const timers = timersFor([{ rttMs, varMs }]);
        const least = 2 * (rttMs + Math.max(200, 4 * varMs));
        expect(timers.pingTimeoutMs).toBeGreaterThanOrEqual(least);
        expect(timers.pingTimeoutMs).toBeLessThan(least + 10);
        expect(timers.connectTimeoutMs).toBeGreaterThanOrEqual(Math.max(250, 2 * rttMs));
        expect(timers.healthTimeoutMs).toBeGreaterThanOrEqual(timers.pingTimeoutMs);
      }
    }
  });
  it('follow the slowest of a class, and a far one where nothing was measured', () => {
    const near = { rttMs: 2, varMs: 1 };
    const far = { rttMs: 140, varMs: 10 };
    expect(timersFor([near, far])).toEqual(timersFor([far]));
    expect(timersFor([])).toEqual(timersFor([unmeasured]));
  });
  it('do not tremble with the round trip', () => {
    expect(timersFor([{ rttMs: 81, varMs: 3 }])).toEqual(timersFor([{ rttMs: 83, varMs: 5 }]));
  });
  it('end a silent cut within 0.6 s where the round trip is short, the next attempt included', () => {
    const { pingIntervalMs, pingTimeoutMs } = timersFor([{ rttMs: 5, varMs: 50 }]);
    expect(pingIntervalMs + pingTimeoutMs).toBeLessThanOrEqual(520);
  });
  it('reach the cluster', () => {
    const services = [{ key: 'shop/a', tiers: [['us-west'], ['eu-central']] }];
    const roundTrips = new Map([
      ['us-west', { rttMs: 60, varMs: 5 }],
      ['eu-central', { rttMs: 110, varMs: 5 }],
    ]);
    const cluster = decoded(translate(services, { roundTrips }), ClusterSchema, 'us-west>eu-central');
    expect(cluster.connectTimeout).toMatchObject({ seconds: 0n, nanos: 530_000_000 });
    expect(cluster.healthChecks[0]?.timeout).toMatchObject({ seconds: 0n, nanos: 640_000_000 });
  });
});
