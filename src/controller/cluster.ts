/**
 * The Kubernetes side of a controller: what the cluster is, who writes, whom a token speaks for, and what stands on the
 * exports. Also which pods are the local gateways, and whether they answer.
 */
import type { KubeConfig } from '@kubernetes/client-node';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import type { ExportProblem, LocalChange, LocalCluster, Locality } from '../federation/local.ts';
import type { View } from '../federation/view.ts';
import { GatewayLiveness } from '../gateway/liveness.ts';
import { type KubeApi, openKubeApi } from '../kube/api.ts';
import { type ConditionKind, type ConditionsWriter, openConditionWriter } from '../kube/condition_writer.ts';
import { exportConditions, exportKind } from '../kube/conditions.ts';
import { type Discovery, startDiscovery } from '../kube/discovery.ts';
import { egressConditions, egressKind } from '../kube/egress_conditions.ts';
import { type Events, openEvents } from '../kube/events.ts';
import { type Election, type LostReason, startElection } from '../kube/lease.ts';
import type { ConditionTarget } from '../kube/objects.ts';
import { type PolicyStanding, policyConditions, policyKind } from '../kube/policy_conditions.ts';
import { type ServiceTraffic, serviceConditions, serviceKind } from '../kube/service_conditions.ts';
import { openTokenReviewer, type TokenReviewer } from '../kube/tokens.ts';
import type { Log } from '../ops/log.ts';
import { defaultBinding, type GatewaySettings } from '../translate/envoy/input.ts';
import { isGatewayPod, type ZtunnelConfig } from '../translate/ztunnel/inputs.ts';
import { EgressBook } from './egress_book.ts';
import { isLastController } from './farewell.ts';
import type { Shared } from './publishing_options.ts';

export interface ClusterOptions {
  readonly config: Config;
  readonly kubeConfig: KubeConfig;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  /** Different for each process. */
  readonly identity: string;
  readonly savedTokens: Uint8Array | undefined;
  readonly onChange: (change: LocalChange) => void;
  readonly onGatewayHealth: (health: ReadonlyMap<string, boolean>) => void;
  readonly onLead: (term: number) => void;
  readonly onLost: (reason: LostReason) => void;
  /** The token reviewer knows more than what is saved. */
  readonly onTokens: () => void;
  /** What the conditions of exports tell: `own` is what is shared of ours. */
  readonly said: () => { readonly view: View; readonly problemOf: ProblemOf; readonly own: Shared };
}

export interface GatewayPod {
  readonly name: string;
  readonly address: string;
  readonly ready: boolean;
  readonly terminating: boolean;
  readonly locality: Locality;
}

export type ProblemOf = (key: string) => ExportProblem | undefined;

const tokenAudience = 'istio-ca';

/** What translations need to know of this cluster. */
export const meshOf = (config: Config): ZtunnelConfig => ({
  clusterId: config.member,
  network: config.network,
  trustDomain: config.trustDomain,
  clusterDomain: config.clusterDomain,
  namespace: config.namespace,
  gatewayService: config.gateway.service,
});

/** What translations need to know of our gateways. */
export const gatewayOf = ({ trustDomain, clusterDomain, egress }: Config): Omit<GatewaySettings, 'self'> => ({
  ...{ trustDomain, clusterDomain, ...egress },
  binding: defaultBinding,
});

export class Cluster {
  readonly api: KubeApi;
  readonly tokens: TokenReviewer;
  readonly liveness: GatewayLiveness;
  readonly #o: ClusterOptions;
  readonly #discovery: Discovery;
  readonly #election: Election;
  readonly #events: Events;
  readonly #conditions: ConditionsWriter;
  readonly #policyConditions: ConditionsWriter;
  readonly #serviceConditions: ConditionsWriter;
  readonly #egressConditions: ConditionsWriter;
  readonly #streams = new Map<string, number>();
  /** From disk, until the API server was heard. */
  #saved: LocalCluster | undefined;
  #gateways = '';
  #policiesTold: ReadonlySet<string> = new Set();
  #egressReadable: boolean | undefined;
  /** Who may call what through our egress. */
  readonly egress: EgressBook;

