/** Real etcd processes for tests: TLS, client certificates, free loopback ports, and a data directory that can be copied. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, rmSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { toolPath } from '../../scenarios/lab/tools.ts';
import { boundToLife } from '../../src/gateway/orphans.ts';
import { realClock } from '../../src/ops/clock.ts';
import { connectStore, type EtcdOptions, type EtcdStore, type EtcdTuning } from '../../src/store/etcd.ts';
import { newTestCa, type TestCa } from './pki.ts';
import { freePorts } from './ports.ts';

export interface ClientTls {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

export interface EtcdProcess {
  readonly name: string;
  readonly port: number;
  readonly url: string;
  readonly dataDir: string;
  /** `more`: further flags from now on. */
  start(more?: readonly string[]): Promise<void>;
  /** Ends it (SIGTERM unless told otherwise) and waits. Harmless when it does not run. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** SIGSTOP, SIGCONT. */
  pause(): void;
  resume(): void;
}

export interface TestEtcd {
  readonly ca: TestCa;
  readonly members: readonly EtcdProcess[];
  /** The endpoints of all members. */
  readonly endpoints: readonly string[];
  /** A client certificate with this common name. */
  client(commonName: string): Promise<ClientTls>;
  /** A store as this common name; `override` replaces any of its options. */
  store(commonName: string, override?: Partial<EtcdOptions>, tuning?: EtcdTuning): Promise<EtcdStore>;
  /** Copies the data of a stopped single member away, or back. */
  saveData(to: string): Promise<void>;
  restoreData(from: string): Promise<void>;
  /** Empties it. */
  clearData(): Promise<void>;
  /** A directory that goes away with it. */
  readonly dir: string;
  stop(): Promise<void>;
}

const running = new Set<ChildProcess>();
const dirs = new Set<string>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const dir of dirs) rmSync(dir, { recursive: true, force: true });
});

export interface TestEtcdOptions {
  readonly members?: 1 | 3;
  /** Further flags of etcd. */
  readonly args?: readonly string[];
}

export const startEtcd = async (options: TestEtcdOptions = {}): Promise<TestEtcd> => {
  const binary = await toolPath('etcd');
  const dir = await mkdtemp(join(tmpdir(), 'isthmus-etcd-'));
  dirs.add(dir);
  const ca = await newTestCa('etcd test CA');
  const server = await ca.issue({ commonName: 'etcd', dns: ['localhost'], ips: ['127.0.0.1'] });
  const files = { ca: join(dir, 'ca.pem'), cert: join(dir, 'server.pem'), key: join(dir, 'server-key.pem') };
  await Promise.all([
    writeFile(files.ca, ca.cert),
    writeFile(files.cert, server.cert),
    writeFile(files.key, server.key, { mode: 0o600 }),
  ]);
  const count = options.members ?? 1;
  const ports = await freePorts(count * 2);
  const peers = Array.from({ length: count }, (_, i) => `m${i}=https://127.0.0.1:${ports[i * 2 + 1]}`).join(',');
  const members = Array.from({ length: count }, (_, i) =>
    newProcess({
      binary,
      dir,
      name: `m${i}`,
      port: ports[i * 2]!,
      args: [
        ...['--initial-cluster', peers, '--initial-advertise-peer-urls', `https://127.0.0.1:${ports[i * 2 + 1]}`],
        ...['--listen-peer-urls', `https://127.0.0.1:${ports[i * 2 + 1]}`],
        ...['--cert-file', files.cert, '--key-file', files.key, '--trusted-ca-file', files.ca, '--client-cert-auth'],
        ...['--peer-cert-file', files.cert, '--peer-key-file', files.key, '--peer-trusted-ca-file', files.ca],
        ...['--peer-client-cert-auth', '--heartbeat-interval', '50', '--election-timeout', '500'],
        ...['--log-level', 'warn', ...(options.args ?? [])],
      ],
    }),
  );
  const stop = async (): Promise<void> => {
    await Promise.all(members.map((m) => m.stop('SIGKILL')));
    await rm(dir, { recursive: true, force: true });
    dirs.delete(dir);
  };
  const client = async (commonName: string): Promise<ClientTls> => ({
    ca: ca.cert,
    ...(await ca.issue({ commonName })),
  });
  const endpoints = members.map((m) => m.url);
  const first = members[0]!;
  try {
    await Promise.all(members.map((m) => m.start()));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    ca,
    members,
    endpoints,
    dir,
    client,
    store: async (commonName, override = {}, tuning = {}) =>
      connectStore({ endpoints, ...(await client(commonName)), clock: realClock, log: () => {}, ...override }, tuning),
    saveData: (to) => cp(first.dataDir, to, { recursive: true }),
    restoreData: async (from) => {
      await rm(first.dataDir, { recursive: true, force: true });
      await cp(from, first.dataDir, { recursive: true });
    },
    clearData: () => rm(first.dataDir, { recursive: true, force: true }),
    stop,
  };
};

interface Spec {
  readonly binary: string;
  readonly dir: string;
  readonly name: string;
  readonly port: number;
  readonly args: readonly string[];
}

const newProcess = ({ binary, dir, name, port, args }: Spec): EtcdProcess => {
  const url = `https://127.0.0.1:${port}`;
  const dataDir = join(dir, name);
  const log = join(dir, `${name}.log`);
  let child: ChildProcess | undefined;
  let further: readonly string[] = [];

  const start = async (more: readonly string[] = further): Promise<void> => {
    further = more;
    const out = openSync(log, 'a');
    const all = ['--name', name, '--data-dir', dataDir, '--listen-client-urls', url, '--advertise-client-urls', url];
    const bound = boundToLife(binary, [...all, ...args, ...further]);
    const started = spawn(bound.command, bound.args, { stdio: ['ignore', out, out], env: {} });
    closeSync(out);
    child = started;
    running.add(started);
    started.once('exit', () => running.delete(started));
    await listening(port, started, log);
  };

  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    const ending = child;
    child = undefined;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
    const gone = new Promise((resolve) => ending.once('exit', resolve));
    ending.kill('SIGCONT');
    ending.kill(signal);
    await gone;
  };

  return {
    name,
    port,
    url,
    dataDir,
    start,
    stop,
    pause: () => child?.kill('SIGSTOP'),
    resume: () => child?.kill('SIGCONT'),
  };
};

/** Waits until the client port is open: etcd opens it when the member has joined and has a leader. */
const listening = async (port: number, child: ChildProcess, log: string): Promise<void> => {
  const { connect } = await import('node:net');
  const deadline = Date.now() + 30_000;
  for (;;) {
    if (child.exitCode !== null || Date.now() > deadline) {
      throw new Error(`etcd did not start:\n${(await readFile(log, 'utf8')).slice(-3_000)}`);
    }
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('connect', () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
