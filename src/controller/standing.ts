/** What stands, for a step: everything that is read off the records and the measurements, nothing that is remembered here. */
import type { MemberView } from '../federation/view.ts';
import type { ControlSignal, GrantOffer, PathTime, Vote } from '../health/signals.ts';
import type { PeerRoundTrip } from '../probe/rtt.ts';
import type { Standing } from './deciding.ts';

export interface StandingInput {
  readonly self: string;
  readonly members: ReadonlyMap<string, MemberView>;
  /** On the monotonic clock, as `freshAtMs` of the members. */
  readonly monotonicMs: number;
  readonly readBackMs: number | undefined;
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

export class StandingSignals {
  #votes: readonly Vote[] = [];
  #grants: readonly GrantOffer[] = [];
  #spill: ReadonlySet<string> = new Set();

  read({ self, members, monotonicMs, readBackMs, roundTrips, receivingSpill }: StandingInput): Standing {
    const control = new Map<string, ControlSignal>();
    const votes: Vote[] = [];
    const grants: GrantOffer[] = [];
    for (const [name, view] of members) {
      if (name === self) continue;
      const signal = controlOf(view, monotonicMs);
      control.set(name, signal);
      for (const accused of view.votes?.accused ?? []) {
        const vote = { voter: name, voterRegion: view.member.region, accused, down: true };
        votes.push({ ...vote, ageMs: signal.ageMs ?? Number.MAX_SAFE_INTEGER });
      }
      for (const { service, perSecond } of view.grants?.grants ?? []) grants.push({ member: name, service, perSecond });
    }
    const paths = new Map<string, PathTime>();
    for (const [name, { estimate }] of roundTrips) {
      if (estimate !== undefined) paths.set(name, { rttMs: estimate.srttMs, varMs: estimate.varMs });
    }
    this.#grants = kept(this.#grants, grants);
    this.#votes = votes.length === 0 && this.#votes.length === 0 ? this.#votes : votes;
    const spill = [...receivingSpill];
    if (spill.length !== this.#spill.size || spill.some((key) => !this.#spill.has(key))) this.#spill = new Set(spill);
    return { control, readBackMs, paths, votes: this.#votes, grants: this.#grants, receivingSpill: this.#spill };
  }
}
