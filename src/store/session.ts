/**
 * A session: one connection to one etcd endpoint whose version has been checked. It ends with its connection and is never
 * revived, so whatever answers next (an older etcd, another cluster) is checked again before anything it says is used.
 *
 * grpc-js's own reconnecting and load balancing were passed over for that reason, and because a channel can stay in
 * CONNECTING for ever (grpc-node #2785): here each attempt has a deadline and a channel of its own.
 */
import type { KeyObject } from 'node:crypto';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import {
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  connectivityState,
  credentials,
  status,
} from '@grpc/grpc-js';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { Maintenance, Watch, type WatchRequest, type WatchResponse } from '../gen/etcdserverpb/rpc_pb.ts';
import { isGatewayRefusal, isServiceError, storeError } from './failure.ts';
import { type Beside, callUnary, openStream } from './rpc.ts';
import { OwnedCredentials } from './sockets.ts';
import { askVersion, isSafeVersion, unsafeVersionError } from './version.ts';

export type StoreLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  msg: string,
  fields: Readonly<Record<string, unknown>>,
) => void;

/** How to reach etcd and as whom. PEM buffers; `endpoints` are `https://host:port`. */
export interface EtcdOptions {
  readonly endpoints: readonly string[];
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly clock: Clock;
  /** Accepts an etcd with known authorization holes (`store.allowUnsafeVersion`). */
  readonly allowUnsafeVersion?: boolean;
  /** Store gateways that take the writes, instead of etcd itself: with the same certificate, and signed. */
  readonly writes?: WriteOptions | undefined;
  /** The certificate for connections that are made from now on, where it is another than at first. */
  readonly renewed?: (() => Pick<EtcdOptions, 'cert' | 'key'>) | undefined;
  readonly log: StoreLog;
}

export interface WriteOptions {
  readonly endpoints: readonly string[];
  /** The member's Ed25519 private record key; asked for at each write. */
  readonly recordKey: () => KeyObject;
}

export interface Session {
  readonly endpoint: string;
  /** Undefined only where an unsafe etcd that hides its version was accepted by the override. */
  readonly version: string | undefined;
  readonly clusterId: bigint;
  readonly open: boolean;
  /** Why it ended; empty while open. */
  readonly endReason: string;
  /** Monotonic ms at which etcd was last heard. */
  readonly heardAtMs: number;
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    timeoutMs?: number,
    beside?: Beside,
  ): Promise<MessageShape<O>>;
  watch(): ClientDuplexStream<WatchRequest, WatchResponse>;
  /** Notes that bytes came. */
  heard(): void;
  /** Closes the connection; every call and stream on it fails. */
  end(reason: string): void;
  onEnd(fn: (reason: string) => void): void;
}

const channelOptions: ChannelOptions = {
  // etcd refuses pings more often than every 5 s, and any ping while no stream is open.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 0,
  'grpc.max_receive_message_length': limits.storeMessageBytesMax,
  'grpc-node.flow_control_window': 4 * 1024 * 1024,
  // A pool shared with other channels would hand the stuck connection to the channel that replaces it.
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.enable_retries': 0,
  'grpc.service_config_disable_resolution': 1,
};

/** `https://host:port` as grpc-js and the version request want it. */
export const parseEndpoint = (endpoint: string): { readonly url: string; readonly target: string } => {
  const bad = (why: string): IsthmusError =>
    new IsthmusError('config/invalid', `store.endpoints: "${endpoint}" ${why}`, {
      hint: 'write it as https://host:port',
    });
  let url: URL;
  try {
    url = new URL(endpoint);
  } catch {
    throw bad('is not a URL');
  }
  if (url.protocol !== 'https:') throw bad('is not https: etcd is used with mutual TLS only');
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '' || url.username !== '') {
    throw bad('has more than a host and a port');
  }
  return { url: url.origin, target: `${url.hostname}:${url.port === '' ? '443' : url.port}` };
};

const tlsError = (error: unknown, endpoint: string): IsthmusError =>
  new IsthmusError('store/tls', `the certificates for etcd cannot be used: ${(error as Error).message}`, {
    hint: 'store.caFile, store.certFile and store.keyFile must be PEM, and the key must belong to the certificate',
    subject: { endpoint },
    cause: error,
  });

