/**
 * The mesh's trust as this replica lives it: which CA issues, which roots are trusted, and which of them every proxy of this cluster has.
 * The last is what a rotation of roots waits for, here and at every other member, so it is published with our records.
 */
import type { X509Certificate } from 'node:crypto';
import { type Authority, fullFingerprint } from '../ca/authority.ts';
import { givenRoots } from '../ca/issue.ts';
import { certificatesOf, pemOf } from '../ca/pem.ts';
import type { Caller, Issued } from '../ca/service.ts';
import type { Config } from '../config/controller.ts';
import type { Clock } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { MemberTrust, TrustReport } from '../core/trust_report.ts';
import type { MemberView } from '../federation/view.ts';
import type { ViewKeeper } from '../federation/view_keeper.ts';
import type { LoadedRecord } from '../gen/isthmus/v1/records_pb.ts';
import { json, type Reply } from '../ops/http.ts';
import type { Log } from '../ops/log.ts';
import type { GatewaySecrets } from '../translate/envoy/input.ts';
import { secretNames } from '../translate/envoy/resource_names.ts';
import { rootFingerprint } from '../trust/bundle.ts';
import { type GivenRoots, heldFor, type LoadedInput, loadedRecord, type ReplicaReport } from '../trust/loaded.ts';
import { types } from '../xds/resource.ts';
import type { CertificateKeeper } from './certificates.ts';
import type { Cluster } from './cluster.ts';
import type { Engine } from './engine.ts';
import type { OfferedSecrets } from './gateway_secrets.ts';
import { IssuedCertificates, sameRoots } from './issued.ts';
import { MeshCa } from './mesh_ca.ts';
import { NextProbes } from './next_probes.ts';
import type { Opening } from './opening.ts';
import type { Publishing } from './publishing.ts';
import type { Records } from './records.ts';
import { ReplicaReports } from './replica_reports.ts';
import type { TradedRoots } from './roots.ts';

/** What it works with; asked for when it is needed, for some of it is made later. */
export interface TrustParts {
  readonly cluster: Cluster;
  readonly engine: Engine;
  readonly keeper: CertificateKeeper;
  readonly opening: Opening;
  readonly publishing: Publishing;
  readonly secrets: OfferedSecrets;
  readonly traded: TradedRoots;
  readonly viewed: ViewKeeper;
  readonly records: Records;
}

export interface MeshTrustOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Log;
  readonly parts: () => TrustParts;
}

const egressPort = 15_018;
const controllerAccount = 'isthmus-controller';
/** While something changes, and while nothing does. */
const busyMs = 2_000;
const calmMs = 30_000;
const publishCalmMs = 5_000;
const toldBusyMax = 4_000;
const toldCalmMax = 1_000;
const closeWaitMs = 1_000;

/** The root that a chain ends in; empty when it is none of these. */
const rootOf = (chainPem: string, roots: readonly X509Certificate[]): string => {
  const last = certificatesOf(chainPem, 'chain').at(-1)!;
  const root = roots.find((one) => last.checkIssued(one) && last.verify(one.publicKey));
  return root === undefined ? '' : fullFingerprint(root);
};

const holdingOf = (secrets: GatewaySecrets): GivenRoots => {
  const roots = certificatesOf(secrets.tradedRoots, 'roots');
  return { roots: roots.map(fullFingerprint).sort(), issuer: rootOf(secrets.mesh.chain, roots) };
};

export class MeshTrust {
  readonly #o: MeshTrustOptions;
  readonly #ca: MeshCa;
  readonly #issued = new IssuedCertificates();
  readonly #gateways = new Map<string, GivenRoots & { readonly seenMs: number }>();
  #reports: ReplicaReports | undefined;
  #probes: NextProbes | undefined;
  #holding: { readonly of: GatewaySecrets; readonly roots: GivenRoots } | undefined;
  #adopted = false;
  #publishedAtMs = Number.NEGATIVE_INFINITY;

  /** @throws IsthmusError 'trust/invalid' or 'files/invalid' */
  constructor(options: MeshTrustOptions) {
    this.#o = options;
    const { config, clock, log } = options;
    this.#ca = new MeshCa({ dir: config.mesh.cacertsDir, clock, log, onChange: () => this.#changed() });
  }

  readonly authority = (): Authority => this.#ca.authority;
  /** CAs whose certificates are our own. */
  readonly issuers = (): readonly X509Certificate[] => this.#ca.issuers;
  /** Roots of our own mesh, PEM. */
  readonly meshRoots = (): string => this.#ca.authority.roots.map(pemOf).join('');
  readonly moreRoots = (): readonly X509Certificate[] => {
    const { traded, viewed } = this.#o.parts();
    return traded.current(viewed.view);
  };
  readonly onIssued = (issued: Issued, caller: Caller): void =>
    this.#issued.note(issued, caller, this.#o.clock.wallMs());

  problems(): readonly IsthmusError[] {
    return this.#ca.problem === undefined ? [] : [this.#ca.problem];
  }

