/** What the discovery server needs from the wiring, and what it tells it. Types only. */
import type { X509Certificate } from 'node:crypto';
import type { Clock, Rng } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { Aliases } from '../xds/aliases.ts';
import type { Rejected, TypeStatus } from '../xds/subscription.ts';
import type { ResourceTable } from '../xds/table.ts';

export type ServerLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Record<string, unknown>,
) => void;

export interface ListenAddress {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
}

export type Role = 'ztunnel' | 'gateway';

/** Whom a token speaks for, as the API server says. */
export interface TokenPeer {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** The pod that the token is bound to. */
  readonly pod: { readonly name: string; readonly uid: string } | undefined;
  readonly node: string | undefined;
}

export interface CertificateCall {
  /** PEM, as it came, at most `limits.csrBytesMax` characters. */
  readonly csr: string;
  /** Seconds; 0 when the caller has no wish. */
  readonly validityS: number;
  /** Set by a shared ztunnel: the workload for which it asks. */
  readonly impersonatedIdentity: string | undefined;
}

/** PEM: serving certificate with its chain, its key, and the roots that clients of the mTLS port must chain to. */
export interface ServerTls {
  readonly cert: string;
  readonly key: string;
  readonly clientRoots: string;
}

/** Called in the middle of things: must be quick, must not throw. */
export interface ServerHooks {
  opened?(role: Role): void;
  /** `error` is undefined when the proxy or the server ended the stream in good order. */
  closed?(role: Role, error: IsthmusError | undefined): void;
  pushed?(role: Role, typeUrl: string, resources: number, bytes: number): void;
  acked?(role: Role, typeUrl: string): void;
  rejected?(role: Role, typeUrl: string, nodeId: string, resources: readonly Rejected[]): void;
  /** A connection or a call that never became a stream. */
  refused?(port: 'token' | 'mtls', error: IsthmusError): void;
  /** One pass over all streams after a change. */
  flushed?(streams: number, durationMs: number): void;
}

export type ReportKind = 'access-log' | 'load-report';

/** What is told of one stream of reports. */
export interface ReportStream {
  /** One message as it came. @throws IsthmusError for what cannot be believed: the stream ends. */
  receive(message: Buffer): void;
  /** It has ended, whoever ended it. */
  close(): void;
}

/** Who takes what gateways report of their traffic. */
export interface ReportSink {
  /** False while this replica takes none: a gateway then looks for another one. */
  accepts(): boolean;
  open(
    kind: ReportKind,
    stream: {
      /** The reason why a node id is not a gateway's of this cluster. */
      readonly checkNode: (nodeId: string) => IsthmusError | undefined;
      readonly send: (message: Uint8Array) => void;
    },
  ): ReportStream;
}

export interface ServerOptions {
  readonly tokenListen: ListenAddress;
  readonly mtlsListen: ListenAddress;
  readonly tls: ServerTls;
  /** The only identity that may use the mTLS port, as a URI: `spiffe://…`. */
  readonly gatewayIdentity: string;
  /** The CAs that issue it: this cluster's own, never the roots, which other clusters may share. */
  gatewayIssuers(): readonly X509Certificate[];
  /** Rejects with an IsthmusError: `auth/…`, or a retryable one when nobody can say now. */
  authenticateToken(token: string): Promise<TokenPeer>;
  /** Whether a pod of that name is one of this cluster's gateways; its nodes are `<pod>` or `<pod>~<suffix>`. */
  isGatewayPod?(pod: string): boolean;
  readonly tables: { readonly ztunnel: ResourceTable; readonly gateway: ResourceTable };
  /** What ztunnels may ask for by other names than the resources' own. */
  readonly ztunnelAliases?: Aliases;
  /** Absent: reports are not served. */
  readonly reports?: ReportSink;
  /** Certificate chain, one PEM to an element. Rejects with an IsthmusError. */
  certificates(call: CertificateCall, peer: TokenPeer): Promise<readonly string[]>;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: ServerLog;
  readonly hooks?: ServerHooks;
  /** Streams end after this long, ±10 %, so that proxies spread over the replicas. Default 30 min; 0: never. */
  readonly streamAgeMaxMs?: number;
}

export interface ProxyStatus {
  readonly nodeId: string;
  readonly role: Role;
  readonly address: string;
  /** Wall clock, ms since 1970. */
  readonly connectedSinceMs: number;
  /** True when all that the proxy asked for is sent and answered. */
  readonly synced: boolean;
  /** True while the newest response is stuck in the connection. */
  readonly slow: boolean;
  readonly types: readonly TypeStatus[];
}

export interface DiscoveryServer {
  readonly tokenPort: number;
  readonly mtlsPort: number;
  /** The tables have changed: push, now or as soon as the last push is done with. */
  changed(): void;
  proxies(): readonly ProxyStatus[];
  /** Ends the streams of reports: for when `reports.accepts()` has become false. */
  endReports(): void;
  /** For new connections. Throws `trust/invalid` and keeps the old material when the new one is unusable. */
  updateTls(tls: ServerTls): void;
  /** Ends the streams in good order, spread over half of `graceMs`, so that proxies move to the other replica. */
  close(graceMs: number): Promise<void>;
}
