/**
 * Three clusters' gateways on one machine: real Envoys in a network namespace of their own, E for us-east (127.0.1.1), W for
 * us-west (127.0.2.1), C for eu-central (127.0.3.1), pods beside them. Everything it started goes with it, also when a
 * test fails or the process is killed.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { mkdtemp, readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { toolPath } from '../../../scenarios/lab/tools.ts';
import { type BootstrapFile, bootstrapFiles } from '../../../src/translate/envoy/bootstrap.ts';
import type { Encoded } from '../../../src/translate/envoy/encoded.ts';
import { defaultBinding, type GatewaySecrets, type RoundTrip } from '../../../src/translate/envoy/input.ts';
import { gatewayIdVariable } from '../../../src/translate/envoy/resource_names.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import type { Member } from '../../../src/trust/membership.ts';
import { member, memberView, type ServiceSpec, world } from '../../unit/translate-envoy/fixture.ts';
import { newTestCa, type TestCa } from '../pki.ts';
import type { Operations } from './agent.ts';
import type { CallerTls } from './load.ts';

const run = promisify(execFile);
const namespace = `envt-${process.pid}`;
const adsPort = 15013;

const children = new Set<ChildProcess>();
const dirs = new Set<string>();
let made = false;

/** Also the way out when a test process is interrupted, so nothing here may wait. */
const sweep = (): void => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
  if (made) {
    try {
      execFileSync('ip', ['netns', 'del', namespace], { stdio: 'ignore' });
    } catch {
      // Gone already.
    }
  }
  made = false;
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
  dirs.clear();
};
process.once('exit', sweep);

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export const until = async (what: string, check: () => Promise<boolean>, timeoutMs = 15_000): Promise<void> => {
  const end = performance.now() + timeoutMs;
  for (;;) {
    if (await check().catch(() => false)) return;
    if (performance.now() > end) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await sleep(50);
  }
};

const inside = (file: string, args: readonly string[], options: object): ChildProcess => {
  const child = spawn('ip', ['netns', 'exec', namespace, file, ...args], options);
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
};

type Agent = {
  [K in keyof Operations]: (...args: Parameters<Operations[K]>) => Promise<Awaited<ReturnType<Operations[K]>>>;
};

const startAgent = async (): Promise<Agent> => {
  const child = inside(process.execPath, [join(import.meta.dirname, 'agent.ts')], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced',
  });
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let next = 0;
  const ready = new Promise<void>((resolve) => {
    child.on('message', ({ id, value, error }: { id: number; value?: unknown; error?: string }) => {
      if (id === -1) return resolve();
      const call = waiting.get(id);
      waiting.delete(id);
      if (error === undefined) call?.resolve(value);
      else call?.reject(new Error(error));
    });
  });
  child.once('exit', () => {
    for (const { reject } of waiting.values()) reject(new Error('the agent ended'));
  });
  await ready;
  return new Proxy({} as Agent, {
    get: (_, name) => {
      // Not a promise itself.
      if (name === 'then') return undefined;
      return (...args: unknown[]) =>
        new Promise((resolve, reject) => {
          const id = next++;
          waiting.set(id, { resolve, reject });
          child.send({ id, name, args });
        });
    },
  });
};

/** One running Envoy. */
export class Gateway {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #dir: string;

  constructor(name: string, child: ChildProcess, dir: string) {
    this.name = name;
    this.#child = child;
    this.#dir = dir;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** One of the admin interface's pages. */
  admin(path: string, method = 'GET'): Promise<string> {
    return new Promise((resolve, reject) => {
      const asked = request({ socketPath: join(this.#dir, 'admin.sock'), path, method, timeout: 3_000 }, (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (part) => {
          text += part;
        });
        answer.on('end', () => (answer.statusCode === 200 ? resolve(text) : reject(new Error(text))));
      });
      asked
        .on('timeout', () => asked.destroy(new Error('timeout')))
        .on('error', reject)
        .end();
    });
  }

