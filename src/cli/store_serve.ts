/**
 * `isthmus store serve`: the process of a store gateway. It holds nothing that another could not read anew from etcd, so several may
 * run, and one that dies takes nothing with it.
 */
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { issueEtcdClient } from '../ca/etcd_request.ts';
import { checkEtcdCa } from '../ca/etcdclient.ts';
import { loadStoreGateway } from '../config/load.ts';
import type { StoreGatewayConfig } from '../config/store_gateway.ts';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { realClock } from '../ops/clock.ts';
import { crashOnBugs } from '../ops/crash.ts';
import { type HttpListener, healthRoute, listenHttp, metricsRoute } from '../ops/http.ts';
import { type Log, openLog } from '../ops/log.ts';
import { type Metrics, openMetrics } from '../ops/metrics.ts';
import type { ListenerTls } from '../server/listener.ts';
import { type StoreGateway, type StoreGatewayHooks, startStoreGateway } from '../server/store_gateway.ts';
import type { IssueCertificate } from '../server/store_renewal.ts';
import { StoreWrites } from '../server/store_writes.ts';
import { connectStore, type EtcdStore } from '../store/etcd.ts';
import { tokenOfUser } from '../trust/tokens.ts';
import { version } from '../version.ts';
import type { WriteQuota } from '../writes/judge.ts';

const read = (key: string, config: StoreGatewayConfig, path: string): Buffer => {
  const full = path.startsWith('/') ? path : join(config.dir, path);
  try {
    return readFileSync(full);
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? 'error';
    throw new IsthmusError('config/file', `${key}: "${full}" cannot be read (${why})`, {
      hint: 'set dir to the directory that "isthmus store gateway" wrote, or correct the path',
      subject: { key },
      cause,
    });
  }
};

const authorityKey = (config: StoreGatewayConfig): KeyObject => {
  const pem = read('authorityFile', config, config.authorityFile);
  let key: KeyObject | undefined;
  try {
    key = createPublicKey(pem);
  } catch {
    key = undefined;
  }
  if (key?.asymmetricKeyType === 'ed25519') return key;
  throw new IsthmusError('files/invalid', 'authorityFile does not hold an Ed25519 public key in PEM', {
    hint: 'use the authority.pem that `isthmus init` wrote',
    subject: { key: 'authorityFile' },
  });
};

const tlsOf = (config: StoreGatewayConfig): ListenerTls => {
  const { listen } = config;
  return {
    cert: read('listen.certFile', config, listen.certFile).toString('utf8'),
    key: read('listen.keyFile', config, listen.keyFile).toString('utf8'),
    clientRoots: read('listen.clientCaFile', config, listen.clientCaFile).toString('utf8'),
  };
};

export const quotaOf = ({
  keys,
  bytes,
  changesPerSecond,
  bytesPerSecond,
}: StoreGatewayConfig['quota']): WriteQuota => ({
  keys,
  bytes,
  // As much at once as readers put up with.
  changes: {
    perSecond: changesPerSecond,
    burst: limits.recordsPerMemberMax + limits.noiseBurstS * changesPerSecond,
  },
  written: { perSecond: bytesPerSecond, burst: bytes },
});

/** Undefined without the CA's key. A key that is not the CA's is an error at once, not when the first certificate is due. */
const issuerOf = (config: StoreGatewayConfig, clock: Clock): IssueCertificate | undefined => {
  const { caKeyFile, ttlS } = config.issue;
  if (caKeyFile === undefined) return undefined;
  const ca = {
    cert: read('listen.clientCaFile', config, config.listen.clientCaFile).toString('utf8'),
    key: read('issue.caKeyFile', config, caKeyFile).toString('utf8'),
  };
  checkEtcdCa(ca);
  return (commonName, request) =>
    issueEtcdClient(
      ca,
      request,
      { commonName, ttlS, nowMs: clock.wallMs() },
      (bytes) => new Uint8Array(randomBytes(bytes)),
    );
};

const split = (address: string): { host: string; port: number } => {
  const at = address.lastIndexOf(':');
  return { host: address.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(address.slice(at + 1)) };
};

export interface StoreServing {
  readonly port: number;
  readonly writes: StoreWrites;
  close(): Promise<void>;
}

/** Tokens come and go: all of them are one to the metrics. */
const labelOf = (member: string): string => (tokenOfUser(member) === undefined ? member : 'join');

const countingOf = (metrics: Metrics): StoreGatewayHooks => {
  const count = (member: string, result: string): void =>
    metrics.add('isthmus_store_gateway_writes_total', { member: labelOf(member), result });
  return {
    written: (member, heldMs) => {
      count(member, 'written');
      if (heldMs > 0)
        metrics.add('isthmus_store_gateway_held_seconds_total', { member: labelOf(member) }, heldMs / 1_000);
    },
    issued: (member) => metrics.add('isthmus_store_gateway_certificates_total', { member }),
    lost: (member) => count(member, 'lost'),
    refused: (member, code) => {
      metrics.add('isthmus_store_gateway_refused_total', { member: labelOf(member), code });
      count(member, 'refused');
    },
  };
};

const tickMs = 1_000;
const closeGraceMs = 2_000;

/** The gateways' own client certificate for etcd, as it lies in its files: read again, for it ends and is replaced. */
class OwnPair {
  readonly #config: StoreGatewayConfig;
  #now: { readonly cert: Buffer; readonly key: Buffer };

  constructor(config: StoreGatewayConfig) {
    this.#config = config;
    this.#now = this.#read();
  }

