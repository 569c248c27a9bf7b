/** The environment of a ztunnel in dedicated mode, as far as the stand-in needs it. Same names, same meaning. */
import { existsSync, readFileSync } from 'node:fs';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly rootPem: Buffer;
  /** Name to check the server's certificate against, when it is not the host. */
  readonly serverName: string | undefined;
}

export interface StandinConfig {
  readonly xds: Endpoint;
  readonly ca: Endpoint;
  /** Read again for every request: projected tokens rotate. */
  readonly token: () => string | undefined;
  readonly network: string;
  readonly clusterId: string;
  readonly nodeName: string;
  readonly namespace: string;
  readonly name: string;
  readonly serviceAccount: string;
  readonly instanceIp: string;
  readonly podName: string;
  readonly podNamespace: string;
  readonly secretTtlSeconds: number;
  readonly streamsMax: number;
  readonly xdsHeaders: Readonly<Record<string, string>>;
}

type Env = Readonly<Record<string, string | undefined>>;

const units: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, h: 3_600, d: 86_400 };

const seconds = (name: string, text: string): number => {
  const match = /^(\d+)(ms|s|m|h|d)$/.exec(text);
  if (match === null) throw new Error(`${name}="${text}" is not a duration such as 24h`);
  return Math.max(1, Math.round(Number(match[1]) * (units[match[2] as string] as number)));
};

/** A path if such a file exists, else the value itself, as ztunnel has it. */
const fileOrLiteral = (value: string): Buffer => (existsSync(value) ? readFileSync(value) : Buffer.from(value));

const endpoint = (env: Env, name: 'XDS' | 'CA'): Endpoint => {
  const address = env[`${name}_ADDRESS`];
  if (address === undefined || address === '') throw new Error(`${name}_ADDRESS is not set`);
  const url = new URL(address.includes('://') ? address : `https://${address}`);
  if (url.protocol !== 'https:') throw new Error(`${name}_ADDRESS="${address}": only https is supported`);
  const root = env[`${name}_ROOT_CA`] ?? './var/run/secrets/istio/root-cert.pem';
  return {
    host: url.hostname,
    port: Number(url.port || 443),
    // As ztunnel: read again for each connection.
    get rootPem() {
      return fileOrLiteral(root);
    },
    serverName: env[`ALT_${name}_HOSTNAME`],
  };
};

/** Throws a plain error that names the variable. */
export const readConfig = (env: Env): StandinConfig => {
  if (env.PROXY_MODE !== 'dedicated')
    throw new Error(`PROXY_MODE="${env.PROXY_MODE ?? ''}": only dedicated is supported`);
  const info = (env.PROXY_WORKLOAD_INFO ?? '').split('/');
  const [namespace, name, serviceAccount] = info;
  if (info.length !== 3 || !namespace || !name || !serviceAccount) {
    throw new Error(`PROXY_WORKLOAD_INFO="${env.PROXY_WORKLOAD_INFO ?? ''}" is not namespace/name/service-account`);
  }
  const tokenAt = env.AUTH_TOKEN ?? './var/run/secrets/tokens/istio-token';
  const literal = env.AUTH_TOKEN !== undefined && !existsSync(tokenAt);
  const headers = Object.entries(env).filter(([key]) => key.startsWith('XDS_HEADER_'));
  return {
    xds: endpoint(env, 'XDS'),
    ca: endpoint(env, 'CA'),
    token: () => (literal ? tokenAt : existsSync(tokenAt) ? readFileSync(tokenAt, 'utf8').trim() : undefined),
    network: env.NETWORK ?? '',
    clusterId: env.CLUSTER_ID ?? 'Kubernetes',
    nodeName: env.NODE_NAME ?? '',
    namespace,
    name,
    serviceAccount,
    instanceIp: env.INSTANCE_IP ?? '1.1.1.1',
    podName: env.POD_NAME ?? '',
    podNamespace: env.POD_NAMESPACE ?? '',
    secretTtlSeconds: seconds('SECRET_TTL', env.SECRET_TTL ?? '24h'),
    streamsMax: Number(env.POOL_MAX_STREAMS_PER_CONNECTION ?? 100),
    xdsHeaders: Object.fromEntries(headers.map(([key, value]) => [key.slice('XDS_HEADER_'.length), value ?? ''])),
  };
};
