/**
 * What a member's new manifest takes away, between the records that it covers and the view that is used.
 *
 * A record that is gone may mean that its service is; or that its writer came up with half of its cluster listed, was restored from an
 * old backup, or was told nonsense. So nothing that vanished is deleted at once:
 * - a record among many waits for its *canary*, a probe of the service through the data path. The peer's own gateway refuses what
 *   is not exported, at once, so an honest withdrawal takes a moment. Without a probe it goes after `canaryMs`.
 * - more than a share of a member's services at once is held until the member is dead by two signals, a person confirms,
 *   the records come back, or the hold runs out. Canaries do not end it: a peer that lost its head refuses everything.
 *
 * What the authority takes away (a grant, a membership) is never held. Comparing the records, and not the manifests, covers
 * restarts, new epochs, lists and resyncs alike. Holding back the whole manifest was passed over: endpoints of other services would
 * age with it.
 */
import type { ServiceKey } from '../core/names.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import { grantsOf } from '../trust/grants.ts';
import type { Member } from '../trust/membership.ts';

/**
 * - `Mass`: more than the share went at once.
 * - `Canary`: waits for its probe.
 * - `Answers`: its probe got through: the peer still leads there, whatever its records say.
 */
export type HoldReason = 'Mass' | 'Canary' | 'Answers';

export interface HeldRecord {
  /** As it was last known. */
  readonly record: ServiceRecord;
  readonly sinceMs: number;
  /** When it is let go, if nothing else happens. */
  readonly deadlineMs: number;
  readonly reason: HoldReason;
}

export type HeldRecords = ReadonlyMap<ServiceKey, HeldRecord>;

/** By member; members of whom nothing is held are absent. Never changed in place. */
export type Withdrawals = ReadonlyMap<string, HeldRecords>;

export const noWithdrawals: Withdrawals = new Map();

export interface WithdrawalThresholds {
  /** More than this share of a member's services at once is held, 0–100. */
  readonly withdrawalPercent: number;
  /** A member with fewer services has no share: each of them waits for its canary. */
  readonly withdrawalMinimum: number;
  readonly withdrawalHoldMs: number;
}

/** How long a withdrawal waits for its canary. */
export const canaryMs = 10_000;
/** Canaries asked for at once, of one member, the oldest first. */
export const canariesMax = 32;

export interface WithdrawalContext {
  readonly nowMs: number;
  /** The authority's word: what it no longer grants is gone. */
  readonly membership: Member;
  readonly thresholds: WithdrawalThresholds;
  /** Dead by two signals: nothing of it is held. */
  readonly evicted: boolean;
  /** What a person let go, of what is held or goes now. */
  readonly confirmed: 'all' | ReadonlySet<ServiceKey>;
  /** False: another replica decides, and only what the authority takes away goes here. Left out: true. */
  readonly decides?: boolean | undefined;
  /** What canaries said, and when; older than the withdrawal they do not count. */
  readonly answers: ReadonlyMap<ServiceKey, { readonly answer: 'gone' | 'answers'; readonly atMs: number }>;
  /** Where `before` and `after` may differ; left out: everywhere. */
  readonly touched?: Iterable<ServiceKey> | undefined;
}

export interface HeldShown {
  readonly service: ServiceKey;
  readonly sinceMs: number;
  readonly deadlineMs: number;
  readonly reason: HoldReason;
}

export type LetGoBy = 'Evicted' | 'Confirmed' | 'CanaryRefused' | 'NoCanary' | 'HoldRanOut' | 'NotGranted';

export interface WithdrawalStep {
  readonly state: Withdrawals;
  /** The member's services as they are to be used. `before` itself when nothing changed. */
  readonly effective: ReadonlyMap<ServiceKey, ServiceRecord>;
  /** Of this member, by name. */
  readonly held: readonly HeldShown[];
  /** What went just now, and why; what came back is not among it. */
  readonly letGo: readonly { readonly service: ServiceKey; readonly by: LetGoBy }[];
  /** Services to probe at this member. */
  readonly canaries: readonly ServiceKey[];
  /** When to ask again at the latest. */
  readonly wakeAt: number | undefined;
}

const nothingHeld: HeldRecords = new Map();

const granted = ({ membership }: WithdrawalContext, service: ServiceKey): boolean =>
  grantsOf(membership).namespace(service.slice(0, service.indexOf('/')));

/** Why a record goes now; undefined: it stays. */
const letGoBy = (service: ServiceKey, held: HeldRecord, context: WithdrawalContext): LetGoBy | undefined => {
  const { nowMs, evicted, confirmed, answers } = context;
  if (!granted(context, service)) return 'NotGranted';
  if (context.decides === false) return undefined;
  if (evicted) return 'Evicted';
  if (confirmed === 'all' || confirmed.has(service)) return 'Confirmed';
  const answer = answers.get(service);
  const counts = answer !== undefined && answer.atMs >= held.sinceMs;
  if (held.reason !== 'Mass' && counts && answer.answer === 'gone') return 'CanaryRefused';
  if (nowMs < held.deadlineMs) return undefined;
  return held.reason === 'Canary' ? 'NoCanary' : 'HoldRanOut';
};

