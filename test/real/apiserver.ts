/**
 * A real kube-apiserver over an etcd of its own, on free loopback ports, for tests. No kubelet and no controllers: what those
 * would write, the test writes.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubeConfig } from '@kubernetes/client-node';
import { toolPath } from '../../scenarios/lab/tools.ts';
import { boundToLife } from '../../src/gateway/orphans.ts';
import { freePorts } from './ports.ts';

export interface ApiServerOptions {
  /** Default AlwaysAllow. */
  readonly authorization?: 'RBAC' | 'AlwaysAllow';
  /** More flags for kube-apiserver. */
  readonly flags?: readonly string[];
}

export interface ApiServer {
  readonly url: string;
  readonly port: number;
  readonly etcdUrl: string;
  /** PEM of the certificate to trust. */
  readonly ca: string;
  /** As system:masters. */
  readonly kubeConfig: KubeConfig;
  /** A configuration with a token of the caller's choice, optionally through another address on 127.0.0.1. */
  configFor(options: { token?: string; port?: number }): KubeConfig;
  /** One request as system:masters; rejects on a status other than 2xx, with the body in the message. */
  call<T = Record<string, unknown>>(method: string, path: string, body?: unknown, contentType?: string): Promise<T>;
  /** SIGSTOP and SIGCONT to kube-apiserver. */
  pause(): void;
  resume(): void;
  /** SIGKILL; `start` brings it back on the same port with the same data. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Compacts etcd at its current revision. */
  compact(): Promise<void>;
  /** Ends both processes and removes their files. */
  stop(): Promise<void>;
}

const ended = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

const killAndWait = async (child: ChildProcess | undefined): Promise<void> => {
  if (child === undefined || ended(child)) return;
  const exit = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await exit;
};

const until = async (
  what: string,
  log: string,
  child: () => ChildProcess | undefined,
  ready: () => Promise<boolean>,
) => {
  const deadline = performance.now() + 60_000;
  for (;;) {
    if (await ready().catch(() => false)) return;
    const process = child();
    if (process !== undefined && ended(process)) {
      throw new Error(`${what} ended at start:\n${readFileSync(log, 'utf8').slice(-2000)}`);
    }
    if (performance.now() > deadline)
      throw new Error(`${what} is not ready:\n${readFileSync(log, 'utf8').slice(-2000)}`);
    await sleep(50);
  }
};

const post = async (url: string, body: unknown): Promise<Record<string, unknown>> => {
  const response = await fetch(url, { method: 'POST', body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`POST ${url}: ${response.status} ${await response.text()}`);
  return (await response.json()) as Record<string, unknown>;
};

const requestTls = async (args: {
  url: string;
  ca: string;
  token: string;
  method: string;
  body?: unknown;
  contentType?: string;
}) => {
  const { request } = await import('node:https');
  return new Promise<{ status: number; text: string }>((resolve, reject) => {
    const call = request(args.url, {
      ca: args.ca,
      agent: false,
      method: args.method,
      timeout: 10_000,
      headers: { authorization: `Bearer ${args.token}`, 'content-type': args.contentType ?? 'application/json' },
    });
    call.on('timeout', () => call.destroy(new Error('timed out')));
    call.on('error', reject);
    call.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', reject);
    });
    call.end(args.body === undefined ? undefined : JSON.stringify(args.body));
  });
};

