/** Our own exported services: which pods take tunnels from elsewhere, and what does not leave the cluster. */
import { describe, expect, it } from 'vitest';
import { IsthmusError } from '../../../src/core/errors.ts';
import { gatewayAuthority } from '../../../src/core/probing.ts';
import { HeaderValueOption_HeaderAppendAction } from '../../../src/gen/envoy/config/core/v3/base_pb.ts';
import { ClusterLoadAssignmentSchema } from '../../../src/gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import { ListenerSchema } from '../../../src/gen/envoy/config/listener/v3/listener_pb.ts';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import { HttpConnectionManagerSchema } from '../../../src/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { HeaderMutationSchema } from '../../../src/gen/envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation_pb.ts';
import { SecretSchema } from '../../../src/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts';
import { DownstreamTlsContextSchema } from '../../../src/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import { type Encoded, typeUrls } from '../../../src/translate/envoy/encoded.ts';
import { peerHeader } from '../../../src/translate/envoy/resource_names.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import { GatewayTranslation } from '../../../src/translate/envoy/translation.ts';
import { decoded, managerConfig, member, memberView, type PodSpec, unpacked, world } from './fixture.ts';

const members = ['us-east', 'us-west', 'eu-central'].map((name) => memberView(member(name), []));
const hostsOf = (resources: ReturnType<typeof gatewayResources>, name: string) =>
  decoded(resources, RouteConfigurationSchema, name).virtualHosts.flatMap(({ domains }) => domains);

const addressesOf = (pods: PodSpec[], change = (input: ReturnType<typeof world>) => input) => {
  const resources = gatewayResources(change(world({ members, services: [{ key: 'shop/cart', pods }] })));
  return decoded(resources, ClusterLoadAssignmentSchema, 'local/shop/cart/80').endpoints.flatMap(({ lbEndpoints }) =>
    lbEndpoints.map(({ hostIdentifier }) => {
      const address = hostIdentifier.case === 'endpoint' ? hostIdentifier.value.address?.address : undefined;
      return address?.case === 'socketAddress'
        ? `${address.value.address}:${address.value.portSpecifier.value}`
        : undefined;
    }),
  );
};

describe('endpoints of a local service', () => {
  it('are ready pods with a ztunnel in front, in a fixed order, each once', () => {
    const pods = [
      { name: 'b', address: '10.244.0.9' },
      { name: 'a', address: '10.244.0.8' },
      { name: 'a-again', address: '10.244.0.8' },
      { name: 'unready', address: '10.244.0.10', ready: false },
      { name: 'no-ztunnel', address: '10.244.0.11', over: { hbone: false } },
      { name: 'host', address: '10.0.0.1', over: { hostNetwork: true } },
    ];
    expect(addressesOf(pods)).toEqual(['10.244.0.8:15008', '10.244.0.9:15008']);
    expect(addressesOf(pods.toReversed())).toEqual(addressesOf(pods));
  });

  it('follow the pod as well as the slice, whichever says first that it is not ready', () => {
    const pods = [{ name: 'a', address: '10.244.0.8', over: { ready: false } }];
    expect(addressesOf(pods)).toEqual([]);
  });

  it('take an address whose pod is not known yet', () => {
    const unknown = addressesOf([{ name: 'a', address: '10.244.0.8' }], (input) => ({
      ...input,
      local: { ...input.local, pods: new Map() },
    }));
    expect(unknown).toEqual(['10.244.0.8:15008']);
  });
});

