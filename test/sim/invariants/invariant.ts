/** What must hold: each invariant is a file of its own with a name, and looks on as the world goes by. */
import type { FederationChange } from '../../../src/federation/change.ts';
import type { ManifestHead } from '../../../src/federation/view.ts';
import type { Cluster, Served } from '../world/cluster.ts';
import type { Process } from '../world/process.ts';
import type { Step } from '../world/process-options.ts';
import type { Slot } from '../world/slot.ts';
import type { Request } from '../world/traffic.ts';
import type { World } from '../world/world.ts';

/** What happened, for everybody who looks on. */
export interface Watcher {
  step(step: Step, world: World): void;
  request(request: Request, world: World): void;
  /** A cluster's proxies got something new. */
  served(cluster: Cluster, before: Served | undefined, world: World): void;
  /** What may be used of the others changed. */
  records(process: Process, change: FederationChange, world: World): void;
  published(member: string, head: ManifestHead, world: World): void;
  started(slot: Slot, world: World): void;
  second(world: World): void;
}

/** One run's watch over one invariant: each part says what is wrong, or nothing. */
export interface Checker {
  step?(step: Step, world: World): string | undefined;
  request?(request: Request, world: World): string | undefined;
  served?(cluster: Cluster, before: Served | undefined, world: World): string | undefined;
  records?(process: Process, change: FederationChange, world: World): string | undefined;
  published?(member: string, head: ManifestHead, world: World): string | undefined;
  started?(slot: Slot, world: World): string | undefined;
  second?(world: World): string | undefined;
  /** At the end of the time that the policy allows. @param waitedMs - since the last fault was lifted */
  end?(world: World, waitedMs: number): string | undefined;
}

export interface Invariant {
  readonly name: string;
  /** One sentence. */
  readonly what: string;
  /** For one run. */
  begin(): Checker;
}

export interface Violation {
  readonly invariant: string;
  readonly atMs: number;
  readonly detail: string;
}

/** Asks all; keeps the first that is violated. */
export class Watch implements Watcher {
  readonly #checkers: readonly (readonly [string, Checker])[];
  violation: Violation | undefined;

  constructor(invariants: readonly Invariant[]) {
    this.#checkers = invariants.map((invariant) => [invariant.name, invariant.begin()]);
  }

  step(step: Step, world: World): void {
    for (const [name, checker] of this.#checkers) this.#note(name, checker.step?.(step, world), world);
  }
  request(request: Request, world: World): void {
    for (const [name, checker] of this.#checkers) this.#note(name, checker.request?.(request, world), world);
  }
  served(cluster: Cluster, before: Served | undefined, world: World): void {
    for (const [name, checker] of this.#checkers) this.#note(name, checker.served?.(cluster, before, world), world);
  }
  records(process: Process, change: FederationChange, world: World): void {
    for (const [name, checker] of this.#checkers) this.#note(name, checker.records?.(process, change, world), world);
  }
  published(member: string, head: ManifestHead, world: World): void {
    for (const [name, checker] of this.#checkers) this.#note(name, checker.published?.(member, head, world), world);
  }
  started(slot: Slot, world: World): void {
    for (const [name, checker] of this.#checkers) this.#note(name, checker.started?.(slot, world), world);
  }
  second(world: World): void {
    for (const [name, checker] of this.#checkers) this.#note(name, checker.second?.(world), world);
  }
  end(world: World, waitedMs: number): void {
    for (const [name, checker] of this.#checkers) this.#note(name, checker.end?.(world, waitedMs), world);
  }

  #note(invariant: string, detail: string | undefined, world: World): void {
    if (detail !== undefined) this.violation ??= { invariant, atMs: world.nowMs, detail };
  }
}
