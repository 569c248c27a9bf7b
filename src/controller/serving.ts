/**
 * What proxies talk to: the discovery server, the certificate service, and the certificate that both are served under.
 */
import { randomBytes, type X509Certificate } from 'node:crypto';
import type { Authority } from '../ca/authority.ts';
import { type Caller, createCertificateService, type Issued } from '../ca/service.ts';
import { issueServing, servingNames } from '../ca/serving.ts';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { ProxyReport } from '../core/report.ts';
import type { LocalCluster } from '../federation/local.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { DiscoveryServer, ProxyStatus, ReportSink, ServerTls, TokenPeer } from '../server/api.ts';
import { startServer } from '../server/grpc.ts';
import { workloadId } from '../trust/spiffe.ts';
import type { Engine } from './engine.ts';
import { Programming } from './programming.ts';

export interface ServingOptions {
  readonly config: Config;
  readonly authority: () => Authority;
  /** CAs of this cluster whose certificates gateways may have. */
  readonly issuers: () => readonly X509Certificate[];
  readonly engine: Engine;
  readonly authenticate: (token: string) => Promise<TokenPeer>;
  readonly isGatewayPod: (pod: string) => boolean;
  readonly local: () => LocalCluster;
  readonly moreRoots: () => readonly X509Certificate[];
  readonly onIssued: (issued: Issued, caller: Caller) => void;
  /** Where gateways' reports go. */
  readonly reports: ReportSink;
  /** How many streams each gateway pod has here. */
  readonly onGatewayStreams: (streams: ReadonlyMap<string, number>) => void;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  readonly metrics: Metrics;
}

const random = (bytes: number): Uint8Array => new Uint8Array(randomBytes(bytes));
const timerMaxMs = 86_400_000;
/** Of what is left of the serving certificate's life. */
const renewAt = 2 / 3;
const renewJitter = 0.1;
const renewRetryMs = 10_000;
const countSoonMs = 500;
const sharedZtunnel = { namespace: 'istio-system', serviceAccount: 'ztunnel' } as const;

const listenOf = (address: string): { host: string; port: number } => {
  const at = address.lastIndexOf(':');
  return { host: address.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(address.slice(at + 1)) };
};

export class Serving {
  /** Times what is sent of decisions. */
  readonly programming: Programming;
  readonly #o: ServingOptions;
  #server: DiscoveryServer | undefined;
  #renewal: Timer | undefined;
  #counting: { readonly dueMs: number; readonly timer: Timer } | undefined;

  constructor(options: ServingOptions) {
    this.#o = options;
    this.programming = new Programming(options.clock, options.metrics);
  }

  get listening(): boolean {
    return this.#server !== undefined;
  }