describe('routes to local services', () => {
  it('lead to exported services alone', () => {
    const resources = gatewayResources(
      world({
        members,
        services: [
          { key: 'shop/cart', ports: [80, 443], pods: [] },
          { key: 'shop/private', pods: [], exported: false },
          { key: 'shop/remote', tiers: [['us-west']] },
        ],
      }),
    );
    const exported = ['cart.shop.svc.cluster.local:443', 'cart.shop.svc.cluster.local:80'];
    expect(hostsOf(resources, 'federation')).toEqual([...exported, gatewayAuthority].sort());
    expect(hostsOf(resources, 'hbone')).toEqual(exported);
    expect(hostsOf(resources, 'egress')).toEqual(['remote.shop.svc.cluster.local:80']);
    const clusters = resources.filter(({ typeUrl }) => typeUrl === typeUrls.cluster).map(({ name }) => name);
    expect(clusters.filter((name) => name.startsWith('local/'))).toEqual(['local/shop/cart/80', 'local/shop/cart/443']);
  });

  it('lead to TCP ports, each once, also when UDP has the same number', () => {
    const input = world({ members, services: [{ key: 'shop/dns', ports: [53, 54], pods: [], tiers: [['us-west']] }] });
    const view = input.services.get('shop/dns')!;
    const ports = [
      { name: 'dns-udp', port: 53, protocol: 'UDP' },
      { name: 'dns-tcp', port: 53, protocol: 'TCP' },
      { name: 'again', port: 53, protocol: 'kubernetes.io/h2c' },
      { name: 'quic', port: 443, protocol: 'UDP' },
    ];
    const dns = { ...view, ports, local: { ...view.local!, ports } };
    const resources = gatewayResources({ ...input, services: new Map([['shop/dns', dns]]) });
    for (const name of ['egress', 'federation', 'hbone']) {
      expect(hostsOf(resources, name).filter((host) => host !== gatewayAuthority)).toEqual([
        'dns.shop.svc.cluster.local:53',
      ]);
    }
    const named = resources.map(({ typeUrl, name }) => `${typeUrl} ${name}`);
    expect(new Set(named).size).toBe(named.length);
  });

  it('and nowhere for a service without a data path', () => {
    const input = world({ members, services: [{ key: 'shop/cart', pods: [], tiers: [['us-west']] }] });
    const headless = new IsthmusError('service/headless', 'shop/cart is headless');
    const view = { ...input.services.get('shop/cart')!, unsupported: headless };
    const resources = gatewayResources({ ...input, services: new Map([['shop/cart', view]]) });
    expect(['egress', 'federation', 'hbone'].flatMap((name) => hostsOf(resources, name))).toEqual([gatewayAuthority]);
  });
});

describe('a service for some members alone', () => {
  const services = (exportedTo?: readonly string[]) => [
    { key: 'shop/cart', ports: [80], pods: [] },
    { key: 'shop/secret', ports: [80], pods: [], ...(exportedTo && { exportedTo }) },
  ];
  const peers = (resources: readonly Encoded[], host: string): string[] =>
    decoded(resources, RouteConfigurationSchema, 'federation')
      .virtualHosts.filter(({ name }) => name === host)
      .flatMap(({ routes }) => routes.flatMap(({ match }) => match?.headers ?? []))
      .filter(({ name }) => name === peerHeader)
      .map(({ headerMatchSpecifier: how }) =>
        how.case === 'stringMatch' && how.value.matchPattern.case === 'exact' ? how.value.matchPattern.value : '',
      );
  const secret = 'secret.shop.svc.cluster.local:80';

  it('has a route for those alone at the border, and none where it is not known who asks', () => {
    const resources = gatewayResources(world({ members, services: services(['eu-central', 'us-west']) }));
    expect(peers(resources, secret)).toEqual(['eu-central', 'us-west']);
    expect(peers(resources, 'cart.shop.svc.cluster.local:80')).toEqual([]);
    expect(hostsOf(resources, 'hbone')).toEqual(['cart.shop.svc.cluster.local:80']);
  });

  it('has none for anybody when it names nobody', () => {
    const resources = gatewayResources(world({ members, services: services([]) }));
    const host = decoded(resources, RouteConfigurationSchema, 'federation').virtualHosts.find(
      ({ name }) => name === secret,
    );
    expect(host?.routes).toEqual([]);
  });

  it('each chain says of which member it is, and overwrites what the caller says', () => {
    const { filterChains } = decoded(gatewayResources(world({ members })), ListenerSchema, 'federation');
    const said = filterChains.map((chain) => {
      const manager = unpacked(managerConfig(chain), HttpConnectionManagerSchema);
      const [early, ...more] = manager.earlyHeaderMutationExtensions;
      expect(more).toEqual([]);
      const [mutation] = unpacked(early?.typedConfig, HeaderMutationSchema).mutations;
      return [chain.name, mutation?.action.case === 'append' ? mutation.action.value : undefined];
    });
    expect(said.length).toBeGreaterThan(1);
    for (const [name, value] of said) {
      expect(value).toMatchObject({
        header: { key: peerHeader, value: name },
        appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
      });
    }
  });

  it('is the same tick by tick: routes alone change when its members do', () => {
    const translation = new GatewayTranslation();
    const none = { services: new Set<string>(), pods: new Set<string>(), members: false };
    translation.rebuild(world({ members, services: services() }));
    for (const to of [['us-west'], ['eu-central'], undefined]) {
      const input = world({ members, services: services(to) });
      const delta = translation.update(input, { ...none, services: new Set(['shop/secret']) });
      const routes = gatewayResources(input).filter(({ typeUrl }) => typeUrl === typeUrls.routes);
      for (const changed of delta.changed.filter(({ typeUrl }) => typeUrl === typeUrls.routes)) {
        const whole = routes.find(({ name }) => name === changed.name)!;
        expect(Buffer.compare(changed.bytes, whole.bytes), changed.name).toBe(0);
      }
      expect(delta.changed.some(({ typeUrl }) => typeUrl === typeUrls.listener)).toBe(false);
      expect(delta.changed.map(({ name }) => name)).toContain('federation');
    }
  });
});

