/**
 * What the replica that decides holds of withdrawals, as the others take it over: they hold what it holds, and let go what it let go.
 *
 * Each replica sees records vanish for itself, some moments before or after the other, and must not delete them meanwhile. So what is
 * held here and not there is let go only when the other said so, or when it has had the time to hold it and did not. To hold nothing of
 * one's own was passed over: between a manifest and the next shipped state a service would be gone.
 */
import { ok, type Result } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import { canaryMs, type HeldRecord, type Withdrawals } from './withdrawals.ts';
import { restoreWithdrawals } from './withdrawals_saved.ts';

/** Something that was let go, lately. */
export interface LetGo {
  readonly member: string;
  readonly service: ServiceKey;
  readonly atMs: number;
}

export interface Shipped {
  readonly held: Withdrawals;
  /** Held, but without the record: it was too much to ship. */
  readonly named: Withdrawals;
  readonly letGo: readonly LetGo[];
  /** When it was shipped. */
  readonly atMs: number;
}

/** How far apart two replicas of a cluster may see the same manifest. */
export const sightMs = 5_000;
/** For so long what was let go is told. */
export const letGoToldMs = 60_000;
export const letGoMax = 1_000;

export interface Adopted {
  readonly state: Withdrawals;
  readonly letGo: readonly { readonly member: string; readonly service: ServiceKey }[];
}

/**
 * @param own - what this replica holds
 * @param recordOf - as it is used here, for those that were shipped by name alone
 */
export const adoptWithdrawals = (
  own: Withdrawals,
  shipped: Shipped,
  recordOf: (member: string, service: ServiceKey) => ServiceRecord | undefined,
): Adopted => {
  const state = new Map<string, Map<ServiceKey, HeldRecord>>();
  const put = (member: string, service: ServiceKey, held: HeldRecord): void => {
    const of = state.get(member);
    if (of === undefined) state.set(member, new Map([[service, held]]));
    else of.set(service, held);
  };
  for (const [member, records] of shipped.held) for (const [service, held] of records) put(member, service, held);
  for (const [member, records] of shipped.named) {
    for (const [service, held] of records) {
      const record = recordOf(member, service);
      if (record !== undefined) put(member, service, { ...held, record });
    }
  }
  const told = new Map(shipped.letGo.map(({ member, service, atMs }) => [`${member}|${service}`, atMs]));
  const letGo: { member: string; service: ServiceKey }[] = [];
  for (const [member, records] of own) {
    for (const [service, held] of records) {
      if (state.get(member)?.has(service) === true) continue;
      const gone = (told.get(`${member}|${service}`) ?? Number.NEGATIVE_INFINITY) >= held.sinceMs - sightMs;
      if (gone || held.sinceMs <= shipped.atMs - sightMs) letGo.push({ member, service });
      else put(member, service, held);
    }
  }
  return { state, letGo };
};

/** One that begins to decide has not probed yet: whatever waits for a canary waits as long again. */
export const renewCanaries = (state: Withdrawals, nowMs: number, holdMs: number): Withdrawals => {
  const next = new Map<string, ReadonlyMap<ServiceKey, HeldRecord>>();
  for (const [member, records] of state) {
    const renewed = [...records].map(([service, held]): [ServiceKey, HeldRecord] => {
      if (held.reason !== 'Canary') return [service, held];
      const deadlineMs = Math.max(held.deadlineMs, Math.min(nowMs + canaryMs, held.sinceMs + holdMs));
      return [service, { ...held, deadlineMs }];
    });
    next.set(member, new Map(renewed));
  }
  return next;
};

/** As plain data. @param held - of `saveWithdrawals`; `record` is left out where it was too much */
export const readShipped = (value: unknown, atMs: number, aheadMs: number): Result<Shipped> => {
  const { held = [], named = [], letGo = [] } = (value ?? {}) as Record<'held' | 'named' | 'letGo', unknown>;
  const whole = restoreWithdrawals(held, aheadMs);
  if (!whole.ok) return whole;
  const nameless = restoreWithdrawals(named, aheadMs, true);
  if (!nameless.ok) return nameless;
  const gone: LetGo[] = [];
  for (const each of Array.isArray(letGo) ? letGo.slice(0, letGoMax) : []) {
    const { member, service, atMs: at } = (each ?? {}) as Partial<LetGo>;
    if (typeof member !== 'string' || typeof service !== 'string' || !Number.isFinite(at)) continue;
    gone.push({ member, service, atMs: at! + aheadMs });
  }
  return ok({ held: whole.value, named: nameless.value, letGo: gone, atMs: atMs + aheadMs });
};