const newCredentials = (endpoint: string, o: EtcdOptions): OwnedCredentials => {
  try {
    return new OwnedCredentials(credentials.createSsl(o.ca, o.key, o.cert));
  } catch (error) {
    throw tlsError(error, endpoint);
  }
};

class GrpcSession implements Session {
  readonly endpoint: string;
  version: string | undefined;
  clusterId = 0n;
  open = true;
  endReason = '';
  heardAtMs: number;
  private readonly client: Client;
  private readonly tls: OwnedCredentials;
  private readonly clock: Clock;
  private readonly listeners: ((reason: string) => void)[] = [];

  constructor(endpoint: string, target: string, tls: OwnedCredentials, clock: Clock) {
    this.endpoint = endpoint;
    this.client = new Client(target, tls, channelOptions);
    this.tls = tls;
    this.clock = clock;
    this.heardAtMs = clock.monotonicMs();
  }

  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    timeoutMs: number = limits.storeUnaryTimeoutMs,
    beside?: Beside,
  ): Promise<MessageShape<O>> {
    try {
      const response = await callUnary(this.client, method, request, timeoutMs, beside);
      this.heard();
      return response;
    } catch (error) {
      // Neither proves that the connection is bad, but the next endpoint may do better, and being wrong costs a handshake.
      if (isServiceError(error) && (error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED)) {
        this.end(error.details);
      } else {
        this.heard();
      }
      throw error;
    }
  }

  watch(): ClientDuplexStream<WatchRequest, WatchResponse> {
    return openStream(this.client, Watch.method.watch);
  }

  heard(): void {
    this.heardAtMs = this.clock.monotonicMs();
  }

  end(reason: string): void {
    if (!this.open) return;
    this.open = false;
    this.endReason = reason;
    this.client.close();
    this.tls.destroy();
    for (const listener of this.listeners) listener(reason);
  }

  onEnd(fn: (reason: string) => void): void {
    this.listeners.push(fn);
  }

  /** Ends the session when its channel leaves READY: grpc-js would reconnect to whatever listens there by then. */
  endWithChannel(): void {
    const channel = this.client.getChannel();
    if (channel.getConnectivityState(false) !== connectivityState.READY) {
      this.end('the connection was closed');
      return;
    }
    channel.watchConnectivityState(connectivityState.READY, Number.POSITIVE_INFINITY, () =>
      this.end('the connection was closed'),
    );
  }
}

/** Connects and checks. Rejects with an `IsthmusError`, also when `signal` is aborted; nothing stays open then. */
export const openSession = async (
  endpoint: string,
  given: EtcdOptions,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<Session> => {
  const o = { ...given, ...given.renewed?.() };
  const { url, target } = parseEndpoint(endpoint);
  const session = new GrpcSession(url, target, newCredentials(url, o), o.clock);
  const abort = (): void => session.end('given up');
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const { version, clusterId } = await identify(session, url, o, timeoutMs);
    if (version === undefined || !isSafeVersion(version)) {
      const error = unsafeVersionError(version, url);
      if (o.allowUnsafeVersion !== true) throw error;
      o.log('warn', 'etcd version is unsafe and was accepted by store.allowUnsafeVersion', {
        endpoint: url,
        version: version ?? 'unknown',
      });
    }
    session.version = version;
    session.clusterId = clusterId;
    session.endWithChannel();
    if (!session.open) throw new Error(session.endReason);
    return session;
  } catch (error) {
    session.end('not usable');
    throw storeError(error, { what: 'connect', endpoint: url });
  } finally {
    signal?.removeEventListener('abort', abort);
  }
};

/**
 * The version and cluster behind a session. Where Status is for root alone, the cluster id is not known until the first read:
 * 0n stands for that, and readers compare the ids of their own answers anyway.
 */
const identify = async (
  session: Session,
  url: string,
  o: EtcdOptions,
  timeoutMs: number,
): Promise<{ version: string | undefined; clusterId: bigint }> => {
  try {
    const answer = await session.call(Maintenance.method.status, {}, timeoutMs);
    return { version: answer.version, clusterId: answer.header?.clusterId ?? 0n };
  } catch (error) {
    // A store gateway tells its version to whoever may write there, and to nobody else by another way.
    if (!isServiceError(error) || error.code !== status.PERMISSION_DENIED || isGatewayRefusal(error)) throw error;
    return { version: await askVersion(url, o, timeoutMs), clusterId: 0n };
  }
};
