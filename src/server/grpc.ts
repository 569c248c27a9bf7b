/**
 * The discovery server: one gRPC host with two ports. ztunnels come with a Kubernetes token and get addresses, policies
 * and certificates; gateways come with a mesh certificate and get Envoy resources. Each role has its own table, so that
 * a proxy cannot even name what is not for it.
 */

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Server, type ServerUnaryCall, type ServiceDefinition, type sendUnaryData, status } from '@grpc/grpc-js';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { Shares } from '../core/shares.ts';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '../gen/istio/ca/citadel_pb.ts';
import type { DiscoveryServer, ProxyStatus, Role, ServerHooks, ServerOptions, ServerTls } from './api.ts';
import { gatewayInterceptor, peerOf, tokenInterceptor } from './authentication.ts';
import { DiscoveryStream } from './discovery_stream.ts';
import { Flusher } from './flusher.ts';
import { grpcStatus } from './grpc_status.ts';
import { type Listener, openListener } from './listener.ts';
import { gatewayNodeProblem, ztunnelNodeProblem } from './node_id.ts';
import type { DiscoveryCall } from './outlet.ts';
import { accessLogService, loadReportService, ReportStreams } from './report_streams.ts';

const identity = (bytes: Buffer): Buffer => bytes;
const method = (path: string, streams: boolean) => ({
  path,
  requestStream: streams,
  responseStream: streams,
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
});

const discovery = '/envoy.service.discovery.v3.AggregatedDiscoveryService';
export const discoveryService = {
  deltaAggregatedResources: method(`${discovery}/DeltaAggregatedResources`, true),
  streamAggregatedResources: method(`${discovery}/StreamAggregatedResources`, true),
} satisfies ServiceDefinition;

export const certificateService = {
  createCertificate: method('/istio.v1.auth.IstioCertificateService/CreateCertificate', false),
} satisfies ServiceDefinition;

const channelOptions = {
  'grpc.enable_channelz': 0,
  'grpc.max_receive_message_length': limits.requestBytesMax,
  'grpc.max_concurrent_streams': limits.streamsPerConnectionMax,
  'grpc.max_connection_idle_ms': limits.idleConnectionMs,
  'grpc.keepalive_time_ms': limits.keepaliveMs,
  'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
} as const;

const streamAgeDefaultMs = 1_800_000;
const slowCheckMs = 1_000;
const certificateRequestBytesMax = limits.csrBytesMax + 8 * 1024;

class Discovery implements DiscoveryServer {
  readonly #options: ServerOptions;
  readonly #hooks: ServerHooks;
  readonly #streams = new Set<DiscoveryStream>();
  /** By pod: any workload has a token, and none may take the places of the others. */
  readonly #places = new Shares(limits.streamsPerPodMax);
  readonly #flusher: Flusher;
  readonly #reports: ReportStreams | undefined;
  #listeners: { readonly token: Listener; readonly mtls: Listener } | undefined;
  #closing = false;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#hooks = options.hooks ?? {};
    this.#flusher = new Flusher(options.clock, () => this.#flushAll());
    const { reports: sink, log } = options;
    const checkNode = (nodeId: string) => gatewayNodeProblem(nodeId, (pod) => this.#isGatewayPod(pod));
    this.#reports = sink === undefined ? undefined : new ReportStreams({ sink, checkNode, log });
  }