  /** Counters and gauges whose name matches, those at zero included. */
  async stats(filter: RegExp): Promise<Record<string, number>> {
    const text = await this.admin('/stats?format=text');
    const lines = text.split('\n').flatMap((line) => {
      const at = line.lastIndexOf(': ');
      const name = line.slice(0, at);
      return at > 0 && filter.test(name) ? [[name, Number(line.slice(at + 2))] as const] : [];
    });
    return Object.fromEntries(lines);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async log(): Promise<string> {
    return readFile(join(this.#dir, 'envoy.log'), 'utf8').catch(() => '');
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGCONT');
    this.#child.kill('SIGKILL');
    await gone;
  }
}

export interface ClusterSpec {
  readonly name: string;
  readonly address: string;
  readonly services: readonly ServiceSpec[];
  readonly roundTrips?: ReadonlyMap<string, RoundTrip>;
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
  readonly #members: readonly Member[];
  readonly #gateways = new Map<string, readonly { id: string; address: string; draining?: boolean }[]>();
  readonly #secrets = new Map<string, GatewaySecrets>();
  readonly #envoy: string;
  /** Discovery and pods. */
  readonly world: Agent;
  /** Callers, in a process of their own. */
  readonly callers: Agent;
  readonly #running: Gateway[] = [];

  constructor(parts: {
    dir: string;
    issuers: Issuers;
    members: Member[];
    envoy: string;
    world: Agent;
    callers: Agent;
  }) {
    this.dir = parts.dir;
    this.issuers = parts.issuers;
    this.#members = parts.members;
    this.#envoy = parts.envoy;
    this.world = parts.world;
    this.callers = parts.callers;
  }

  static async start(memberNames = ['us-east', 'us-west', 'eu-central']): Promise<Rig> {
    const dir = await mkdtemp(join(tmpdir(), 'isthmus-envoy-'));
    dirs.add(dir);
    await run('ip', ['netns', 'add', namespace]);
    made = true;
    await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
    const issuers: Issuers = { mesh: await newTestCa('mesh'), federation: new Map() };
    const members: Member[] = [];
    for (const name of memberNames) {
      const ca = await newTestCa(`federation ${name}`);
      issuers.federation.set(name, ca);
      members.push(member(name, { federationCa: new X509Certificate(ca.cert).raw }));
    }
    const [world, callers, envoy] = await Promise.all([startAgent(), startAgent(), toolPath('envoy')]);
    const controller = await issuers.mesh.issue({
      commonName: 'controller',
      uris: [identity('isthmus-system/isthmus-controller')],
    });
    await world.adsListen(`127.0.0.1:${adsPort}`, { ca: issuers.mesh.cert, ...controller });
    return new Rig({ dir, issuers, members, envoy, world, callers });
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

  /** Where a member's gateways are; the default is its one address. */
  useGateways(name: string, gateways: readonly { id: string; address: string; draining?: boolean }[]): void {
    this.#gateways.set(name, gateways);
  }

  input(spec: ClusterSpec) {
    const self = this.#members.find(({ name }) => name === spec.name)!;
    return world({
      settings: { self, trustDomain: 'cluster.local', binding: { ...defaultBinding, address: spec.address } },
      secrets: this.#secrets.get(spec.name)!,
      members: this.#members.map((one) => memberView(one, this.#gateways.get(one.name) ?? [])),
      services: spec.services,
      roundTrips: spec.roundTrips ?? new Map(this.#members.map(({ name }) => [name, { rttMs: 1, varMs: 0 }])),
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
      controllers: [{ address: '127.0.0.1', port: adsPort }],
      controllerIdentity: identity('isthmus-system/isthmus-controller'),
      files: { certificate: path('cert.pem'), key: path('key.pem'), roots: path('roots.pem') },
      directory: dir,
    });
    for (const file of change(files)) writeFileSync(path(file.name), JSON.stringify(file.json));
    const level = process.env.ISTHMUS_TEST_ENVOY_LOG ?? 'warning';
    const child = inside(
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
      const child = inside('nft', ['-f', '-'], { stdio: ['pipe', 'ignore', 'inherit'] });
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
