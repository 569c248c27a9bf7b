/**
 * The members at one moment, as every service meets them, and the cells that are as their member is.
 *
 * A large set has a hundred thousand cells, and nearly all of them have nothing to themselves but how many endpoints are ready. What
 * they say is said once a member and shared by all services; only a cell with a memory, a verdict, a drain or a grant of its own is
 * one of its own. To make each anew was passed over: most of a step was the memory for it.
 */
import type { ServiceKey } from '../core/names.ts';
import { penaltyBelowAt } from '../health/penalty.ts';
import type { MemberVerdict, Verdict, Verdicts } from '../health/verdict.ts';
import type { Inputs } from './asked.ts';
import { drainOf, ownWord } from './drains.ts';
import { granted } from './grants.ts';
import type { RankedMember } from './order.ts';
import type { CellStanding } from './plan.ts';
import type { FailoverPolicy } from './policy.ts';
import type { Badness } from './ramp.ts';
import { badnessOf, type CellFacts, doubtOf, healthy, standingOf, worse } from './standing.ts';
import type { CellMemory, Drain } from './state.ts';

const unready: Badness = { reason: 'NotReady', detail: 'no endpoint is ready', urgent: true };
const unreachable: Badness = { reason: 'NotReady', detail: 'it has no gateway', urgent: true };

/** Until when a penalty keeps a cell out, if nothing more happens. */
export const calmAt = (penalty: number, { thresholds }: FailoverPolicy, now: number): number | undefined => {
  const { flapLimit, flapHalfLifeMs } = thresholds;
  return penalty > flapLimit ? penaltyBelowAt(penalty, flapLimit, now, flapHalfLifeMs) : undefined;
};

/** Shared by services, so never changed: a copy with a difference is no longer one of these, and has no standing to share. */
export class PlainCell implements CellFacts {
  readonly member: RankedMember;
  readonly ready: number;
  readonly total: number;
  readonly verdict: Verdict;
  readonly bad: Badness | undefined;
  readonly doubt: Badness | undefined;
  readonly drain: Drain | undefined;
  readonly grant: number | undefined;
  readonly memory = undefined;
  readonly calmAtMs = undefined;
  /** As it was shown last: in most services it has the same place. */
  #standing: CellStanding | undefined;

  constructor(at: MemberNow, ready: number, total: number) {
    this.member = at.member;
    this.ready = ready;
    this.total = total;
    this.verdict = at.verdict;
    this.bad = badOf(at, ready, at.bad);
    this.doubt = at.doubt;
    this.drain = at.drain;
    this.grant = at.grant;
  }

  /** @param before - as it was shown in a step before: the same object, when it still says so */
  standing(tier: number | undefined, percent: number, before: CellStanding | undefined): CellStanding {
    const known = this.#standing;
    if (known !== undefined && known.tier === tier && known.percent === percent) return known;
    this.#standing = standingOf(this, tier, percent, undefined, before);
    return this.#standing;
  }
}

/** What may be held back must not hide what may not: without an endpoint nothing is left to be judged. */
const badOf = ({ member }: MemberNow, ready: number, judged: Badness | undefined): Badness | undefined => {
  if (ready === 0 && judged?.urgent !== true) return unready;
  return judged === undefined && member.gateways === 'none' ? unreachable : judged;
};

/** What a cell has to itself. */
export interface Own {
  readonly verdict: Verdict | undefined;
  readonly memory: CellMemory | undefined;
}

/** A member at this moment. */
export class MemberNow {
  readonly member: RankedMember;
  /** The worse of its own and its region's, and what it means. */
  readonly verdict: Verdict;
  readonly bad: Badness | undefined;
  readonly doubt: Badness | undefined;
  /** By its own word, or by a command that is not for a single service. */
  readonly drain: Drain | undefined;
  /** For services that have no grant of their own. */
  readonly grant: number | undefined;
  /** Of the member alone. */
  readonly penalty: number;
  readonly #offers: ReadonlyMap<ServiceKey | '*', number> | undefined;
  readonly #ofMember: MemberVerdict | undefined;
  readonly #inputs: Inputs;
  #last: PlainCell | undefined;
  #more: Map<number, PlainCell> | undefined;

