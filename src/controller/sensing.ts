/**
 * Everything that this cluster finds out for itself about the others: probes of the data path and of applications, and what its own
 * gateways report. Only the replica that decides senses: the others would double the probes and decide nothing.
 */
import { randomBytes, type X509Certificate } from 'node:crypto';
import type { Authority } from '../ca/authority.ts';
import { certChain, issueLeaf } from '../ca/issue.ts';
import { newP256 } from '../ca/mint.ts';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng, Timer } from '../core/clock.ts';
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
import type { ServiceTarget } from '../probe/rotation.ts';
import { grayTarget, memberTargets, serviceTarget, serviceTargets } from '../probe/targets.ts';
import { Telemetry } from '../telemetry/collector.ts';
import { EjectionWatch } from '../telemetry/ejections.ts';
import { HostIndex } from '../telemetry/host_index.ts';
import { parseMemberId, workloadId } from '../trust/spiffe.ts';
import type { GatewayPod } from './cluster.ts';
import type { Failover } from './failover.ts';
import { Loads } from './loads.ts';

export interface SensingOptions {
  readonly config: Config;
  readonly authority: () => Authority;
  readonly moreRoots: () => readonly X509Certificate[];
  readonly failover: Failover;
  readonly chosen: () => boolean;
  readonly view: () => View;
  readonly local: () => LocalCluster;
  /** Those that answer. */
  readonly gatewayPods: () => readonly GatewayPod[];
  readonly path: (member: string) => PathTime | undefined;
  /** Names of the clusters that gateways have. */
  readonly clusters: () => Iterable<string>;
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

interface Probers {
  readonly path: DataPathProber;
  readonly gray: GrayProber;
}

export class Sensing {
  readonly telemetry: Telemetry;
  readonly #o: SensingOptions;
  readonly #ejections: EjectionWatch;
  readonly #hosts = new HostIndex();
  readonly loads = new Loads();
  #probers: Probers | undefined;
  #credentials: Credentials | undefined;
  #rootsOf: unknown;
  #issuer: unknown;
  #renewal: Timer | undefined;
  #closed = false;

  constructor(options: SensingOptions) {
    this.#o = options;
    const { chosen, view, clock, failover, clusters } = options;
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
    });
    this.telemetry.start();
  }

  receivingSpill(): ReadonlySet<ServiceKey> {
    return this.telemetry.border.receiving(spillPerSecond);
  }

  /** `GET /healthz` of a service that asks to be probed. */
  graySignal(service: ServiceKey): string | undefined {
    const annotations = this.#o.view().services.get(service)?.local?.annotations;
    const spec = annotations === undefined ? undefined : parseGraySpec(annotations);
    return spec?.ok === true && spec.value !== undefined ? `GET ${spec.value.path}` : undefined;
  }

  /** Once a second: begins and ends with being chosen, follows what is suspected. */
  tick(): void {
    if (this.#closed) return;
    if (!this.#o.chosen()) {
      this.#stop();
      return;
    }
    if (this.#rootsOf !== this.#o.moreRoots() || this.#issuer !== this.#o.authority()) this.#renew();
    this.#ejections.setPods(this.#o.gatewayPods());
    if (this.#credentials !== undefined) this.#start();
    this.#probers?.path.want(this.#wanted());
  }

  /** These services, or where they are exported, may be others than before. */
  services(keys: ReadonlySet<ServiceKey>): void {
    const view = this.#o.view();
    for (const key of keys) this.#hosts.set(key, view.services.get(key));
    if (this.#probers === undefined) return;
    this.#probers.path.setMembers(memberTargets(view.members, view.self));
    for (const key of keys) this.#service(this.#probers, key, view);
  }

  close(): void {
    this.#closed = true;
    this.#stop();
    this.telemetry.stop();
    this.#ejections.close();
  }

  #start(): void {
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
    };
    const probers: Probers = {
      path: new DataPathProber({
        ...common,
        onResult: (result, detail) => {
          this.#o.metrics.add('isthmus_probes_total', { peer: result.member, result: result.failedAt ?? 'ok' });
          if (!result.ok) log('debug', 'probe failed', { peer: result.member, service: result.service, detail });
          failover.probe(result);
        },
      }),
      gray: new GrayProber({
        ...common,
        self: config.member,
        gateways: (member) => memberTargets(view().members, config.member).get(member) ?? [],
        onSignal: (signal) => failover.gray(signal),
        onProblem: (service, member, problem) => {
          if (problem !== undefined) log('warn', 'a service cannot be probed', { service, member, problem });
        },
      }),
    };
    this.#probers = probers;
    const now = view();
    probers.path.setMembers(memberTargets(now.members, now.self));
    for (const key of now.services.keys()) this.#service(probers, key, now);
    probers.path.start();
    probers.gray.start();
  }

  #stop(): void {
    this.#probers?.path.stop();
    this.#probers?.gray.stop();
    this.#probers = undefined;
    this.#renewal?.cancel();
    this.#renewal = undefined;
    this.#credentials = undefined;
    this.#rootsOf = undefined;
  }

  #service({ path, gray }: Probers, key: ServiceKey, view: View): void {
    const { config, local, log } = this.#o;
    const service = view.services.get(key);
    path.setService(key, service === undefined ? [] : serviceTargets(service, view, config.trustDomain));
    const asked = service === undefined ? undefined : grayTarget(service, view, local(), config.trustDomain);
    if (asked?.ok === false) log('warn', 'a service’s probe cannot be read', { service: key, error: asked.error });
    gray.setService(key, asked?.ok === true ? asked.value : undefined);
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
    const pair = newP256();
    const identity = workloadId(config.trustDomain, config.namespace, 'isthmus-controller');
    const ttlS = Math.min(certificateTtlS, config.mesh.certificateTtlS);
    const request = { identity, publicKey: pair.publicKey, ttlS, ttlMaxS: ttlS, nowMs: clock.wallMs() };
    issueLeaf(authority(), request, (bytes) => new Uint8Array(randomBytes(bytes))).then(
      (leaf) => {
        if (this.#rootsOf !== roots || this.#issuer !== authority() || this.#closed || !this.#o.chosen()) return;
        const chain = certChain(leaf, authority(), roots);
        this.#credentials = {
          certificatePem: chain.slice(0, -1).join(''),
          keyPem: pair.keyPem,
          rootsPem: chain.at(-1)!,
        };
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