  constructor(options: ClusterOptions) {
    this.#o = options;
    this.egress = new EgressBook(options.config.trustDomain);
    const { config, kubeConfig, clock, rng, log } = options;
    this.api = openKubeApi(kubeConfig, clock);
    const { savedTokens: saved } = options;
    this.tokens = openTokenReviewer({
      api: this.api,
      clock,
      log,
      audiences: [tokenAudience],
      ...(saved === undefined ? {} : { saved }),
      onChange: options.onTokens,
    });
    this.liveness = new GatewayLiveness({
      clock,
      rng,
      log,
      intervalMs: config.gateway.probeIntervalMs,
      changed: options.onGatewayHealth,
    });
    this.#discovery = startDiscovery({
      kubeConfig,
      clock,
      rng,
      log,
      defaultMode: config.serviceMode,
      clusterDomain: config.clusterDomain,
      onChange: (change) => {
        const all = this.#withSaved(change);
        this.#followGateways();
        if (all.egressPolicies === true) this.#followEgress();
        options.onChange(all);
      },
      onProblem: (kind, error) => log('warn', 'a kind cannot be watched', { kind, error }),
    });
    this.#election = startElection({
      api: this.api,
      clock,
      log,
      namespace: config.namespace,
      name: 'isthmus-writer',
      identity: options.identity,
      ttlMs: config.lease.ttlMs,
      renewMs: config.lease.renewMs,
      onLead: (term) => {
        options.onLead(term);
        for (const writer of this.#writers) writer.recheck();
      },
      onLost: options.onLost,
    });
    this.#events = openEvents({ api: this.api, clock, log, identity: options.identity });
    const writer = (kind: ConditionKind, objects: ReadonlyMap<string, ConditionTarget>): ConditionsWriter =>
      openConditionWriter({
        api: this.api,
        clock,
        log,
        kind,
        objects,
        isWriter: () => this.#election.leading(),
        events: this.#events,
      });
    this.#conditions = writer(exportKind, this.#discovery.exports);
    this.#policyConditions = writer(policyKind, this.#discovery.policyObjects);
    this.#serviceConditions = writer(serviceKind, this.#discovery.serviceObjects);
    this.#egressConditions = writer(egressKind, this.#discovery.egressObjects);
  }

  get #writers(): readonly ConditionsWriter[] {
    return [this.#conditions, this.#policyConditions, this.#serviceConditions, this.#egressConditions];
  }

  get local(): LocalCluster {
    return this.#saved ?? this.#discovery.cluster;
  }
  get leading(): boolean {
    return this.#election.leading();
  }
  pending(): readonly string[] {
    return this.#discovery.synced().pending;
  }
  staleMs(): Readonly<Record<string, number>> {
    return this.#discovery.staleMs();
  }
  /** Kinds that we may not read, and go without. */
  denied(): ReadonlyMap<string, IsthmusError> {
    return this.#discovery.denied();
  }
  /** Standing problems, for `status`. */
  problems(): readonly IsthmusError[] {
    const denied = [...this.denied()].map(
      ([kind, cause]) =>
        new IsthmusError('kube/denied', `${kind} may not be read, so the defaults are used instead: ${cause.message}`, {
          cause,
          hint: 'apply the roles of this version (deploy/rbac.yaml); what is there is picked up within seconds',
        }),
    );
    return [...denied, ...this.egress.problems()];
  }

  /** Serves what an earlier run saw, until the API server says otherwise. */
  restore(local: LocalCluster): void {
    if (this.pending().length === 0) return;
    this.#saved = local;
    this.egress.restore(local.egressPolicies);
    this.#followGateways();
  }

  /** How many discovery streams each gateway pod holds at this replica. */
  gatewayStreams(streams: ReadonlyMap<string, number>): void {
    for (const pod of new Set([...this.#streams.keys(), ...streams.keys()])) {
      const open = streams.get(pod) ?? 0;
      if (this.#streams.get(pod) === open) continue;
      this.#streams.set(pod, open);
      this.liveness.streams(pod, open);
    }
  }

  /** Brings the conditions of these services' exports up to date. */
  report(services: Iterable<string>): void {
    const { view, problemOf, own } = this.#o.said();
    for (const key of services) {
      if (!this.#discovery.exports.has(key)) this.#conditions.forget(key);
      else {
        const conflicts = view.services.get(key)?.conflicts ?? [];
        const problem = problemOf(key);
        const published = own.services.has(key);
        this.#conditions.set(key, exportConditions({ problem, conflicts, published }));
      }
    }
  }

  /** Brings the conditions of all FailoverPolicies up to date: those not named are gone. */
  reportPolicies(standings: ReadonlyMap<string, PolicyStanding>): void {
    for (const key of this.#policiesTold) if (!standings.has(key)) this.#policyConditions.forget(key);
    for (const [key, standing] of standings) this.#policyConditions.set(key, policyConditions(standing));
    this.#policiesTold = new Set(standings.keys());
  }

  /** Where a Service's traffic goes, for its condition; undefined: nothing is decided about it any more. */
  reportTraffic(key: string, traffic: ServiceTraffic | undefined): void {
    if (!this.#discovery.serviceObjects.has(key)) this.#serviceConditions.forget(key);
    else {
      const { away, reason, message } = traffic ?? { away: false, reason: '', message: 'only this cluster serves it' };
      this.#serviceConditions.set(key, serviceConditions({ away, reason, message }));
    }
  }

  async close(): Promise<void> {
    for (const writer of this.#writers) writer.close();
    this.#events.close();
    this.liveness.close();
    await this.#election.close();
    this.#discovery.close();
    this.tokens.close();
    this.api.close();
  }

  /** Whether the controllers of this cluster end with this one. */
  lastController(): boolean {
    const { namespace, replica } = this.#o.config;
    return isLastController({ namespace, replica, pods: this.local.pods, staleMs: this.staleMs()['pods'] ?? Infinity });
  }

  /** Whether a pod is one of this cluster's gateways. */
  isGateway(pod: string): boolean {
    const found = this.local.pods.get(`${this.#o.config.namespace}/${pod}`);
    return found !== undefined && isGatewayPod(found, meshOf(this.#o.config));
  }

  gatewayPods(): GatewayPod[] {
    const config = meshOf(this.#o.config);
    return [...this.local.pods.values()]
      .filter((pod) => isGatewayPod(pod, config) && pod.addresses.length > 0)
      .map((pod) => ({
        name: pod.name,
        address: pod.addresses[0]!,
        ready: pod.ready,
        terminating: pod.terminating,
        locality: pod.locality,
      }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** What was saved and is gone by now is a change too. */
  #withSaved(change: LocalChange): LocalChange {
    const saved = this.#saved;
    this.#saved = undefined;
    if (saved === undefined) return change;
    return {
      services: new Set([...change.services, ...saved.services.keys()]),
      pods: new Set([...change.pods, ...saved.pods.keys()]),
      policies: true,
      failoverPolicies: true,
      egressPolicies: true,
      imports: new Set([...(change.imports ?? []), ...(saved.imports?.keys() ?? [])]),
    };
  }

  /** Once a second: an answer that holds no policy is no change, but where they could not be read before it ends those of an earlier run. */
  recheckEgress(): void {
    if (this.pending().length > 0 || this.#egressReadable === !this.denied().has('egresspolicies')) return;
    this.#followEgress();
    this.#o.onChange({
      services: new Set(),
      pods: new Set(),
      policies: false,
      failoverPolicies: false,
      egressPolicies: true,
    });
  }

  /** The rules, and what stands on the objects that they are made of. */
  #followEgress(): void {
    const told = this.egress.outcomes;
    this.#egressReadable = !this.denied().has('egresspolicies');
    this.egress.update(this.local.egressPolicies, this.#egressReadable);
    const { outcomes } = this.egress;
    for (const name of told.keys()) if (!outcomes.has(name)) this.#egressConditions.forget(name);
    for (const [name, outcome] of outcomes) {
      const { accepted } = outcome;
      this.#egressConditions.set(name, egressConditions(outcome), accepted === undefined ? {} : { accepted });
    }
  }

  #followGateways(): void {
    const pods = this.gatewayPods().map(({ name, address }) => ({ name, address }));
    const shape = JSON.stringify(pods);
    if (shape === this.#gateways) return;
    this.#gateways = shape;
    this.liveness.setPods(pods);
  }
}