const writeCredentials = async (dir: string, token: string): Promise<void> => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  await writeFile(join(dir, 'sa.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }));
  await writeFile(join(dir, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
  await writeFile(join(dir, 'tokens.csv'), `${token},admin,admin,"system:masters"\n`);
};

export const startApiServer = async (options: ApiServerOptions = {}): Promise<ApiServer> => {
  const [etcd, kubeApiserver] = await Promise.all([toolPath('etcd'), toolPath('kube-apiserver')]);
  const dir = await mkdtemp(join(tmpdir(), 'isthmus-apiserver-'));
  const [clientPort, peerPort, port] = (await freePorts(3)) as [number, number, number];
  const etcdUrl = `http://127.0.0.1:${clientPort}`;
  const url = `https://127.0.0.1:${port}`;
  const token = randomBytes(16).toString('hex');
  const caFile = join(dir, 'certs', 'apiserver.crt');
  const logs = { etcd: join(dir, 'etcd.log'), api: join(dir, 'apiserver.log') };
  const children: { etcd?: ChildProcess; api?: ChildProcess } = {};
  const onExit = (): void => {
    for (const child of Object.values(children)) child.kill('SIGKILL');
  };
  process.once('exit', onExit);

  const run = async (command: string, args: string[], log: string): Promise<ChildProcess> => {
    const file = await open(log, 'a');
    // A test runner that is killed runs no clean-up of its own.
    const bound = boundToLife(command, args);
    const child = spawn(bound.command, bound.args, { stdio: ['ignore', file.fd, file.fd] });
    child.once('error', () => {});
    await file.close();
    return child;
  };
  const ca = (): string => (existsSync(caFile) ? readFileSync(caFile, 'utf8') : '');
  const startApi = async (): Promise<void> => {
    children.api = await run(
      kubeApiserver,
      [
        `--etcd-servers=${etcdUrl}`,
        `--secure-port=${port}`,
        '--bind-address=127.0.0.1',
        '--advertise-address=127.0.0.1',
        `--cert-dir=${join(dir, 'certs')}`,
        `--token-auth-file=${join(dir, 'tokens.csv')}`,
        `--service-account-key-file=${join(dir, 'sa.pub')}`,
        `--service-account-signing-key-file=${join(dir, 'sa.key')}`,
        '--service-account-issuer=https://kubernetes.default.svc.cluster.local',
        `--authorization-mode=${options.authorization ?? 'AlwaysAllow'}`,
        // Nobody here makes the default ServiceAccount that this would insist on.
        '--disable-admission-plugins=ServiceAccount',
        '--service-cluster-ip-range=10.96.0.0/16',
        ...(options.flags ?? []),
      ],
      logs.api,
    );
    await until(
      'kube-apiserver',
      logs.api,
      () => children.api,
      async () => {
        if (ca() === '') return false;
        return (await requestTls({ url: `${url}/readyz`, ca: ca(), token, method: 'GET' })).status === 200;
      },
    );
  };
  const stop = async (): Promise<void> => {
    process.off('exit', onExit);
    await killAndWait(children.api);
    await killAndWait(children.etcd);
    await rm(dir, { recursive: true, force: true });
  };
  const configFor = (at: { token?: string; port?: number }): KubeConfig => {
    const config = new KubeConfig();
    config.loadFromClusterAndUser(
      {
        name: `test-${createHash('sha256').update(url).digest('hex').slice(0, 8)}`,
        server: `https://127.0.0.1:${at.port ?? port}`,
        caData: Buffer.from(ca()).toString('base64'),
        skipTLSVerify: false,
      },
      { name: 'test', token: at.token ?? token },
    );
    return config;
  };

  try {
    await mkdir(join(dir, 'certs'));
    await writeCredentials(dir, token);
    children.etcd = await run(
      etcd,
      [
        `--data-dir=${join(dir, 'etcd')}`,
        `--listen-client-urls=${etcdUrl}`,
        `--advertise-client-urls=${etcdUrl}`,
        `--listen-peer-urls=http://127.0.0.1:${peerPort}`,
        '--unsafe-no-fsync',
      ],
      logs.etcd,
    );
    await until(
      'etcd',
      logs.etcd,
      () => children.etcd,
      async () => (await fetch(`${etcdUrl}/health`)).ok,
    );
    await startApi();
  } catch (error) {
    await stop();
    throw error;
  }

  return {
    url,
    port,
    etcdUrl,
    ca: ca(),
    kubeConfig: configFor({}),
    configFor,
    call: async <T>(method: string, path: string, body?: unknown, contentType?: string): Promise<T> => {
      const answer = await requestTls({
        url: url + path,
        ca: ca(),
        token,
        method,
        body,
        ...(contentType === undefined ? {} : { contentType }),
      });
      if (answer.status > 299) throw new Error(`${method} ${path}: ${answer.status} ${answer.text.slice(0, 500)}`);
      return JSON.parse(answer.text || '{}') as T;
    },
    pause: () => children.api?.kill('SIGSTOP'),
    resume: () => children.api?.kill('SIGCONT'),
    kill: () => killAndWait(children.api),
    start: startApi,
    compact: async () => {
      const range = await post(`${etcdUrl}/v3/kv/range`, { key: Buffer.from('x').toString('base64') });
      const { revision } = range.header as { revision: string };
      await post(`${etcdUrl}/v3/kv/compaction`, { revision, physical: true });
    },
    stop,
  };
};
