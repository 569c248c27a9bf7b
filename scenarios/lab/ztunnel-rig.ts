/**
 * One way to run a ztunnel beside a pod: the real one where `ISTHMUS_ZTUNNEL` names a binary, else the stand-in. Same
 * environment, same readiness, same access log, so nothing above needs to know which one it is.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { packetMark, proxyGid, type RedirectOptions, redirectStandin, redirectZtunnel } from './redirect.ts';

export interface ZtunnelOptions extends RedirectOptions {
  readonly namespace: string;
  /** The pod's name. */
  readonly name: string;
  readonly serviceAccount: string;
  readonly network: string;
  readonly clusterId: string;
  readonly nodeName: string;
  /** `https://host:port` of the discovery service and of the certificate service. */
  readonly xdsAddress: string;
  readonly caAddress: string;
  /** Path of the PEM roots for both. */
  readonly rootCa: string;
  /** Path of the service account token. */
  readonly token: string;
  /** The name in the servers' certificate, when it is not the host of the addresses. */
  readonly serverName?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface ZtunnelCommand {
  readonly kind: 'real' | 'stand-in';
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

const standin = fileURLToPath(new URL('standin/main.ts', import.meta.url));
const inherited = ['PATH', 'HOME', 'LANG', 'LD_LIBRARY_PATH'] as const;

/** The binary of the user's real ztunnel; null: the stand-in. Not undefined, which would mean "the default" again. */
export const ztunnelBinary = (): string | null => process.env.ISTHMUS_ZTUNNEL || null;

/** What to run inside the pod's network namespace. */
export const ztunnelCommand = (options: ZtunnelOptions, binary: string | null = ztunnelBinary()): ZtunnelCommand => {
  const env: Record<string, string> = {};
  for (const name of inherited) {
    const value = process.env[name];
    if (value !== undefined) env[name] = value;
  }
  Object.assign(env, {
    PROXY_MODE: 'dedicated',
    PROXY_WORKLOAD_INFO: `${options.namespace}/${options.name}/${options.serviceAccount}`,
    XDS_ADDRESS: options.xdsAddress,
    CA_ADDRESS: options.caAddress,
    XDS_ROOT_CA: options.rootCa,
    CA_ROOT_CA: options.rootCa,
    AUTH_TOKEN: options.token,
    NETWORK: options.network,
    CLUSTER_ID: options.clusterId,
    NODE_NAME: options.nodeName,
    INSTANCE_IP: options.podIp,
    POD_NAME: options.name,
    POD_NAMESPACE: options.namespace,
  });
  if (options.serverName !== undefined) {
    env.ALT_XDS_HOSTNAME = options.serverName;
    env.ALT_CA_HOSTNAME = options.serverName;
  }
  if (binary === null) {
    return {
      kind: 'stand-in',
      command: process.execPath,
      args: [standin],
      env: { ...env, ...options.env },
    };
  }
  Object.assign(env, {
    PACKET_MARK: String(packetMark),
    ZTUNNEL_WORKER_THREADS: '1',
    IPV6_ENABLED: 'false',
    RUST_LOG: 'info',
    RUST_BACKTRACE: '1',
  });
  // Its own group, for its calls to the control plane carry no mark. It stays root: it binds others' source addresses.
  const group = ['--regid', String(proxyGid), '--clear-groups', '--'];
  const args = [...group, binary, 'proxy', 'ztunnel'];
  return { kind: 'real', command: 'setpriv', args, env: { ...env, ...options.env } };
};

/** Sets up the capture of the pod's traffic. Both need the loopback device up; the real one a route to the service range. */
export const redirect = (options: RedirectOptions, binary: string | null = ztunnelBinary()): Promise<void> =>
  binary === null ? redirectStandin(options) : redirectZtunnel(options);

export interface AccessEntry {
  readonly direction: 'inbound' | 'outbound';
  readonly srcIdentity: string;
  readonly dstIdentity: string;
  readonly dstAddress: string;
  readonly authority: string;
  readonly error: string;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: log output is coloured when it goes to a terminal
const colours = /\u001b\[[0-9;]*m/g;

/** Reads one line of either's access log, at the end of a connection; undefined for any other line. */
export const parseAccess = (line: string): AccessEntry | undefined => {
  if (!/\baccess\b/.test(line) || !/connection (complete|failed)/.test(line)) return undefined;
  const values = new Map<string, string>();
  for (const [, key, quoted, bare] of line.replace(colours, '').matchAll(/([\w.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S+))/g)) {
    values.set(key as string, quoted?.replace(/\\(.)/g, '$1') ?? bare ?? '');
  }
  const get = (key: string): string => values.get(key) ?? '';
  return {
    direction: get('direction') === 'inbound' ? 'inbound' : 'outbound',
    srcIdentity: get('src.identity'),
    dstIdentity: get('dst.identity'),
    dstAddress: get('dst.addr'),
    authority: get('dst.hbone_addr'),
    error: get('error'),
  };
};

export interface Ztunnel {
  readonly kind: 'real' | 'stand-in';
  readonly pid: number;
  /** Ended connections, oldest first, at most the last 10,000. */
  readonly access: readonly AccessEntry[];
  /** Resolves when it says it is ready; rejects, with its last lines, when it ends or takes too long. */
  ready(timeoutMs: number): Promise<void>;
  stop(): Promise<void>;
}

const entriesMax = 10_000;
const tailLines = 30;

/** Captures the pod's traffic and starts a ztunnel in its namespace. */
export const startZtunnel = async (
  options: ZtunnelOptions,
  more: { readonly binary?: string | null; readonly onLine?: (line: string) => void } = {},
): Promise<Ztunnel> => {
  const binary = more.binary === undefined ? ztunnelBinary() : more.binary;
  await redirect(options, binary);
  const { kind, command, args, env } = ztunnelCommand(options, binary);
  const child: ChildProcess = spawn('ip', ['netns', 'exec', options.netns, command, ...args], {
    env: { ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const access: AccessEntry[] = [];
  const tail: string[] = [];
  let isReady = false;
  let ended: string | undefined;
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const fn of waiting) fn();
  };
  for (const stream of [child.stdout, child.stderr]) {
    if (stream === null) continue;
    createInterface({ input: stream }).on('line', (line) => {
      more.onLine?.(line);
      tail.push(line);
      if (tail.length > tailLines) tail.shift();
      const entry = parseAccess(line);
      if (entry !== undefined) {
        access.push(entry);
        if (access.length > entriesMax) access.shift();
      } else if (line.includes('marking server ready')) {
        isReady = true;
        wake();
      }
    });
  }
  const closed = new Promise<void>((resolve) => {
    child.on('error', (error) => {
      ended = error.message;
      wake();
      resolve();
    });
    child.on('close', (code, signal) => {
      ended ??= `ended with ${code ?? signal}`;
      wake();
      resolve();
    });
  });
  return {
    kind,
    pid: child.pid ?? 0,
    access,
    ready: (timeoutMs) =>
      new Promise((resolve, reject) => {
        const fail = (why: string): void =>
          reject(new Error(`ztunnel of ${options.name} (${kind}) ${why}:\n${tail.join('\n')}`));
        const timer = setTimeout(() => {
          waiting.delete(look);
          fail(`not ready within ${timeoutMs} ms`);
        }, timeoutMs);
        const look = (): void => {
          if (!isReady && ended === undefined) return;
          clearTimeout(timer);
          waiting.delete(look);
          if (ended === undefined) resolve();
          else fail(ended);
        };
        waiting.add(look);
        look();
      }),
    stop: async () => {
      if (ended === undefined) child.kill('SIGKILL');
      await closed;
    },
  };
};
