/**
 * Everything that this cluster finds out for itself about the others: probes of the data path and of applications, and what its own
 * gateways report. The replica that decides senses all of it. The others probe gateways alone, for two things: who was put out, should
 * the store keep it from them, and whom to leave when the one that decides is not heard (`overheard.ts`).
 */
import type { KeyObject, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import type { Authority } from '../ca/authority.ts';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import type { DenialReport } from '../core/egress_report.ts';
import type { ServiceKey } from '../core/names.ts';
import type { LocalCluster } from '../federation/local.ts';
import type { View } from '../federation/view.ts';
import type { Credentials } from '../hbone/credentials.ts';
import { createDialer } from '../hbone/dialer.ts';
import type { PathTime } from '../health/signals.ts';
import { cellOf } from '../health/verdict.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import { DataPathProber } from '../probe/data_path.ts';
import { GrayProber } from '../probe/gray.ts';
import { parseGraySpec } from '../probe/gray_spec.ts';
import { MetricProber } from '../probe/metric.ts';
import { metricText, parseMetricSpec } from '../probe/metric_spec.ts';
import type { ServiceTarget } from '../probe/rotation.ts';
import { grayTarget, memberTargets, metricTarget, serviceTarget, serviceTargets } from '../probe/targets.ts';
import { DiskJournalFiles } from '../store/journal_files.ts';
import { Telemetry } from '../telemetry/collector.ts';
import { Denials } from '../telemetry/denials.ts';
import { EjectionWatch } from '../telemetry/ejections.ts';
import { HostIndex } from '../telemetry/host_index.ts';
import { parseMemberId, workloadId } from '../trust/spiffe.ts';
import { version } from '../version.ts';
import { Auditing } from './auditing.ts';
import type { GatewayPod } from './cluster.ts';
import type { Failover } from './failover.ts';
import { Loads } from './loads.ts';
import { selfIssued } from './self_issued.ts';

export interface SensingOptions {
  readonly config: Config;
  readonly authority: () => Authority;
  readonly moreRoots: () => readonly X509Certificate[];
  readonly failover: Failover;
  /** What a member's gateway told of who was put out (`federation/revocation_text.ts`). */
  readonly onRevocations: (member: string, text: string) => void;
  readonly chosen: () => boolean;
  readonly view: () => View;
  readonly local: () => LocalCluster;
  /** Those that answer. */
  readonly gatewayPods: () => readonly GatewayPod[];
  readonly path: (member: string) => PathTime | undefined;
  /** Names of the clusters that gateways have. */
  readonly clusters: () => Iterable<string>;
  /** The member's record key, and the epoch of the writer's term: for the audit. */
  readonly signing: { readonly recordKey: KeyObject; readonly epoch: () => bigint };
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  readonly metrics: Metrics;
}

const egressPort = 15_018;
const certificateTtlS = 3_600;
const renewMs = 1_200_000;
const renewRetryMs = 5_000;
/** A service that takes so many CONNECTs a second from other clusters receives spill. */
const spillPerSecond = 1;

const auditingOf = ({ config, signing, clock, rng, log, metrics }: SensingOptions): Auditing =>
  new Auditing({
    member: config.member,
    replica: config.replica,
    ...signing,
    files: new DiskJournalFiles({ dir: join(config.state.dir, 'audit'), clock }),
    ...config.audit,
    version,
    clock,
    rng,
    log,
    metrics,
  });

interface Probers {
  readonly path: DataPathProber;
  /** Undefined: this replica only listens. */
  readonly gray: GrayProber | undefined;
  /** Undefined: nothing is configured to ask, or this replica only listens. */
  readonly metric: MetricProber | undefined;
}

export class Sensing {
  readonly telemetry: Telemetry;
  readonly auditing: Auditing;
  readonly #o: SensingOptions;
  readonly #ejections: EjectionWatch;
  readonly #hosts = new HostIndex();
  readonly loads = new Loads();
  readonly #denials = new Denials();
  #probers: Probers | undefined;
  #credentials: Credentials | undefined;
  #rootsOf: unknown;
  #issuer: unknown;
  #renewal: Timer | undefined;
  #closed = false;

  constructor(options: SensingOptions) {
    this.#o = options;
    const { chosen, view, clock, failover, clusters } = options;
    this.auditing = auditingOf(options);
    this.#ejections = new EjectionWatch({ clock });
    this.telemetry = new Telemetry({
      clock,
      accepts: chosen,
      isMember: (name) => view().members.has(name),
      memberOf: (identity) => this.#memberOf(identity),
      serviceOf: this.#hosts.serviceOf,
      clusters,
      ejected: (member, service) => this.#ejections.ejected(member, service),
      ejecting: () => this.#ejections.ejecting(),
      onWindows: (windows) => {
        for (const window of windows) this.loads.add(window);
        if (chosen()) failover.traffic(windows);
      },
      onConnection: (event) => {
        this.auditing.connection(event);
        if (!event.begins) this.#denials.add(event.connection, clock.monotonicMs());
      },
      onLogs: (nodeId, begins) => this.auditing.source(nodeId, begins),
    });
    this.telemetry.start();
    void this.auditing.open();
  }

  /** Who was denied what lately, as far as gateways told this replica; newest first. */
  denied(): readonly DenialReport[] {
    const nowMs = this.#o.clock.monotonicMs();
    return this.#denials
      .recent(nowMs)
      .map(({ lastMs, ...denial }) => ({ ...denial, lastSeconds: (nowMs - lastMs) / 1_000 }));
  }

  receivingSpill(): ReadonlySet<ServiceKey> {
    return this.telemetry.border.receiving(spillPerSecond);
  }

  /** The gray signal of a service, of whichever kind: `GET /healthz`, or `metric … above 0.05`. */
  graySignal(service: ServiceKey): string | undefined {
    const annotations = this.#o.view().services.get(service)?.local?.annotations;
    if (annotations === undefined) return undefined;
    const spec = parseGraySpec(annotations);
    if (spec.ok && spec.value !== undefined) return `GET ${spec.value.path}`;
    const metric = parseMetricSpec(annotations);
    if (!metric.ok || metric.value === undefined || this.#o.config.metricQueries.url === undefined) return undefined;
    return metricText(metric.value);
  }

  /** Once a second: follows who is chosen, and what is suspected. */
  tick(): void {
    if (this.#closed) return;
    this.auditing.gauge(this.#o.failover.anchors());
    const chosen = this.#o.chosen();
    if (this.#probers !== undefined && chosen !== (this.#probers.gray !== undefined)) this.#stop();
    if (this.#rootsOf !== this.#o.moreRoots() || this.#issuer !== this.#o.authority()) this.#renew();
    if (this.#credentials !== undefined) this.#start(chosen);
    if (!chosen) return;
    this.#ejections.setPods(this.#o.gatewayPods());
    this.#probers?.path.want(this.#wanted());
  }

  /** These services, or where they are exported, may be others than before. */
  services(keys: ReadonlySet<ServiceKey>): void {
    const view = this.#o.view();
    for (const key of keys) this.#hosts.set(key, view.services.get(key));
    if (this.#probers === undefined) return;
    this.#probers.path.setMembers(memberTargets(view.members, view.self));
    if (this.#probers.gray !== undefined) for (const key of keys) this.#service(this.#probers, key, view);
  }

  close(): void {
    this.#closed = true;
    this.#stop();
    this.telemetry.stop();
    this.#ejections.close();
  }

  #start(chosen: boolean): void {
    if (this.#probers !== undefined) return;
    const { config, clock, rng, view, path, failover, log } = this.#o;
    const common = {
      clock,
      rng,
      dialer: createDialer({ credentials: () => this.#credentials!, clock }),
      clusterset: config.clusterset,
      gatewayIdentity: workloadId(config.trustDomain, config.namespace, config.gateway.serviceAccount),
      localGateways: () => this.#o.gatewayPods().map(({ name, address }) => ({ name, address, port: egressPort })),
      path,
      onRevocations: this.#o.onRevocations,
    };
    const now = view();
    const targets = memberTargets(now.members, now.self);
    if (!chosen) {
      // Paths alone: a region that goes may take with it the store that would bring the writer's word.
      const following = new DataPathProber({ ...common, onResult: (result) => failover.overheard.probe(result) });
      this.#probers = { path: following, gray: undefined, metric: undefined };
      following.setMembers(targets);
      following.start();
      return;
    }
    const pathProber = new DataPathProber({
      ...common,
      onResult: (result, detail) => {
        this.#o.metrics.add('isthmus_probes_total', { peer: result.member, result: result.failedAt ?? 'ok' });
        if (!result.ok) log('debug', 'probe failed', { peer: result.member, service: result.service, detail });
        failover.probe(result);
      },
    });
    const gray = new GrayProber({
      ...common,
      self: config.member,
      gateways: (member) => memberTargets(view().members, config.member).get(member) ?? [],
      onSignal: (signal) => failover.gray(signal),
      onProblem: (service, member, problem) => {
        if (problem !== undefined) log('warn', 'a service cannot be probed', { service, member, problem });
      },
    });
    const probers: Probers = { path: pathProber, gray, metric: this.#metricProber() };
    this.#probers = probers;
    pathProber.setMembers(targets);
    for (const key of now.services.keys()) this.#service(probers, key, now);
    pathProber.start();
    gray.start();
    probers.metric?.start();
  }

  #metricProber(): MetricProber | undefined {
    const { config, clock, rng, failover, log } = this.#o;
    const { url, tokenFile, timeoutMs } = config.metricQueries;
    if (url === undefined) return undefined;
    return new MetricProber({
      self: config.member,
      source: { url, tokenFile, timeoutMs },
      clock,
      rng,
      onSignal: (signal) => failover.gray(signal),
      onProblem: (service, problem) => {
        if (problem !== undefined) log('warn', 'the metric of a service says nothing', { service, problem });
      },
    });
  }

  #stop(): void {
    this.#probers?.path.stop();
    this.#probers?.gray?.stop();
    this.#probers?.metric?.stop();
    this.#probers = undefined;
    this.#renewal?.cancel();
    this.#renewal = undefined;
    this.#credentials = undefined;
    this.#rootsOf = undefined;
  }

  #service({ path, gray, metric }: Probers, key: ServiceKey, view: View): void {
    const { config, local, log } = this.#o;
    const service = view.services.get(key);
    path.setService(key, service === undefined ? [] : serviceTargets(service, view, config.trustDomain));
    const asked = service === undefined ? undefined : grayTarget(service, view, local(), config.trustDomain);
    if (asked?.ok === false) log('warn', 'a service’s probe cannot be read', { service: key, error: asked.error });
    gray?.setService(key, asked?.ok === true ? asked.value : undefined);
    const measured = service === undefined ? undefined : metricTarget(service, view);
    if (measured?.ok === false)
      log('warn', 'a service’s metric query cannot be read', { service: key, error: measured.error });
    const target = measured?.ok === true ? measured.value : undefined;
    if (target !== undefined && this.#o.config.metricQueries.url === undefined) {
      log('warn', 'a service asks for a metric, and metricQueries.url is not configured', { service: key });
    }
    metric?.setService(key, target);
  }

  /** What waits for an answer: services that vanished, and cells that are suspected or out. */
  #wanted(): ServiceTarget[] {
    const { config, failover, view } = this.#o;
    const { members, services } = view();
    const wanted: ServiceTarget[] = [];
    const want = (key: ServiceKey, member: string): void => {
      const service = services.get(key);
      const record = service?.remotes.get(member);
      if (service === undefined || record === undefined) return;
      const target = serviceTarget(service, member, record, members, config.trustDomain);
      if (target !== undefined) wanted.push(target);
    };
    for (const [member, keys] of failover.withdrawing.canaries) for (const key of keys) want(key, member);
    for (const [key, { state }] of failover.deciding.verdicts.cells) {
      if (state === 'fresh') continue;
      const { service, member } = cellOf(key);
      want(service, member);
    }
    return wanted;
  }

  #renew(): void {
    const { config, authority, moreRoots, clock, log } = this.#o;
    const roots = moreRoots();
    this.#rootsOf = roots;
    this.#issuer = authority();
    this.#renewal?.cancel();
    const identity = workloadId(config.trustDomain, config.namespace, 'isthmus-controller');
    const ttlS = Math.min(certificateTtlS, config.mesh.certificateTtlS);
    selfIssued({ authority: authority(), moreRoots: roots, identity, ttlS, clock }).then(
      (credentials) => {
        if (this.#rootsOf !== roots || this.#issuer !== authority() || this.#closed) return;
        this.#credentials = credentials;
        this.#renewal = clock.after(Math.min(renewMs, (ttlS * 1_000) / 3), () => this.#renew());
      },
      (error: unknown) => {
        log('error', 'no certificate for probes', { error: error as Error });
        this.#renewal = clock.after(renewRetryMs, () => this.#renew());
      },
    );
  }

  #memberOf(identity: string): string | undefined {
    const { config, view } = this.#o;
    const parsed = parseMemberId(identity);
    if (!parsed.ok || parsed.value.clusterset !== config.clusterset) return undefined;
    return view().members.has(parsed.value.member) ? parsed.value.member : undefined;
  }
}