  async start(): Promise<void> {
    const { config, engine, clock, rng, log, metrics } = this.#o;
    const tls = await this.#certificate();
    this.#server = await startServer({
      tokenListen: listenOf(config.listen.tokenAddress),
      mtlsListen: listenOf(config.listen.gatewayAddress),
      tls,
      gatewayIdentity: workloadId(config.trustDomain, config.namespace, config.gateway.serviceAccount),
      gatewayIssuers: this.#o.issuers,
      authenticateToken: this.#o.authenticate,
      isGatewayPod: this.#o.isGatewayPod,
      tables: engine.tables,
      ztunnelAliases: engine.expandAlias,
      certificates: this.#certificates(),
      reports: this.#o.reports,
      clock,
      rng,
      log,
      hooks: {
        opened: () => this.#count(countSoonMs),
        // The end of a gateway's stream is a sign of its death: at once.
        closed: (role) => this.#count(role === 'gateway' ? 0 : countSoonMs),
        pushed: (role, type) => {
          metrics.add('isthmus_xds_pushes_total', { type: short(type) });
          this.programming.pushed(role, type);
        },
        acked: (role) => {
          if (role === 'gateway') this.programming.acked(() => this.#server?.proxies() ?? []);
          this.#count(countSoonMs);
        },
        rejected: (_role, type, node, resources) => {
          metrics.add('isthmus_xds_nacks_total', { type: short(type) }, resources.length);
          for (const r of resources)
            log('error', 'proxy rejected a resource', { node, resource: r.name, reason: r.reason });
        },
        refused: (port, error) => this.#refused(port, error),
      },
    });
  }

  changed(): void {
    this.#server?.changed();
  }

  /** Another CA issues, or other roots are trusted: new connections get what is so now. */
  reissue(): void {
    this.#renewal?.cancel();
    this.#renew();
  }

  /** Ends the streams on which gateways report. */
  endReports(): void {
    this.#server?.endReports();
  }

  /** Gateways' nodes on this replica that have acknowledged all resources of a type as they are now. */
  acknowledged(typeUrl: string): string[] {
    return (this.#server?.proxies() ?? []).flatMap(({ role, nodeId, types }) => {
      const type = role === 'gateway' ? types.find((one) => one.typeUrl === typeUrl) : undefined;
      const all = type?.synced === true && type.ackedVersion !== undefined && type.rejected.length === 0;
      return all ? [nodeId] : [];
    });
  }

  proxies(): ProxyReport[] {
    const now = this.#o.clock.wallMs();
    return (this.#server?.proxies() ?? []).map((p) => proxyReport(p, now)).sort((a, b) => (a.node < b.node ? -1 : 1));
  }

  async close(graceMs: number): Promise<void> {
    this.#renewal?.cancel();
    this.#counting?.timer.cancel();
    await this.#server?.close(graceMs);
  }

  async #certificate(): Promise<ServerTls> {
    const { config, authority, clock, rng } = this.#o;
    const serving = await issueServing(
      authority(),
      {
        dns: servingNames(config.namespace, config.clusterDomain),
        uris: [workloadId(config.trustDomain, config.namespace, 'isthmus-controller')],
        ttlS: config.mesh.certificateTtlS,
        nowMs: clock.wallMs(),
      },
      random,
    );
    const share = renewAt - renewJitter * rng();
    const inMs = Math.min(timerMaxMs, Math.max(1_000, (serving.notAfterMs - clock.wallMs()) * share));
    this.#renewal = clock.after(inMs, () => this.#renew());
    return { cert: serving.cert, key: serving.key, clientRoots: serving.roots };
  }

  #renew(): void {
    const { clock, log } = this.#o;
    this.#certificate()
      .then((tls) => this.#server?.updateTls(tls))
      .catch((error: unknown) => {
        log('error', 'serving certificate not renewed', { error: error as Error });
        this.#renewal = clock.after(renewRetryMs, () => this.#renew());
      });
  }

  #certificates() {
    const { config, authority, local, moreRoots, clock, rng, log, metrics } = this.#o;
    return createCertificateService({
      trustDomain: config.trustDomain,
      authority,
      moreRoots,
      sharedZtunnel,
      accountOnNode: (namespace, serviceAccount, node) => {
        for (const pod of local().pods.values()) {
          if (pod.node === node && pod.namespace === namespace && pod.serviceAccount === serviceAccount) return true;
        }
        return false;
      },
      ttlMaxS: config.mesh.certificateTtlS,
      clock,
      rng,
      random,
      issued: (issued, caller) => {
        metrics.add('isthmus_certificates_total', { result: 'issued' });
        this.#o.onIssued(issued, caller);
      },
      refused: (error) => {
        metrics.add('isthmus_certificates_total', { result: error.code });
        log('warn', 'certificate refused', { error });
      },
    });
  }

  #refused(port: string, error: IsthmusError): void {
    this.#o.metrics.add('isthmus_xds_denied_total', { code: error.code });
    this.#o.log('warn', 'call refused', { port, error });
  }

  /** Streams change in bursts and the count looks at all of them: once for each burst, within `withinMs`. */
  #count(withinMs: number): void {
    const { clock } = this.#o;
    const dueMs = clock.monotonicMs() + withinMs;
    if (this.#counting !== undefined && this.#counting.dueMs <= dueMs) return;
    this.#counting?.timer.cancel();
    const timer = clock.after(withinMs, () => {
      this.#counting = undefined;
      this.#counted();
    });
    this.#counting = { dueMs, timer };
  }

  #counted(): void {
    const pods = new Map<string, number>();
    const roles = { ztunnel: 0, gateway: 0 };
    for (const { role, nodeId } of this.#server?.proxies() ?? []) {
      roles[role]++;
      const pod = nodeId.split('~')[0]!;
      if (role === 'gateway') pods.set(pod, (pods.get(pod) ?? 0) + 1);
    }
    for (const each of ['ztunnel', 'gateway'] as const) {
      this.#o.metrics.set('isthmus_xds_streams', roles[each], { role: each });
    }
    this.#o.onGatewayStreams(pods);
  }
}

const short = (typeUrl: string): string => typeUrl.slice(typeUrl.lastIndexOf('.') + 1);

const proxyReport = (proxy: ProxyStatus, nowMs: number): ProxyReport => {
  const rejected = proxy.types.flatMap((t) => t.rejected.map((r) => ({ resource: r.name, reason: r.reason })));
  return {
    node: proxy.nodeId,
    role: proxy.role,
    connectedSeconds: Math.max(0, (nowMs - proxy.connectedSinceMs) / 1000),
    state: rejected.length > 0 ? 'rejected' : proxy.synced ? 'acked' : 'pending',
    types: proxy.types.map((t) => ({ type: short(t.typeUrl), sent: t.sentVersion ?? '', acked: t.ackedVersion ?? '' })),
    rejected,
  };
};