  /** `GET /v1/trust` */
  route(path: string): Reply | undefined {
    return path === '/v1/trust' ? json(this.report()) : undefined;
  }

  report(): TrustReport {
    const { config, clock, parts } = this.#o;
    const { silenceMs } = config.publish;
    const nowMs = clock.monotonicMs();
    return {
      apiVersion: 'isthmus.dev/v1',
      kind: 'Trust',
      clusterset: config.clusterset,
      member: config.member,
      replica: config.replica,
      // Not the view's, which is as old as the last translation.
      members: [...parts().records.members.values()]
        .map((member) => memberTrust(member, nowMs, silenceMs))
        .sort((a, b) => (a.member < b.member ? -1 : 1)),
    };
  }

  /** Once a second. */
  tick(): void {
    this.#ca.look();
    const { publishing } = this.#o.parts();
    this.#probing().tick(publishing.chosen ? this.#ca.next : undefined);
    const reports = this.#replicas();
    const busy = this.#busy(this.#gives());
    const everyMs = busy ? busyMs : calmMs;
    if (reports.idle && reports.sinceReadMs >= everyMs) void reports.read().then(() => this.#adopt());
    if (!this.#adopted) return;
    if (reports.idle && reports.sinceWrittenMs >= everyMs) {
      void reports.write(this.#own(busy ? toldBusyMax : toldCalmMax, false));
    }
    const { clock } = this.#o;
    if (!busy && clock.monotonicMs() - this.#publishedAtMs < publishCalmMs) return;
    this.#publishedAtMs = clock.monotonicMs();
    this.#lookAtGateways();
    publishing.loaded(this.#loaded());
    this.#sweep();
  }

  /** Says, if it can be said soon, that nothing was issued after this. */
  async close(): Promise<void> {
    this.#probes?.close();
    if (!this.#adopted) return;
    const waited = new Promise<void>((resolve) => this.#o.clock.after(closeWaitMs, resolve));
    await Promise.race([this.#replicas().write(this.#own(toldBusyMax, true)), waited]);
  }

  #changed(): void {
    const { publishing, secrets, keeper, opening } = this.#o.parts();
    publishing.trust();
    secrets.offer();
    keeper.check();
    opening.serving?.reissue();
  }

  #gives(): GivenRoots {
    return {
      roots: givenRoots(this.#ca.authority, this.moreRoots()),
      issuer: fullFingerprint(this.#ca.authority.root),
    };
  }

  /** Something is under way: proxies, replicas or certificates that differ. */
  #busy(gives: GivenRoots): boolean {
    if (this.#ca.next !== undefined || !this.#issued.uniform(gives, this.#o.clock.wallMs())) return true;
    for (const one of this.#gateways.values()) if (!sameRoots(one, gives)) return true;
    return this.#replicas().all.some((report) => !report.closed && !sameRoots(report.gives, gives));
  }

  #probing(): NextProbes {
    const { config, clock, log, parts } = this.#o;
    this.#probes ??= new NextProbes({
      ...{ config, clock, log, moreRoots: this.moreRoots },
      view: () => parts().viewed.view,
      partners: (root) => this.#ready(root),
      localGateways: () => {
        const { cluster } = parts();
        const alive = cluster.gatewayPods().filter(({ name }) => cluster.liveness.health.get(name) !== false);
        return alive.map(({ name, address }) => ({ name, address, port: egressPort }));
      },
    });
    return this.#probes;
  }

  /** Partners of whom it is said that every proxy has the root; none before our own have. */
  #ready(root: string): readonly string[] {
    const { records, traded } = this.#o.parts();
    const has = (loaded: LoadedRecord | undefined): boolean =>
      loaded?.roots.some(
        ({ fingerprint, given, lacking }) =>
          given && lacking === 0 && Buffer.from(fingerprint).toString('hex') === root,
      ) === true;
    if (!has(records.members.get(this.#o.config.member)?.loaded)) return [];
    return traded.partners.filter((partner) => has(records.members.get(partner)?.loaded));
  }

  #replicas(): ReplicaReports {
    const { config, clock, log, parts } = this.#o;
    const { namespace, replica } = config;
    this.#reports ??= new ReplicaReports({ api: parts().cluster.api, namespace, replica, clock, log });
    return this.#reports;
  }

  /** The first reading: what an earlier run of this replica issued is still ours to tell. */
  #adopt(): void {
    const reports = this.#replicas();
    if (this.#adopted || !reports.known) return;
    this.#adopted = true;
    const untilMs = this.#o.clock.wallMs() + this.#o.config.mesh.certificateTtlS * 1_000;
    const own = reports.all.find(({ replica }) => replica === this.#o.config.replica);
    if (own !== undefined) {
      const after = own.closed ? [] : [{ ...own.gives, untilMs }];
      this.#issued.adopt(own.certificates, [...own.earlier, ...after]);
      for (const { node, ...rest } of own.gateways) if (!this.#gateways.has(node)) this.#gateways.set(node, rest);
    } else if (reports.all.length === 0) {
      // Whoever issued here before told nobody.
      this.#issued.adopt([], [{ roots: [], issuer: '', untilMs }]);
    }
  }

  /** What each Envoy has, by what it acknowledged: noted only when the table holds what we think it does. */
  #lookAtGateways(): void {
    const { engine, opening, cluster } = this.#o.parts();
    const { secrets } = engine;
    if (secrets === undefined || opening.serving === undefined) return;
    const holds = (name: string, text: string): boolean => {
      const resource = engine.tables.gateway.get(types.secret, name);
      return resource !== undefined && Buffer.from(resource.frame).includes(text);
    };
    if (this.#holding?.of !== secrets) this.#holding = { of: secrets, roots: holdingOf(secrets) };
    const translated =
      holds(secretNames.tradedRoots, secrets.tradedRoots) &&
      holds(secretNames.meshRoots, secrets.meshRoots) &&
      holds(secretNames.mesh, secrets.mesh.chain);
    if (!translated) return;
    const seenMs = this.#o.clock.wallMs();
    for (const node of opening.serving.acknowledged(types.secret)) {
      this.#gateways.set(node, { ...this.#holding.roots, seenMs });
    }
    const pods = new Set(cluster.gatewayPods().map(({ name }) => name));
    for (const node of this.#gateways.keys()) if (!pods.has(node.split('~')[0]!)) this.#gateways.delete(node);
  }

  /** @param most - certificates that are told one by one */
  #own(most: number, closed: boolean): ReplicaReport {
    const { config, clock } = this.#o;
    const atMs = clock.wallMs();
    return {
      ...{ replica: config.replica, atMs, closed },
      gives: this.#gives(),
      ...this.#issued.tell(atMs, most),
      gateways: [...this.#gateways].map(([node, one]) => ({ node, ...one })),
    };
  }

  #loaded(): LoadedRecord {
    const { config, clock, parts } = this.#o;
    const { cluster, traded } = parts();
    const pods = [...cluster.local.pods.values()];
    const own = this.#own(Number.POSITIVE_INFINITY, false);
    const others = this.#replicas().all.filter(({ replica }) => replica !== own.replica);
    const input: LoadedInput = {
      reports: [...others, own],
      nowMs: clock.wallMs(),
      ttlMs: config.mesh.certificateTtlS * 1_000,
      wanted: own.gives.roots,
      partners: traded.partners,
      controllers: pods
        .filter((pod) => pod.namespace === config.namespace && pod.serviceAccount === controllerAccount)
        .filter(({ terminating }) => !terminating)
        .map(({ name }) => name),
      gatewayPods: cluster
        .gatewayPods()
        .filter(({ terminating }) => !terminating)
        .map(({ name }) => name),
      pods:
        cluster.pending().length > 0
          ? undefined
          : new Set(pods.flatMap((pod) => [pod.uid, heldFor(pod.namespace, pod.serviceAccount, pod.node)])),
      probes: this.#probes?.results ?? new Map(),
    };
    return loadedRecord(input);
  }

  /** Reports of replicas that are gone, when nothing that they issued can be in use. */
  #sweep(): void {
    const { config, clock, parts } = this.#o;
    if (!parts().publishing.chosen) return;
    const oldestMs = clock.wallMs() - 2 * config.mesh.certificateTtlS * 1_000 - calmMs;
    const gone = this.#replicas().all.find(({ replica, atMs }) => replica !== config.replica && atMs < oldestMs);
    if (gone !== undefined && this.#replicas().idle) void this.#replicas().remove(gone.replica);
  }
}

const memberTrust = (view: MemberView, nowMs: number, silenceMs: number): MemberTrust => {
  const { member, freshAtMs, trust, loaded, problems } = view;
  const problem = problems.find(({ code, message }) => code.startsWith('trust/') && message.includes('trust'));
  const number = (value: bigint): number => Number(value);
  return {
    member: member.name,
    ageSeconds: freshAtMs === undefined ? null : (nowMs - freshAtMs) / 1_000,
    fresh: freshAtMs !== undefined && nowMs - freshAtMs <= silenceMs,
    bundle: (trust?.roots ?? []).map(rootFingerprint),
    sequence: String(trust?.sequence ?? 0n),
    registered: member.trustRoots ?? [],
    ...(problem !== undefined && { problem: problem.message }),
    ...(loaded !== undefined && {
      loaded: {
        roots: loaded.roots.map((one) => ({
          root: Buffer.from(one.fingerprint).toString('hex'),
          given: one.given,
          issuing: one.issuing,
          lacking: one.lacking,
          lackingUntilMs: number(one.lackingUntilMs),
          lackingNames: one.lackingNames,
          inUse: one.inUse,
          inUseUntilMs: number(one.inUseUntilMs),
          inUseNames: one.inUseNames,
          probed: one.probed,
          probeFailed: one.probeFailed,
        })),
        partners: loaded.partners,
        unknown: loaded.unknown,
      },
    }),
  };
};
