/**
 * Three clusters' gateways on one machine: real Envoys in a network namespace of their own, E for us-east (127.0.1.1), W for
 * us-west (127.0.2.1), C for eu-central (127.0.3.1), pods beside them. Everything it started goes with it, also when a
 * test fails or the process is killed.
 */
import { X509Certificate } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toolPath } from '../../../scenarios/lab/tools.ts';
import type { Grant } from '../../../src/failover/plan.ts';
import { type BootstrapFile, bootstrapFiles } from '../../../src/translate/envoy/bootstrap.ts';
import type { Encoded } from '../../../src/translate/envoy/encoded.ts';
import {
  defaultBinding,
  type GatewayInput,
  type GatewaySecrets,
  type RoundTrip,
} from '../../../src/translate/envoy/input.ts';
import { gatewayIdVariable } from '../../../src/translate/envoy/resource_names.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import type { Member } from '../../../src/trust/membership.ts';
import { member, memberView, type ServiceSpec, world } from '../../unit/translate-envoy/fixture.ts';
import { newTestCa, type TestCa } from '../pki.ts';
import { Gateway } from './gateway.ts';
import type { CallerTls } from './load.ts';
import { type Agent, inside, newDirectory, newNamespace, startAgent, sweep, until } from './processes.ts';

const adsPort = 15013;

export interface ClusterSpec {
  readonly name: string;
  readonly address: string;
  readonly services: readonly ServiceSpec[];
  readonly roundTrips?: ReadonlyMap<string, RoundTrip>;
  readonly head?: GatewayInput['head'];
  readonly grants?: readonly Grant[];
  readonly egress?: GatewayInput['egress'];
  /** Of every identity that no rule names. */
  readonly identityConnectsPerSecond?: number;
}

interface Issuers {
  readonly mesh: TestCa;
  readonly federation: Map<string, TestCa>;
}

const identity = (account: string): string =>
  `spiffe://cluster.local/ns/${account.split('/')[0]}/sa/${account.split('/')[1]}`;

export class Rig {
  readonly dir: string;
  readonly issuers: Issuers;
  #members: readonly Member[];
  readonly #gateways = new Map<string, readonly { id: string; address: string; draining?: boolean }[]>();
  readonly #secrets = new Map<string, GatewaySecrets>();
  readonly #envoy: string;
  /** Discovery and pods. */
  readonly world: Agent;
  /** Callers, in a process of their own. */
  readonly callers: Agent;
  /** Where Envoys run, unless told otherwise. */
  readonly namespace: string;
  readonly #running: Gateway[] = [];

  constructor(parts: {
    namespace: string;
    dir: string;
    issuers: Issuers;
    members: Member[];
    envoy: string;
    world: Agent;
    callers: Agent;
  }) {
    this.namespace = parts.namespace;
    this.dir = parts.dir;
    this.issuers = parts.issuers;
    this.#members = parts.members;
    this.#envoy = parts.envoy;
    this.world = parts.world;
    this.callers = parts.callers;
  }

  static async start(memberNames = ['us-east', 'us-west', 'eu-central']): Promise<Rig> {
    const dir = await newDirectory();
    const namespace = await newNamespace('east');
    const issuers: Issuers = { mesh: await newTestCa('mesh'), federation: new Map() };
    const members: Member[] = [];
    for (const name of memberNames) {
      const ca = await newTestCa(`federation ${name}`);
      issuers.federation.set(name, ca);
      members.push(member(name, { federationCa: new X509Certificate(ca.cert).raw }));
    }
    const [world, callers, envoy] = await Promise.all([
      startAgent(namespace),
      startAgent(namespace),
      toolPath('envoy'),
    ]);
    const controller = await issuers.mesh.issue({
      commonName: 'controller',
      uris: [identity('isthmus-system/isthmus-controller')],
    });
    await world.adsListen(`0.0.0.0:${adsPort}`, { ca: issuers.mesh.cert, ...controller });
    return new Rig({ namespace, dir, issuers, members, envoy, world, callers });
  }

  /** Certificates for a member's gateways; `federation` may come from another member's CA, to be refused. */
  async secretsFor(name: string, federationIssuer = name): Promise<GatewaySecrets> {
    const mesh = await this.issuers.mesh.issue({
      commonName: name,
      uris: [identity('isthmus-system/isthmus-gateway')],
    });
    const ca = this.issuers.federation.get(federationIssuer)!;
    const federation = await ca.issue({ commonName: name, uris: [`spiffe://demo/cluster/${name}`] });
    const roots = this.issuers.mesh.cert.toString();
    return {
      mesh: { chain: mesh.cert.toString(), key: mesh.key.toString() },
      federation: { chain: federation.cert.toString(), key: federation.key.toString() },
      meshRoots: roots,
      tradedRoots: roots,
    };
  }

  useSecrets(name: string, secrets: GatewaySecrets): void {
    this.#secrets.set(name, secrets);
  }

  /** From the next `configure` on. */
  removeMember(name: string): void {
    this.#members = this.#members.filter((one) => one.name !== name);
  }

  /** Where a member's gateways are; the default is its one address. */
  useGateways(name: string, gateways: readonly { id: string; address: string; draining?: boolean }[]): void {
    this.#gateways.set(name, gateways);
  }