  constructor(member: RankedMember, verdicts: Verdicts, inputs: Inputs) {
    const { leaving, drains, offers } = inputs;
    const { name, region } = member;
    this.member = member;
    this.#ofMember = verdicts.members.get(name);
    this.#inputs = inputs;
    this.verdict = worse(this.#ofMember ?? healthy, verdicts.regions.get(region));
    this.bad = badnessOf(this.verdict, true);
    this.doubt = doubtOf(this.verdict);
    const word = leaving.has(name) ? ownWord(name) : undefined;
    this.drain = drains.length === 0 ? word : drainOf(drains, undefined, name, region, word);
    this.#offers = offers.get(name);
    this.grant = this.#offers?.get('*');
    this.penalty = this.#ofMember?.penalty ?? 0;
  }

  /** Whether a service without a memory or a verdict of its own here has a cell of its own all the same. */
  singles(service: ServiceKey, { thresholds }: FailoverPolicy): boolean {
    return this.penalty > thresholds.flapLimit || this.#offers?.has(service) === true;
  }

  /** A cell that is as its member is. */
  plain(ready: number, total: number): CellFacts {
    const last = this.#last;
    if (last === undefined) {
      this.#last = new PlainCell(this, ready, total);
      return this.#last;
    }
    if (last.ready === ready && last.total === total) return last;
    this.#more ??= new Map();
    // Endpoints by the million would collide: then the number is of two kinds of cells, and the second is made for itself.
    const key = ready * 2 ** 20 + total;
    const known = this.#more.get(key);
    if (known?.ready === ready && known.total === total) return known;
    const made = new PlainCell(this, ready, total);
    this.#more.set(key, made);
    return made;
  }

  /** A cell that has something to itself. */
  own(ready: number, total: number, service: ServiceKey, own: Own, policy: FailoverPolicy, now: number): CellFacts {
    const { member } = this;
    const { drains, offers } = this.#inputs;
    const verdict = own.verdict === undefined ? this.verdict : worse(this.verdict, own.verdict);
    const general = verdict === this.verdict;
    return {
      member,
      ready,
      total,
      verdict,
      bad: badOf(this, ready, general ? this.bad : badnessOf(verdict, false)),
      doubt: general ? this.doubt : doubtOf(verdict),
      drain: drains.length === 0 ? this.drain : drainOf(drains, service, member.name, member.region, this.drain),
      grant: granted(offers, member.name, service),
      memory: own.memory,
      calmAtMs: calmAt(Math.max(this.penalty, own.verdict?.penalty ?? 0), policy, now),
    };
  }
}

/** All of them in one order. */
export class Meeting {
  readonly ranked: readonly RankedMember[];
  readonly members: readonly MemberNow[];
  /** Where each stands in it. */
  readonly places: ReadonlyMap<string, number>;
  /** A number for each place, 0 but while somebody sorts by them. */
  readonly bench: Int32Array;

  constructor(ranked: readonly RankedMember[], verdicts: Verdicts, inputs: Inputs) {
    this.ranked = ranked;
    this.members = ranked.map((member) => new MemberNow(member, verdicts, inputs));
    this.places = placesOf(ranked);
    this.bench = new Int32Array(ranked.length);
  }
}

const known = new WeakMap<readonly RankedMember[], ReadonlyMap<string, number>>();

const placesOf = (ranked: readonly RankedMember[]): ReadonlyMap<string, number> => {
  const before = known.get(ranked);
  if (before !== undefined) return before;
  const places = new Map(ranked.map(({ name }, place) => [name, place]));
  known.set(ranked, places);
  return places;
};