describe('the federation listener', () => {
  it('has a chain for each other member: its SNI, its CA alone, its exact name', () => {
    const resources = gatewayResources(world({ members }));
    const { filterChains, defaultFilterChain, listenerFilters } = decoded(resources, ListenerSchema, 'federation');
    expect(defaultFilterChain).toBeUndefined();
    expect(listenerFilters.map(({ name }) => name)).toEqual(['envoy.filters.listener.tls_inspector']);
    const chains = filterChains.map(({ filterChainMatch, transportSocket }) => {
      const config = transportSocket?.configType;
      const tls = unpacked(config?.case === 'typedConfig' ? config.value : undefined, DownstreamTlsContextSchema);
      const validation = tls.commonTlsContext?.validationContextType;
      if (validation?.case !== 'combinedValidationContext') throw new Error('no validation');
      expect(tls.requireClientCertificate).toBe(true);
      expect(tls.disableStatefulSessionResumption).toBe(true);
      return [
        filterChainMatch?.serverNames,
        validation.value.validationContextSdsSecretConfig?.name,
        validation.value.defaultValidationContext?.matchTypedSubjectAltNames.map(
          ({ matcher }) => matcher?.matchPattern,
        ),
      ];
    });
    expect(chains).toEqual(
      ['eu-central', 'us-west'].map((name) => [
        [`${name}.demo.federation.isthmus`],
        `member/${name}`,
        [{ case: 'exact', value: `spiffe://demo/cluster/${name}` }],
      ]),
    );
  });

  it('checks each member against a secret of its own', () => {
    const other = member('us-west', { federationCa: new Uint8Array(100).fill(7) });
    const resources = gatewayResources(world({ members: [memberView(other, [])] }));
    const { type } = decoded(resources, SecretSchema, 'member/us-west');
    const ca = type.case === 'validationContext' ? type.value.trustedCa?.specifier.value : undefined;
    expect(ca).toBe(
      `-----BEGIN CERTIFICATE-----\n${Buffer.alloc(100, 7).toString('base64').slice(0, 64)}\n` +
        `${Buffer.alloc(100, 7).toString('base64').slice(64, 128)}\n` +
        `${Buffer.alloc(100, 7).toString('base64').slice(128)}\n-----END CERTIFICATE-----\n`,
    );
  });
});

describe('every resource', () => {
  it('has the same bytes whatever the order of what it is made from', () => {
    const services = ['a', 'b', 'c'].map((name) => ({
      key: `shop/${name}`,
      pods: [{ name: `${name}-1`, address: `10.244.0.${name.charCodeAt(0)}` }],
      tiers: [['us-west'], ['eu-central']],
    }));
    const hex = (input: ReturnType<typeof world>) =>
      gatewayResources(input)
        .map(({ typeUrl, name, bytes }) => `${typeUrl} ${name} ${Buffer.from(bytes).toString('hex')}`)
        .sort();
    expect(hex(world({ members: members.toReversed(), services: services.toReversed() }))).toEqual(
      hex(world({ members, services })),
    );
  });
});