const withAnswer = (service: ServiceKey, held: HeldRecord, context: WithdrawalContext): HeldRecord => {
  const answer = context.answers.get(service);
  if (held.reason !== 'Canary' || answer?.answer !== 'answers' || answer.atMs < held.sinceMs) return held;
  return { ...held, reason: 'Answers', deadlineMs: held.sinceMs + context.thresholds.withdrawalHoldMs };
};

/** Those that wait for a canary and those that went now are one withdrawal, if together they are more than the share. */
const isMass = (held: HeldRecords, going: number, services: number, { thresholds }: WithdrawalContext): boolean => {
  if (services < thresholds.withdrawalMinimum || going === 0) return false;
  let waiting = going;
  for (const { reason } of held.values()) if (reason !== 'Answers') waiting++;
  return waiting * 100 > thresholds.withdrawalPercent * services;
};

const hold = (
  before: HeldRecords,
  going: ReadonlyMap<ServiceKey, ServiceRecord>,
  mass: boolean,
  context: WithdrawalContext,
): Map<ServiceKey, HeldRecord> => {
  const { nowMs, thresholds } = context;
  const held = new Map(before);
  const massEnd = (sinceMs: number) => sinceMs + thresholds.withdrawalHoldMs;
  if (mass) {
    for (const [service, record] of held) {
      if (record.reason !== 'Canary') continue;
      held.set(service, { ...record, reason: 'Mass', deadlineMs: massEnd(record.sinceMs) });
    }
  }
  for (const [service, record] of going) {
    const deadlineMs = mass ? massEnd(nowMs) : nowMs + Math.min(canaryMs, thresholds.withdrawalHoldMs);
    held.set(service, { record, sinceMs: nowMs, deadlineMs, reason: mass ? 'Mass' : 'Canary' });
  }
  return held;
};

const shown = (held: HeldRecords): HeldShown[] =>
  [...held]
    .map(([service, { sinceMs, deadlineMs, reason }]) => ({ service, sinceMs, deadlineMs, reason }))
    .sort((a, b) => (a.service < b.service ? -1 : 1));

/**
 * One member's step: to be asked when its records changed, and when something is held and time, a canary or a person spoke.
 * @param before - the services as they were used until now: the last step's `effective`
 * @param after - the services that its newest manifest covers
 */
export const holdWithdrawals = (
  state: Withdrawals,
  member: string,
  before: ReadonlyMap<ServiceKey, ServiceRecord>,
  after: ReadonlyMap<ServiceKey, ServiceRecord>,
  context: WithdrawalContext,
): WithdrawalStep => {
  const known = state.get(member) ?? nothingHeld;
  let effective: Map<ServiceKey, ServiceRecord> | undefined;
  const write = () => {
    effective ??= new Map(before);
    return effective;
  };
  const going = new Map<ServiceKey, ServiceRecord>();
  const returned = new Set<ServiceKey>();
  const letGo: { service: ServiceKey; by: LetGoBy }[] = [];
  for (const service of new Set(context.touched ?? [...before.keys(), ...after.keys()])) {
    const was = before.get(service);
    const is = after.get(service);
    if (is !== undefined) {
      if (is !== was) write().set(service, is);
      if (known.has(service)) returned.add(service);
    } else if (was !== undefined && !known.has(service)) {
      if (granted(context, service)) going.set(service, was);
      else {
        // Not the member's doing, so it is no part of a withdrawal.
        write().delete(service);
        letGo.push({ service, by: 'NotGranted' });
      }
    }
  }
  const still = returned.size === 0 ? known : new Map([...known].filter(([service]) => !returned.has(service)));
  const held = hold(still, going, isMass(still, going.size, before.size, context), context);
  for (const [service, record] of held) {
    const current = withAnswer(service, record, context);
    const by = letGoBy(service, current, context);
    if (by === undefined) {
      if (current !== record) held.set(service, current);
      // After a restart: what is held is not among what was covered.
      if (!before.has(service)) write().set(service, current.record);
      continue;
    }
    held.delete(service);
    letGo.push({ service, by });
    if (before.has(service)) write().delete(service);
  }
  const list = shown(held);
  const canaries = list
    .filter(({ reason }) => reason !== 'Mass')
    .sort((a, b) => a.sinceMs - b.sinceMs)
    .slice(0, canariesMax)
    .map(({ service }) => service);
  const deadlines = context.decides === false ? [] : list.map(({ deadlineMs }) => deadlineMs);
  return {
    state: withMember(state, member, held, known),
    effective: effective ?? before,
    held: list,
    letGo,
    canaries,
    wakeAt: deadlines.length === 0 ? undefined : Math.max(context.nowMs + 1, Math.min(...deadlines)),
  };
};

const equal = (a: HeldRecords, b: HeldRecords): boolean => {
  if (a.size !== b.size) return false;
  for (const [service, held] of a) if (b.get(service) !== held) return false;
  return true;
};

const withMember = (state: Withdrawals, member: string, held: HeldRecords, known: HeldRecords): Withdrawals => {
  if (equal(held, known)) return state;
  const next = new Map(state);
  if (held.size === 0) next.delete(member);
  else next.set(member, held);
  return next;
};

/** A member that the authority closed: nothing of it is held. */
export const forgetMember = (state: Withdrawals, member: string): Withdrawals => {
  if (!state.has(member)) return state;
  const next = new Map(state);
  next.delete(member);
  return next;
};
