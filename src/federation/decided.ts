/**
 * What this member has decided, as records: grants to readers, and the verdicts with the state that its replicas go on from. Sorted
 * and bounded here, so that equal decisions give equal bytes whoever made them.
 */
import { ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import type { GrantsRecord, VerdictSummary, VerdictsRecord } from '../gen/isthmus/v1/records_pb.ts';
import type { everyService } from '../records/grants.ts';
import { splitState } from '../records/verdicts.ts';

/** How much of its traffic a reader may spill onto us. */
export interface SpillOffer {
  readonly reader: string;
  /** `*`: each service that has no offer of its own. */
  readonly service: ServiceKey | typeof everyService;
  /** New connections a second. */
  readonly perSecond: number;
}

export interface Decided {
  /** What is not fresh. `service` undefined: the member as a whole. */
  readonly summary: readonly {
    readonly service: ServiceKey | undefined;
    readonly member: string;
    readonly state: string;
    readonly reason: string;
  }[];
  readonly frozen: boolean;
  /** For our own replicas; undefined ships none. */
  readonly state: Uint8Array | undefined;
  /** Now, on the scale of the state's times, and on the wall clock. */
  readonly atMs: number;
  readonly wallMs: number;
}

const wholeRate = (perSecond: number): number =>
  Number.isNaN(perSecond) ? 0 : Math.floor(Math.min(limits.capacityPerSecondMax, Math.max(0, perSecond)));

export const grantsRecord = (reader: string, offers: readonly SpillOffer[]): GrantsRecord => ({
  $typeName: 'isthmus.v1.GrantsRecord',
  reader,
  grants: [...offers]
    .sort((a, b) => (a.service < b.service ? -1 : 1))
    .map(({ service, perSecond }) => ({
      $typeName: 'isthmus.v1.SpillGrant',
      service,
      perSecond: wholeRate(perSecond),
    })),
  critical: [],
});

/**
 * The grants by the key that each reader's record stands under, relative to our prefix. A grant names a service, so one of an export that is
 * for some members alone is told to those, and makes the reader's whole record one that nobody else may read.
 * @param named - exports that are for some members, and those
 * @param readers - members that can have records of their own
 */
export const grantTargets = (
  grants: readonly SpillOffer[],
  named: ReadonlyMap<ServiceKey, readonly string[]>,
  readers: ReadonlySet<string>,
): ReadonlyMap<string, { readonly reader: string; readonly offers: readonly SpillOffer[] }> => {
  const targets = new Map<string, { reader: string; offers: readonly SpillOffer[] }>();
  for (const [reader, all] of Map.groupBy(grants, ({ reader }) => reader)) {
    const offers = all.filter(({ service }) => {
      const to = named.get(service);
      return to === undefined || (readers.has(reader) && to.includes(reader));
    });
    const alone = offers.some(({ service }) => named.has(service));
    targets.set(`${alone ? `to/${reader}/` : ''}grants/${reader}`, { reader, offers });
  }
  return targets;
};

const identity = ({ service, member }: { readonly service: string; readonly member: string }): string =>
  `${service === '' ? 0 : 1} ${service}|${member}`;

/** Members before services: what concerns most comes first when not all of it fits. */
export const verdictsRecord = (
  decided: Decided,
): Result<{ readonly head: VerdictsRecord; readonly parts: readonly Uint8Array[] }> => {
  const split = splitState(decided.state ?? new Uint8Array());
  if (!split.ok) return split;
  const summary = decided.summary
    .map(
      ({ service = '', member, state, reason }): VerdictSummary => ({
        $typeName: 'isthmus.v1.VerdictSummary',
        service,
        member,
        state,
        reason,
      }),
    )
    .sort((a, b) => (identity(a) < identity(b) ? -1 : 1));
  const head: VerdictsRecord = {
    $typeName: 'isthmus.v1.VerdictsRecord',
    summary: summary.slice(0, limits.verdictsSummaryMax),
    more: Math.max(0, summary.length - limits.verdictsSummaryMax),
    frozen: decided.frozen,
    ...split.value.head,
    atMs: BigInt(Math.max(0, Math.floor(decided.atMs))),
    wallMs: BigInt(Math.max(0, Math.floor(decided.wallMs))),
    critical: [],
  };
  return ok({ head, parts: split.value.parts });
};

/** Everything but the times, to compare. */
export const verdictsContent = ({ summary, more, frozen, digest, bytes }: VerdictsRecord): string =>
  JSON.stringify([summary, more, frozen, bytes, Buffer.from(digest).toString('base64')]);