  get now(): { readonly cert: Buffer; readonly key: Buffer } {
    return this.#now;
  }

  /** @returns whether it is another; new connections are made with it. @throws IsthmusError, Error: what lies there is no pair */
  look(): boolean {
    const found = this.#read();
    if (found.cert.equals(this.#now.cert) && found.key.equals(this.#now.key)) return false;
    if (!new X509Certificate(found.cert).checkPrivateKey(createPrivateKey(found.key))) {
      throw new IsthmusError('trust/invalid', 'etcd.keyFile is not the key of etcd.certFile', {
        hint: 'replace both; the pair in use stays until then',
      });
    }
    this.#now = found;
    return true;
  }

  #read(): { readonly cert: Buffer; readonly key: Buffer } {
    const { etcd } = this.#config;
    const cert = read('etcd.certFile', this.#config, etcd.certFile);
    return { cert, key: read('etcd.keyFile', this.#config, etcd.keyFile) };
  }
}

const endsInS = (cert: Uint8Array, wallMs: number): number =>
  (new X509Certificate(cert).validToDate.getTime() - wallMs) / 1_000;

interface Parts {
  readonly config: StoreGatewayConfig;
  readonly pair: OwnPair;
  readonly store: EtcdStore;
  readonly writes: StoreWrites;
  readonly gateway: StoreGateway;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Log;
}

/** What changes by itself: gauges, and the files of the serving certificate. @returns ends it */
const keepUp = ({ config, pair, writes, gateway, metrics, clock, log }: Parts): (() => void) => {
  let serving = JSON.stringify(tlsOf(config));
  let ended = false;
  let told = '';
  const ends = 'isthmus_store_gateway_certificate_remaining_seconds';
  const reload = (): void => {
    try {
      if (pair.look()) log('info', 'client certificate for etcd replaced');
      told = '';
    } catch (error) {
      // Once a second: said once.
      const { message } = error as Error;
      if (message !== told) log('warn', 'client certificate for etcd not replaced', { error });
      told = message;
    }
    try {
      const tls = tlsOf(config);
      metrics.set(ends, endsInS(Buffer.from(tls.cert), clock.wallMs()), { of: 'serving' });
      const now = JSON.stringify(tls);
      if (now === serving) return;
      gateway.reload(tls);
      serving = now;
      log('info', 'serving certificate replaced');
    } catch (error) {
      log('warn', 'serving certificate not replaced', { error });
    }
  };
  const tick = (): void => {
    if (ended) return;
    metrics.set('isthmus_store_gateway_connected', writes.dark === '' ? 1 : 0);
    metrics.reset('isthmus_store_gateway_keys');
    metrics.reset('isthmus_store_gateway_bytes');
    for (const [member, { keys, bytes }] of writes.filled()) {
      if (tokenOfUser(member) !== undefined) continue;
      metrics.set('isthmus_store_gateway_keys', keys, { member });
      metrics.set('isthmus_store_gateway_bytes', bytes, { member });
    }
    reload();
    metrics.set(ends, endsInS(pair.now.cert, clock.wallMs()), { of: 'etcd' });
    clock.after(tickMs, tick);
  };
  tick();
  return () => {
    ended = true;
  };
};

export const startStoreServing = async (
  config: StoreGatewayConfig,
  log: Log,
  metrics: Metrics,
): Promise<StoreServing> => {
  const clock = realClock;
  const { etcd, clusterset } = config;
  const pair = new OwnPair(config);
  const store = connectStore({
    endpoints: etcd.endpoints,
    ca: read('etcd.caFile', config, etcd.caFile),
    ...pair.now,
    renewed: () => pair.now,
    ...{ clock, log, allowUnsafeVersion: etcd.allowUnsafeVersion },
  });
  const quota = quotaOf(config.quota);
  const writes = new StoreWrites({ clusterset, store, authorityKey: authorityKey(config), quota, clock });
  const opened: HttpListener[] = [];
  try {
    const gateway = await startStoreGateway({
      listen: split(config.listen.address),
      tls: tlsOf(config),
      writes,
      version: () => store.status().version,
      issue: issuerOf(config, clock),
      ...{ clock, log },
      hooks: countingOf(metrics),
    });
    const reason = () => (writes.dark === '' ? undefined : writes.dark);
    opened.push(
      await listenHttp(config.listen.healthAddress, healthRoute({ tasks: new Map([['etcd', reason]]) })),
      await listenHttp(config.listen.metricsAddress, metricsRoute(metrics)),
    );
    const end = keepUp({ config, pair, store, writes, gateway, metrics, clock, log });
    return {
      port: gateway.port,
      writes,
      close: async () => {
        end();
        await gateway.close(closeGraceMs);
        writes.close();
        await Promise.all([store.close(), ...opened.map((listener) => listener.close())]);
      },
    };
  } catch (error) {
    writes.close();
    await Promise.all([store.close(), ...opened.map((listener) => listener.close())]);
    throw error;
  }
};

export const storeServe = async (options: { config?: string; set: string[] }): Promise<void> => {
  const config = loadStoreGateway({ file: options.config, environment: process.env, sets: options.set });
  const log = openLog(config.log.level, { gateway: config.name });
  crashOnBugs(log);
  const serving = await startStoreServing(config, log, openMetrics(version, 'store-gateway'));
  log('info', 'store gateway is listening', { version, clusterset: config.clusterset, port: serving.port });
  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) process.exit(1);
    stopping = true;
    log('info', 'shutting down', { signal });
    void serving.close().then(() => process.exit(0));
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
  await new Promise(() => {});
};
