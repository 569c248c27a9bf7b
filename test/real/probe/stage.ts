/** us-east watches us-west and eu-central: gateways, workloads behind them, and a controller's probers and reports. */
import type { Credentials } from '../../../src/hbone/credentials.ts';
import type { BootstrapFile } from '../../../src/translate/envoy/bootstrap.ts';
import type { Gateway } from '../envoy/gateway.ts';
import { sleep } from '../envoy/processes.ts';
import { Rig } from '../envoy/rig.ts';
import { authorityOf, podOf, sites } from '../envoy/three.ts';
import type { Observed, ObserverSpec } from './observer.ts';

/** `raw` has no TLS inside: its pods answer every chunk, as callers of the load want it. */
export const services = ['checkout', 'cart', 'raw'];
const probed = ['checkout', 'cart'];
export const reportPort = 15_113;
export const workloadIdentity = 'spiffe://cluster.local/ns/shop/sa/default';
export const federationPort = 15_028;

/** Reports go to the observer, discovery stays with the rig. */
export const reportingTo =
  (port: number) =>
  (files: BootstrapFile[]): BootstrapFile[] =>
    files.map((file) => {
      if (file.name !== 'bootstrap.json') return file;
      const json = structuredClone(file.json) as {
        static_resources: {
          clusters: {
            name: string;
            load_assignment: {
              endpoints: { lb_endpoints: { endpoint: { address: { socket_address: { port_value: number } } } }[] }[];
            };
          }[];
        };
        node: { id: string };
      };
      for (const cluster of json.static_resources.clusters) {
        if (cluster.name !== 'isthmus-telemetry') continue;
        cluster.load_assignment.endpoints[0]!.lb_endpoints[0]!.endpoint.address.socket_address.port_value = port;
      }
      return { ...file, json };
    });

export const credentialsOf = async (rig: Rig, account: string): Promise<Credentials> => {
  const { ca, cert, key } = await rig.caller(account);
  return { rootsPem: ca, certificatePem: cert, keyPem: key };
};

export const head = (sequence: bigint) => ({ epoch: 1_795_000_000_000n, sequence });

export class Stage {
  readonly rig: Rig;
  readonly gateways: { readonly east: Gateway; west: Gateway; readonly central: Gateway };
  readonly spec: ObserverSpec;

  constructor(rig: Rig, gateways: Stage['gateways'], spec: ObserverSpec) {
    this.rig = rig;
    this.gateways = gateways;
    this.spec = spec;
  }

  /** What is seen in the next `ms`. */
  async watch(ms: number): Promise<Observed> {
    await this.rig.world.observerTake();
    await sleep(ms);
    return this.rig.world.observerTake();
  }

  async until(what: string, check: (seen: Observed) => boolean, timeoutMs = 15_000): Promise<Observed> {
    const seen: Observed = { probes: [], gray: [], windows: [], localFailures: [], problems: [] };
    const end = performance.now() + timeoutMs;
    await this.rig.world.observerTake();
    for (;;) {
      const more = await this.rig.world.observerTake();
      for (const key of Object.keys(seen) as (keyof Observed)[]) (seen[key] as unknown[]).push(...more[key]);
      if (check(seen)) return seen;
      if (performance.now() > end)
        throw new Error(
          `not within ${timeoutMs} ms: ${what}; saw ${JSON.stringify(seen, (_, v) => (typeof v === 'bigint' ? `${v}` : v)).slice(0, 2_000)}`,
        );
      await sleep(50);
    }
  }

  west(sequence: bigint, over: { readonly ready?: boolean; readonly without?: string } = {}) {
    return this.rig.configure({
      ...sites['us-west'],
      services: services
        .filter((service) => service !== over.without)
        .map((service, i) => ({
          key: `shop/${service}`,
          pods: [{ ...podOf('west', service, i), ready: over.ready ?? true }],
        })),
      head: head(sequence),
    });
  }
}

export interface StageOptions {
  /** Federation certificates of us-west by the CA of another member. */
  readonly impostor?: boolean;
  /** More gateways that us-west is said to have. */
  readonly more?: readonly string[];
}

export const startStage = async ({ impostor = false, more = [] }: StageOptions = {}): Promise<Stage> => {
  const rig = await Rig.start();
  try {
    const workload = await credentialsOf(rig, 'shop/default');
    for (const site of ['west', 'central'] as const) {
      for (const [i, service] of services.entries()) {
        const { name, address } = podOf(site, service, i);
        if (probed.includes(service)) await rig.world.workloadStart(name, address, workload);
        else await rig.world.podStart(name, address, 15_008);
      }
    }
    await rig.world.workloadStart('east-checkout', '127.0.1.101', workload);
    if (impostor) rig.useSecrets('us-west', await rig.secretsFor('us-west', 'eu-central'));
    rig.useGateways('us-west', [
      { id: 'gw-1', address: sites['us-west'].address },
      ...more.map((address, i) => ({ id: `gw-${i + 2}`, address })),
    ]);
    const exported = (site: 'west' | 'central') =>
      services.map((service, i) => ({ key: `shop/${service}`, pods: [podOf(site, service, i)] }));
    await rig.configure({ ...sites['us-west'], services: exported('west'), head: head(1n) });
    await rig.configure({ ...sites['eu-central'], services: exported('central'), head: head(1n) });
    await rig.configure({
      ...sites['us-east'],
      services: services.map((service) => ({ key: `shop/${service}`, tiers: [['us-west'], ['eu-central']] })),
    });
    const target = (member: string, service: string) => ({
      member,
      service: `shop/${service}`,
      authority: authorityOf(service),
      accept: [workloadIdentity],
    });
    const at = (address: string, id = 'gw-1') => ({ id, address, port: federationPort });
    const spec: ObserverSpec = {
      credentials: await credentialsOf(rig, 'isthmus-system/isthmus-controller'),
      issuer: rig.issuers.mesh.cert.toString(),
      reportPort,
      localGateways: [{ name: 'gw-1', address: sites['us-east'].address, port: 15_018 }],
      members: new Map([
        ['us-west', [at(sites['us-west'].address), ...more.map((address, i) => at(address, `gw-${i + 2}`))]],
        ['eu-central', [at(sites['eu-central'].address)]],
      ]),
      services: probed.map((service) => target('us-west', service)),
      gray: [
        {
          service: 'shop/checkout',
          hostname: 'checkout.shop.svc.cluster.local',
          spec: { path: '/healthz', statuses: [{ from: 200, to: 299 }], slowMs: 300, intervalMs: 500, port: undefined },
          local: [{ address: '127.0.1.101', tunnelPort: 15_008, port: 8_080, accept: [workloadIdentity] }],
          remotes: [target('us-west', 'checkout')],
        },
      ],
      path: { rttMs: 1, varMs: 1 },
      authorities: new Map(services.map((service) => [authorityOf(service), `shop/${service}`])),
      clusters: ['us-west>eu-central'],
    };
    await rig.world.observerStart(spec);
    const change = reportingTo(reportPort);
    const [west, central] = await Promise.all([
      rig.launch('us-west', 'gw-1', change),
      rig.launch('eu-central', 'gw-1', change),
    ]);
    const east = await rig.launch('us-east', 'gw-1', change);
    return new Stage(rig, { east, west, central }, spec);
  } catch (error) {
    await rig.stop();
    throw error;
  }
};
