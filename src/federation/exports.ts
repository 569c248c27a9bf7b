/**
 * What we publish: this cluster's exported services, gateways and roots as records, kept up to date by keys.
 *
 * Capacity crosses the border, not pods: how many are ready in which locality. So a pod that is replaced by another one changes no
 * byte, and nothing is written. Equal input gives equal bytes on every replica and after every restart.
 */
import { IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import type { KeysSeen } from '../gen/isthmus/v1/keys_pb.ts';
import type {
  Gateway,
  GatewaysRecord,
  LoadedRecord,
  TrustRecord,
  VantageRecord,
} from '../gen/isthmus/v1/records_pb.ts';
import { codec } from '../records/codec.ts';
import { declaredCapacity } from './capacity.ts';
import {
  type Decided,
  grantsRecord,
  grantTargets,
  type SpillOffer,
  verdictsContent,
  verdictsRecord,
} from './decided.ts';
import { unknownReaders } from './export_to.ts';
import type { ExportProblem, LocalCluster, Locality, LocalService } from './local.ts';
import { serviceRecord } from './service_record.ts';

/** Records to write, by key relative to our own prefix; undefined withdraws. */
export type DesiredRecords = ReadonlyMap<string, Uint8Array | undefined>;

export interface ExportedGateway {
  /** A DNS name, unique in the cluster: the pod's. */
  readonly id: string;
  readonly address: string;
  readonly federationPort: number;
  readonly hbonePort: number;
  readonly draining: boolean;
  readonly locality: Locality | undefined;
}

/** As a plan has it. */
export interface Draining {
  readonly cluster: boolean;
  readonly gateways: ReadonlySet<string>;
  readonly services: ReadonlySet<ServiceKey>;
}

/** What a service can never be exported as, whatever it is asked for. */
const fault = (service: LocalService): ExportProblem | undefined => {
  const { key } = service;
  if (service.type === 'ExternalName') {
    return {
      key,
      code: 'service/external-name',
      message: `${key} is of type ExternalName: it has no endpoints here to export`,
    };
  }
  if (service.ports.length > 0) return undefined;
  return { key, code: 'service/no-ports', message: `${key} has no ports; add spec.ports` };
};

export class Exports {
  readonly #clusterDomain: string;
  readonly #self: string | undefined;
  /** What readers are to have, by relative key. */
  readonly #desired = new Map<string, Uint8Array>();
  #changed = new Map<string, Uint8Array | undefined>();
  readonly #problems = new Map<ServiceKey, ExportProblem>();
  /** Where each service's record is wanted, by relative key. */
  readonly #targets = new Map<ServiceKey, readonly string[]>();
  readonly #named = new Map<ServiceKey, readonly string[]>();
  #grants: ReadonlySet<string> = new Set();
  /** Undefined: it is not known yet who there is. */
  #readers: ReadonlySet<string> | undefined;
  readonly #podsOf = new Map<ServiceKey, readonly string[]>();
  readonly #servicesOf = new Map<string, Set<ServiceKey>>();
  #draining: Draining = { cluster: false, gateways: new Set(), services: new Set() };
  #verdicts = '';
  #gateways: { readonly list: readonly ExportedGateway[]; readonly account: string } | undefined;

  /** @param options.self - our own member name: an export that names it too means nothing by it */
  constructor(options: { readonly clusterDomain: string; readonly self?: string }) {
    this.#clusterDomain = options.clusterDomain;
    this.#self = options.self;
  }

  /** Everything that should stand in the store now, manifest excluded. */
  get desired(): ReadonlyMap<string, Uint8Array> {
    return this.#desired;
  }
  /** Why exports asked for are not there, or not as they are now. */
  get problems(): ReadonlyMap<ServiceKey, ExportProblem> {
    return this.#problems;
  }

  /** @param change - keys that may have changed; for the first call, all of them */
  update(
    local: LocalCluster,
    change: { readonly services: Iterable<ServiceKey>; readonly pods: Iterable<string> },
  ): void {
    const keys = new Set(change.services);
    for (const pod of change.pods) for (const key of this.#servicesOf.get(pod) ?? []) keys.add(key);
    for (const key of keys) this.#service(key, local);
  }

  /** Members for whom there can be records of their own. Exports that name members follow. */
  setReaders(readers: ReadonlySet<string>, local: LocalCluster): void {
    if (this.#readers?.symmetricDifference(readers).size === 0) return;
    this.#readers = new Set(readers);
    for (const key of this.#named.keys()) this.#service(key, local);
  }

  /** Where a service's record is wanted, by relative key: with us for all, or with each reader that it is for. */
  targets(key: ServiceKey): readonly string[] {
    return this.#targets.get(key) ?? [];
  }
  /** Exports that name the members they are for, and those. */
  get named(): ReadonlyMap<ServiceKey, readonly string[]> {
    return this.#named;
  }

  /** The order does not matter. Errors: `record/…`; what was published before then stays. */
  setGateways(gateways: readonly ExportedGateway[], account: string): Result<void> {
    this.#gateways = { list: gateways, account };
    const { cluster, gateways: draining } = this.#draining;
    const record: GatewaysRecord = {
      $typeName: 'isthmus.v1.GatewaysRecord',
      gateways: [...gateways]
        .sort((a, b) => (a.id < b.id ? -1 : 1))
        .map((gateway) => toGateway(draining.has(gateway.id) ? { ...gateway, draining: true } : gateway)),
      account,
      ...(cluster && { draining: true }),
      critical: [],
    };
    return this.#set('gateways', codec.gateways.encode(record));
  }

  /** @param roots - DER certificates; the order does not matter */
  setTrust(
    trust: Pick<TrustRecord, 'trustDomain' | 'sequence' | 'refreshHintS'>,
    roots: readonly Uint8Array[],
  ): Result<void> {
    const sorted = [...roots].sort(Buffer.compare);
    const { trustDomain, sequence, refreshHintS } = trust;
    return this.#set(
      'trust',
      codec.trust.encode({
        $typeName: 'isthmus.v1.TrustRecord',
        trustDomain,
        sequence,
        refreshHintS,
        roots: sorted,
        critical: [],
      }),
    );
  }

  setLoaded(record: LoadedRecord): Result<void> {
    return this.#set('loaded', codec.loaded.encode(record));
  }

  setVantage(peers: VantageRecord['peers']): Result<void> {
    const sorted = [...peers].sort((a, b) => (a.member < b.member ? -1 : 1));
    return this.#set(
      'vantage',
      codec.vantage.encode({ $typeName: 'isthmus.v1.VantageRecord', peers: sorted, critical: [] }),
    );
  }

  /**
   * What is being drained here, told to the others: a service and a gateway each by a flag of its own, the whole cluster by one, so
   * that readers move away in steps and a thousand records stay as they are. Errors: as `setGateways`.
   */
  setDraining(draining: Draining, local: LocalCluster): Result<void> {
    const before = this.#draining.services;
    this.#draining = {
      cluster: draining.cluster,
      gateways: new Set(draining.gateways),
      services: new Set(draining.services),
    };
    for (const key of new Set([...before, ...draining.services])) {
      if (before.has(key) !== draining.services.has(key)) this.#service(key, local);
    }
    return this.#gateways === undefined ? ok(undefined) : this.setGateways(this.#gateways.list, this.#gateways.account);
  }

  /**
   * All that we grant, to all readers: what is not in it is withdrawn. Numbers that no reader would take are cut. Errors:
   * `record/…`; that reader's grants then stay as they were, the others' are set.
   */
  setGrants(grants: readonly SpillOffer[]): Result<void> {
    let failed: Result<void> = ok(undefined);
    const targets = grantTargets(grants, this.#named, this.#readers ?? new Set());
    for (const key of this.#grants) if (!targets.has(key)) this.#write(key, undefined);
    this.#grants = new Set(targets.keys());
    for (const [key, { reader, offers }] of targets) {
      const written = this.#set(key, codec.grants.encode(grantsRecord(reader, offers)));
      if (!written.ok) failed = written;
    }
    return failed;
  }

  /** @param regions - held for down; the order does not matter. None: the record goes. */
  setVotes(regions: readonly string[]): Result<void> {
    const accused = [...new Set(regions)].sort();
    if (accused.length > 0) {
      return this.#set('votes', codec.votes.encode({ $typeName: 'isthmus.v1.VotesRecord', accused, critical: [] }));
    }
    this.#write('votes', undefined);
    return ok(undefined);
  }

  /**
   * What was decided, and the state that our replicas go on from. The times alone are no change: a state that is shipped stays as
   * it is until it differs. Errors: `record/too-large`; what was shipped before then stays.
   */
  setVerdicts(decided: Decided): Result<void> {
    const record = verdictsRecord(decided);
    if (!record.ok) return record;
    const { head, parts } = record.value;
    const content = verdictsContent(head);
    if (content === this.#verdicts) return ok(undefined);
    const written = this.#set('verdicts', codec.verdicts.encode(head));
    if (!written.ok) return written;
    this.#verdicts = content;
    for (let n = 0; n < limits.statePartsMax; n++) this.#write(`verdicts/${n}`, parts[n]);
    return ok(undefined);
  }

  /** How our own keys follow each other, and how far we follow those of others. Neither: the record goes. Errors: `record/…`. */
  setKeys(links: readonly Uint8Array[], seen: readonly KeysSeen[]): Result<void> {
    if (links.length + seen.length > 0) {
      const sorted = [...seen].sort((a, b) => (a.member < b.member ? -1 : 1));
      const record = { $typeName: 'isthmus.v1.KeysRecord' as const, links: [...links], seen: sorted, critical: [] };
      return this.#set('keys', codec.keys.encode(record));
    }
    this.#write('keys', undefined);
    return ok(undefined);
  }

  /** Changes since the last call. */
  take(): DesiredRecords {
    const changed = this.#changed;
    this.#changed = new Map();
    return changed;
  }

  #service(key: ServiceKey, local: LocalCluster): void {
    const service = local.services.get(key);
    const to = service?.exported?.to;
    if (to === undefined) this.#named.delete(key);
    else this.#named.set(key, to);
    this.#problems.delete(key);
    const problem = service?.exported === undefined ? undefined : fault(service);
    if (service?.exported === undefined || problem !== undefined) {
      this.#index(key, []);
      if (problem !== undefined) this.#problems.set(key, problem);
      this.#aim(key, []);
      return;
    }
    this.#index(
      key,
      service.endpoints.flatMap(({ pod }) => (pod === undefined ? [] : [pod])),
    );
    const targets = this.#targetsOf(key, to);
    const over =
      !targets.some((target) => this.#desired.has(target)) && this.#desired.size >= limits.recordsPerMemberMax;
    const { perEndpoint, problem: malformed } = declaredCapacity(service);
    const record = serviceRecord(service, service.exported.sinceMs, local.pods, this.#clusterDomain, {
      draining: this.#draining.services.has(key),
      perEndpoint,
    });
    if (malformed !== undefined) this.#problems.set(key, malformed);
    const encoded = over ? tooMany(key) : codec.service.encode(record);
    if (encoded.ok) {
      this.#aim(key, targets);
      for (const target of targets) this.#write(target, encoded.value);
    } else this.#problems.set(key, { key, code: encoded.error.code, message: `${key}: ${encoded.error.message}` });
  }

  /** Says so when it is for members that there are not. */
  #targetsOf(key: ServiceKey, to: readonly string[] | undefined): readonly string[] {
    if (to === undefined) return [`services/${key}`];
    const readers = this.#readers;
    if (readers === undefined) return [];
    const unknown = to.filter((name) => !readers.has(name) && name !== this.#self);
    if (unknown.length > 0) this.#problems.set(key, unknownReaders(key, unknown));
    return to.filter((name) => readers.has(name)).map((name) => `to/${name}/services/${key}`);
  }

  /** Withdraws the record where it was wanted before and is not any more. */
  #aim(key: ServiceKey, targets: readonly string[]): void {
    for (const before of this.targets(key)) if (!targets.includes(before)) this.#write(before, undefined);
    if (targets.length === 0) this.#targets.delete(key);
    else this.#targets.set(key, targets);
  }

  #set(relative: string, bytes: Result<Uint8Array>): Result<void> {
    if (!bytes.ok) return bytes;
    this.#write(relative, bytes.value);
    return { ok: true, value: undefined };
  }

  #write(relative: string, bytes: Uint8Array | undefined): void {
    const before = this.#desired.get(relative);
    if (before === undefined ? bytes === undefined : bytes !== undefined && Buffer.compare(before, bytes) === 0) return;
    if (bytes === undefined) this.#desired.delete(relative);
    else this.#desired.set(relative, bytes);
    this.#changed.set(relative, bytes);
  }

  /** Remembers which pods a service's record speaks of. */
  #index(key: ServiceKey, pods: readonly string[]): void {
    for (const pod of this.#podsOf.get(key) ?? []) {
      const services = this.#servicesOf.get(pod);
      services?.delete(key);
      if (services?.size === 0) this.#servicesOf.delete(pod);
    }
    if (pods.length === 0) this.#podsOf.delete(key);
    else this.#podsOf.set(key, pods);
    for (const pod of pods) {
      const services = this.#servicesOf.get(pod);
      if (services === undefined) this.#servicesOf.set(pod, new Set([key]));
      else services.add(key);
    }
  }
}

const tooMany = (key: ServiceKey): Result<never> => ({
  ok: false,
  error: new IsthmusError(
    'record/too-large',
    `not exported: a member has at most ${limits.recordsPerMemberMax} records`,
    {
      subject: { service: key },
    },
  ),
});

const toGateway = ({ id, address, federationPort, hbonePort, draining, locality }: ExportedGateway): Gateway => ({
  $typeName: 'isthmus.v1.Gateway',
  id,
  address,
  federationPort,
  hbonePort,
  draining,
  ...(locality === undefined ? {} : { locality: { $typeName: 'isthmus.v1.Locality' as const, ...locality } }),
});