  input(spec: ClusterSpec) {
    const self = this.#members.find(({ name }) => name === spec.name)!;
    return world({
      settings: {
        self,
        trustDomain: 'cluster.local',
        binding: { ...defaultBinding, address: spec.address },
        envoysPerGateway: 1,
        ...(spec.identityConnectsPerSecond && { identityConnectsPerSecond: spec.identityConnectsPerSecond }),
      },
      secrets: this.#secrets.get(spec.name)!,
      members: this.#members.map((one) => memberView(one, this.#gateways.get(one.name) ?? [])),
      services: spec.services,
      grants: spec.grants ?? [],
      roundTrips: spec.roundTrips ?? new Map(this.#members.map(({ name }) => [name, { rttMs: 1, varMs: 0 }])),
      head: spec.head,
      ...(spec.egress && { egress: spec.egress }),
    });
  }

  resources(spec: ClusterSpec): Encoded[] {
    return gatewayResources(this.input(spec));
  }

  /** Gives a cluster's gateways what follows from `spec`; `change` may alter the resources for a test of what they do. */
  async configure(spec: ClusterSpec, change: (resources: Encoded[]) => Encoded[] = (same) => same): Promise<void> {
    if (!this.#secrets.has(spec.name)) this.#secrets.set(spec.name, await this.secretsFor(spec.name));
    if (!this.#gateways.has(spec.name)) this.#gateways.set(spec.name, [{ id: 'gw-1', address: spec.address }]);
    await this.world.adsSet(spec.name, change(this.resources(spec)));
  }

  async launch(
    name: string,
    id = 'gw-1',
    change: (files: BootstrapFile[]) => BootstrapFile[] = (same) => same,
    at: { readonly namespace: string; readonly controller: string } = {
      namespace: this.namespace,
      controller: '127.0.0.1',
    },
    more: readonly string[] = [],
  ): Promise<Gateway> {
    const dir = join(this.dir, `${name}-${id}-${this.#running.length}`);
    mkdirSync(dir);
    const { mesh } = this.#secrets.get(name)!;
    const path = (file: string) => join(dir, file);
    writeFileSync(path('cert.pem'), mesh.chain);
    writeFileSync(path('key.pem'), mesh.key, { mode: 0o600 });
    writeFileSync(path('roots.pem'), this.issuers.mesh.cert);
    const files = bootstrapFiles({
      nodeId: name,
      cluster: name,
      admin: { pipe: path('admin.sock') },
      controllers: [{ address: at.controller, port: adsPort }],
      controllerIdentity: identity('isthmus-system/isthmus-controller'),
      files: { certificate: path('cert.pem'), key: path('key.pem'), roots: path('roots.pem') },
      directory: dir,
    });
    for (const file of change(files)) writeFileSync(path(file.name), JSON.stringify(file.json));
    const level = process.env.ISTHMUS_TEST_ENVOY_LOG ?? 'warning';
    const child = inside(
      at.namespace,
      this.#envoy,
      [
        '-c',
        path('bootstrap.json'),
        '--use-dynamic-base-id',
        '--concurrency',
        '1',
        '-l',
        level,
        '--log-path',
        path('envoy.log'),
        ...more,
      ],
      { stdio: 'ignore', env: { ...process.env, [gatewayIdVariable]: id } },
    );
    const gateway = new Gateway(name, child, dir);
    this.#running.push(gateway);
    const listening = async () => {
      const listeners = await gateway.admin('/listeners?format=json');
      return ['egress', 'federation', 'hbone'].every((one) => listeners.includes(`"${one}"`)) && (await live(gateway));
    };
    try {
      await until(`${name} serves`, listening, 20_000);
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${(await gateway.log()).slice(-3_000)}`);
    }
    return gateway;
  }

  /** A caller's certificate in the mesh. */
  async caller(account = 'shop/client'): Promise<CallerTls> {
    const issued = await this.issuers.mesh.issue({ commonName: account, uris: [identity(account)] });
    return { ca: this.issuers.mesh.cert.toString(), cert: issued.cert.toString(), key: issued.key.toString() };
  }

  /** A certificate as a member's gateways have it, and the SNI they set. */
  async peer(name: string, issuer = name, towards = 'us-west'): Promise<CallerTls> {
    const issued = await this.issuers.federation
      .get(issuer)!
      .issue({ commonName: name, uris: [`spiffe://demo/cluster/${name}`] });
    return {
      ca: this.issuers.federation.get(towards)!.cert.toString(),
      cert: issued.cert.toString(),
      key: issued.key.toString(),
      servername: `${name}.demo.federation.isthmus`,
    };
  }

  /** Drops every packet to and from these addresses, without a word. */
  async cut(...addresses: string[]): Promise<void> {
    const rules = addresses.flatMap((a) => [`ip daddr ${a} drop`, `ip saddr ${a} drop`]);
    await this.nft(`table inet cut {\nchain in {\ntype filter hook input priority 0;\n${rules.join('\n')}\n}\n}\n`);
  }

  async heal(): Promise<void> {
    await this.nft('table inet cut\ndelete table inet cut\n');
  }

  async nft(text: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const child = inside(this.namespace, 'nft', ['-f', '-'], { stdio: ['pipe', 'ignore', 'inherit'] });
      child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`nft: ${code}`))));
      child.stdin?.end(text);
    });
  }

  async stop(): Promise<void> {
    for (const gateway of this.#running) await gateway.stop();
    sweep();
  }
}

const live = async (gateway: Gateway): Promise<boolean> => {
  const text = await gateway.admin('/ready');
  return text.trim() === 'LIVE';
};
