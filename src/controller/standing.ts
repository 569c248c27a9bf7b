/** What stands, for a step: everything that is read off the records and the measurements, nothing that is remembered here. */
import type { MemberView } from '../federation/view.ts';
import type { GrantsRecord } from '../gen/isthmus/v1/records_pb.ts';
import type { ControlSignal, GrantOffer, PathTime, Vote } from '../health/signals.ts';
import type { PeerRoundTrip } from '../probe/rtt.ts';
import type { Standing } from './deciding.ts';

export interface StandingInput {
  readonly self: string;
  readonly members: ReadonlyMap<string, MemberView>;
  /** On the monotonic clock, as `freshAtMs` of the members. */
  readonly monotonicMs: number;
  readonly readBackMs: number | undefined;
  /** Whether a member's store, which is not the one that gives us back our own records, is not heard. */
  readonly dark?: ((member: string) => boolean) | undefined;
  readonly roundTrips: ReadonlyMap<string, PeerRoundTrip>;
  readonly receivingSpill: ReadonlySet<string>;
}

const controlOf = (view: MemberView, monotonicMs: number): ControlSignal => ({
  ageMs: view.freshAtMs === undefined ? undefined : Math.max(0, monotonicMs - view.freshAtMs),
  shuttingDown: view.shuttingDown,
  draining: view.gateways?.draining === true,
});

/** Equal to what stood before: the same object, so that a step sees by identity that nothing changed. */
const kept = <T>(before: T, next: T): T => (JSON.stringify(before) === JSON.stringify(next) ? before : next);

type GrantRecords = readonly (readonly [member: string, record: GrantsRecord])[];

const sameRecords = (a: GrantRecords, b: GrantRecords): boolean =>
  a.length === b.length && a.every(([member, record], i) => member === b[i]![0] && record === b[i]![1]);

const offersIn = (records: GrantRecords): GrantOffer[] =>
  records.flatMap(([member, { grants }]) => grants.map(({ service, perSecond }) => ({ member, service, perSecond })));

export class StandingSignals {
  /** What the offers were read from: a large set has a hundred thousand, and a step comes with every change of readiness. */
  #granted: GrantRecords = [];
  #votes: readonly Vote[] = [];
  #grants: readonly GrantOffer[] = [];
  #spill: ReadonlySet<string> = new Set();

  read({ self, members, monotonicMs, readBackMs, dark, roundTrips, receivingSpill }: StandingInput): Standing {
    const control = new Map<string, ControlSignal>();
    const votes: Vote[] = [];
    const granted: [string, GrantsRecord][] = [];
    for (const [name, view] of members) {
      if (name === self) continue;
      const signal = { ...controlOf(view, monotonicMs), ...(dark?.(name) && { dark: true }) };
      control.set(name, signal);
      for (const accused of view.votes?.accused ?? []) {
        const vote = { voter: name, voterRegion: view.member.region, accused, down: true };
        votes.push({ ...vote, ageMs: signal.ageMs ?? Number.MAX_SAFE_INTEGER });
      }
      if (view.grants !== undefined) granted.push([name, view.grants]);
    }
    const paths = new Map<string, PathTime>();
    for (const [name, { estimate }] of roundTrips) {
      if (estimate !== undefined) paths.set(name, { rttMs: estimate.srttMs, varMs: estimate.varMs });
    }
    if (!sameRecords(this.#granted, granted)) {
      this.#granted = granted;
      this.#grants = kept(this.#grants, offersIn(granted));
    }
    this.#votes = votes.length === 0 && this.#votes.length === 0 ? this.#votes : votes;
    const spill = [...receivingSpill];
    if (spill.length !== this.#spill.size || spill.some((key) => !this.#spill.has(key))) this.#spill = new Set(spill);
    return { control, readBackMs, paths, votes: this.#votes, grants: this.#grants, receivingSpill: this.#spill };
  }
}
