/**
 * The merged view of all members. Mostly types here; the merging itself is in `merge.ts`, and what one member's records amount
 * to (staging, manifests, high-water marks) in `member.ts`.
 */
import { type IsthmusError, ok, type Result } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import type { KeysRecord } from '../gen/isthmus/v1/keys_pb.ts';
import type {
  GatewaysRecord,
  GrantsRecord,
  LoadedRecord,
  ReadersRecord,
  ServiceRecord,
  StatePart,
  TrustRecord,
  VantageRecord,
  VerdictsRecord,
  VotesRecord,
} from '../gen/isthmus/v1/records_pb.ts';
import type { PublishedHead } from '../records/journal_head.ts';
import { joinState } from '../records/verdicts.ts';
import type { Member } from '../trust/membership.ts';
import type { LocalService } from './local.ts';
import type { KeysView } from './succession.ts';

/** The head of a member's manifest, the measure of how much of it is known. */
export interface ManifestHead {
  readonly epoch: bigint;
  readonly sequence: bigint;
}

/** What one member has published and a manifest of its covers. */
export interface MemberView {
  readonly member: Member;
  readonly head: ManifestHead | undefined;
  /** On our monotonic clock: when the sequence last rose. */
  readonly freshAtMs: number | undefined;
  readonly shuttingDown: boolean;
  /** It changes more than it may: what is here is its last good state. */
  readonly frozen?: boolean;
  readonly gateways: GatewaysRecord | undefined;
  readonly trust: TrustRecord | undefined;
  readonly vantage: VantageRecord | undefined;
  /** Which roots its proxies have. */
  readonly loaded?: LoadedRecord | undefined;
  /** What it grants us, this cluster. */
  readonly grants?: GrantsRecord | undefined;
  /** The regions that it holds for down, its own left out. They count while its manifest rises. */
  readonly votes?: VotesRecord | undefined;
  readonly verdicts?: VerdictsRecord | undefined;
  /** How far it follows the keys of others. */
  readonly keys?: KeysRecord | undefined;
  /** Which keys of its own count; without it those of the membership do. */
  readonly succession?: KeysView | undefined;
  readonly readers?: ReadersRecord | undefined;
  /** Of our own member only: the writer's state, see `shippedState`. */
  readonly stateParts?: ReadonlyMap<number, StatePart>;
  readonly services: ReadonlyMap<ServiceKey, ServiceRecord>;
  /** Those of them that it publishes for us alone. */
  readonly forUs?: ReadonlyMap<ServiceKey, ServiceRecord>;
  /** Newest entries of its journals, one of each chain, as its manifests named them. */
  readonly journals?: readonly PublishedHead[];
  /** Records or manifests refused, newest last, bounded; shown by `status`. */
  readonly problems: readonly IsthmusError[];
}

/**
 * The state that the writer of our own cluster shipped to its replicas. Undefined: there is none.
 * Errors: `record/malformed`, when its parts do not make it up.
 */
export const shippedState = (own: MemberView): Result<Uint8Array | undefined> =>
  own.verdicts === undefined ? ok(undefined) : joinState(own.verdicts, own.stateParts ?? new Map());

export interface MergedPort {
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
}

/** A disagreement between exporters; reported on the ServiceExport. Ports go by the MCS rules: the oldest export wins. */
export interface Conflict {
  readonly field: 'ports' | 'sessionAffinity' | 'headless' | 'mode';
  readonly winner: string;
  readonly losers: readonly string[];
  readonly message: string;
}

/** One service of the cluster set, as seen from here. */
export interface ServiceView {
  readonly key: ServiceKey;
  readonly namespace: string;
  readonly name: string;
  readonly hostname: string;
  readonly local: LocalService | undefined;
  /** Exporting members other than this cluster, by name; only those that can take part, unless `unsupported` is set. */
  readonly remotes: ReadonlyMap<string, ServiceRecord>;
  /** The cluster set's, for conditions and status; traffic to a service that exists here follows `local.ports`. */
  readonly ports: readonly MergedPort[];
  readonly mode: 'gateway' | 'direct';
  /** Set when the service has no data path across clusters (headless, session affinity). */
  readonly unsupported: IsthmusError | undefined;
  readonly conflicts: readonly Conflict[];
}

export interface View {
  readonly self: string;
  readonly members: ReadonlyMap<string, MemberView>;
  readonly services: ReadonlyMap<ServiceKey, ServiceView>;
  /** Services of others that this cluster does not import, with the members that have each. */
  readonly notImported?: ReadonlyMap<ServiceKey, readonly string[]>;
}