  async start(): Promise<void> {
    const { tls, clock, authenticateToken, gatewayIdentity } = this.#options;
    const refusedBy = (port: 'token' | 'mtls') => (error: unknown) => this.#refused(port, error);
    const tokenServer = new Server({
      ...channelOptions,
      interceptors: [tokenInterceptor((token) => authenticateToken(token), refusedBy('token'))],
    });
    tokenServer.addService(discoveryService, this.#discoveryHandlers('ztunnel'));
    tokenServer.addService(certificateService, { createCertificate: this.#certificateHandler });
    const mtlsServer = new Server({
      ...channelOptions,
      interceptors: [gatewayInterceptor(gatewayIdentity, () => this.#options.gatewayIssuers(), refusedBy('mtls'))],
    });
    mtlsServer.addService(discoveryService, this.#discoveryHandlers('gateway'));
    if (this.#reports !== undefined) {
      mtlsServer.addService(accessLogService, { streamAccessLogs: this.#reports.handler('access-log') });
      mtlsServer.addService(loadReportService, { streamLoadStats: this.#reports.handler('load-report') });
    }
    const token = await openListener({
      listen: this.#options.tokenListen,
      server: tokenServer,
      tls: { ...tls, clientRoots: undefined },
      clock,
      refused: refusedBy('token'),
    });
    try {
      const mtls = await openListener({
        listen: this.#options.mtlsListen,
        server: mtlsServer,
        tls,
        clock,
        refused: refusedBy('mtls'),
      });
      this.#listeners = { token, mtls };
    } catch (error) {
      token.stop();
      throw error;
    }
    this.#watchSlow();
  }

  get tokenPort(): number {
    return this.#listeners!.token.port;
  }
  get mtlsPort(): number {
    return this.#listeners!.mtls.port;
  }

  changed(): void {
    this.#flusher.changed();
  }

  proxies(): readonly ProxyStatus[] {
    return [...this.#streams].flatMap((stream) => stream.status() ?? []);
  }

  endReports(): void {
    this.#reports?.endAll();
  }

  updateTls(tls: ServerTls): void {
    // The stricter one first: if the material is bad, neither port changes.
    this.#listeners!.mtls.reload(tls);
    this.#listeners!.token.reload({ ...tls, clientRoots: undefined });
  }

  async close(graceMs: number): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const { clock } = this.#options;
    const { token, mtls } = this.#listeners!;
    token.stop();
    mtls.stop();
    this.#reports?.endAll();
    const streams = [...this.#streams];
    const stepMs = graceMs / 2 / Math.max(1, streams.length);
    for (const [i, stream] of streams.entries()) {
      const waitMs = Math.floor(i * stepMs);
      if (waitMs === 0) stream.end();
      else clock.after(waitMs, () => stream.end());
    }
    await Promise.all([token.drain(graceMs), mtls.drain(graceMs)]);
  }

  #discoveryHandlers(role: Role) {
    return {
      deltaAggregatedResources: (call: DiscoveryCall) => this.#open(role, call),
      streamAggregatedResources: (call: DiscoveryCall) => {
        const details = 'state of the world is not served; use delta xDS (api_type: DELTA_GRPC)';
        call.emit('error', { code: status.UNIMPLEMENTED, details });
      },
    };
  }

  #isGatewayPod(pod: string): boolean {
    return this.#options.isGatewayPod?.(pod) ?? true;
  }

  #open(role: Role, call: DiscoveryCall): void {
    const { tables, ztunnelAliases, clock, log } = this.#options;
    if (this.#closing || this.#streams.size >= limits.streamsMax) {
      const error = new IsthmusError('xds/too-many', this.#closing ? 'shutting down' : `${limits.streamsMax} streams`);
      call.emit('error', grpcStatus(error));
      return;
    }
    const peer = peerOf(call.metadata);
    const pod = peer.kind === 'token' ? (peer.token.pod?.uid ?? '') : undefined;
    if (pod !== undefined && !this.#places.take(pod)) {
      const error = new IsthmusError('xds/too-many', `${limits.streamsPerPodMax} streams of this pod`);
      this.#refused('token', error);
      call.emit('error', grpcStatus(error));
      return;
    }
    const stream = new DiscoveryStream(call, {
      role,
      table: tables[role],
      aliases: role === 'ztunnel' ? ztunnelAliases : undefined,
      checkNode: (nodeId) =>
        peer.kind === 'token'
          ? ztunnelNodeProblem(nodeId, peer.token)
          : gatewayNodeProblem(nodeId, (pod) => this.#isGatewayPod(pod)),
      clock,
      log,
      hooks: this.#hooks,
      closed: (closed) => {
        this.#streams.delete(closed);
        if (pod !== undefined) this.#places.leave(pod);
        age?.cancel();
      },
    });
    this.#streams.add(stream);
    const ageMaxMs = this.#options.streamAgeMaxMs ?? streamAgeDefaultMs;
    const age =
      ageMaxMs > 0 ? clock.after(ageMaxMs * (0.9 + 0.2 * this.#options.rng()), () => stream.end()) : undefined;
  }

  readonly #certificateHandler = (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>): void => {
    const answer = async (): Promise<Buffer> => {
      const peer = peerOf(call.metadata);
      if (peer.kind !== 'token') throw new IsthmusError('auth/denied', 'certificates are issued to tokens only');
      const certChain = await this.#options.certificates(decodeCertificateCall(call.request), peer.token);
      const response = create(IstioCertificateResponseSchema, { certChain: [...certChain] });
      return Buffer.from(toBinary(IstioCertificateResponseSchema, response));
    };
    answer().then(
      (bytes) => done(null, bytes),
      (error: unknown) => {
        this.#refused('token', error);
        done(grpcStatus(error));
      },
    );
  };

  #refused(port: 'token' | 'mtls', error: unknown): void {
    if (error instanceof IsthmusError) {
      this.#options.log('debug', 'call refused', { port, error });
      this.#hooks.refused?.(port, error);
    } else this.#options.log('error', 'call failed', { port, error });
  }

  #flushAll(): void {
    const { clock } = this.#options;
    const startedMs = clock.monotonicMs();
    for (const stream of this.#streams) stream.flush();
    this.#hooks.flushed?.(this.#streams.size, clock.monotonicMs() - startedMs);
  }

  #watchSlow(): void {
    const { clock } = this.#options;
    clock.after(slowCheckMs, () => {
      const nowMs = clock.monotonicMs();
      for (const stream of this.#streams) stream.checkSlow(nowMs);
      if (!this.#closing) this.#watchSlow();
    });
  }
}

const decodeCertificateCall = (bytes: Buffer) => {
  if (bytes.length > certificateRequestBytesMax) {
    throw new IsthmusError(
      'csr/malformed',
      `certificate request of ${bytes.length} bytes, at most ${certificateRequestBytesMax}`,
    );
  }
  let request: ReturnType<typeof decodeRequest>;
  try {
    request = decodeRequest(bytes);
  } catch (cause) {
    throw new IsthmusError('csr/malformed', 'not an IstioCertificateRequest', { cause });
  }
  const impersonated = request.metadata?.ImpersonatedIdentity;
  if (impersonated !== undefined && typeof impersonated !== 'string') {
    throw new IsthmusError('csr/malformed', 'metadata.ImpersonatedIdentity is not a string');
  }
  const validityS = Number(request.validityDuration);
  return { csr: request.csr, validityS: Math.max(validityS, 0), impersonatedIdentity: impersonated };
};

const decodeRequest = (bytes: Buffer) => fromBinary(IstioCertificateRequestSchema, bytes);

/** @throws IsthmusError 'config/invalid' (cannot listen) or 'trust/invalid' (serving certificate). */
export const startServer = async (options: ServerOptions): Promise<DiscoveryServer> => {
  const server = new Discovery(options);
  await server.start();
  return server;
};
