/** What a run of a controller is given, and what it tells the world. */
import type { Store } from '../../../src/core/store.ts';
import type { Decision } from '../../../src/failover/decision.ts';
import type { Plan } from '../../../src/failover/plan.ts';
import type { Policies } from '../../../src/failover/policy.ts';
import type { FailoverState } from '../../../src/failover/step.ts';
import type { FederationChange } from '../../../src/federation/change.ts';
import type { View } from '../../../src/federation/view.ts';
import type { Command, Signals } from '../../../src/health/signals.ts';
import type { TestMember } from '../../unit/trust/certificates.ts';
import type { Cluster, KnownGateway } from './cluster.ts';
import type { Disk, Word } from './disk.ts';
import type { Draw } from './draw.ts';
import type { Probing } from './probing.ts';
import type { Process } from './process.ts';
import type { MachineClock } from './time.ts';
import type { Ground, Traffic } from './traffic.ts';

/** One step as the invariants see it. */
export interface Step {
  readonly process: Process;
  readonly atMs: number;
  /** On the scale of the states. */
  readonly nowMs: number;
  readonly before: FailoverState;
  readonly state: FailoverState;
  readonly planBefore: Plan | undefined;
  readonly plan: Plan;
  readonly view: View;
  readonly signals: Signals;
  readonly journal: readonly Decision[];
  readonly policies: Policies;
  readonly first: boolean;
  readonly wakeAt: number | undefined;
}

export interface ProcessOptions {
  readonly cluster: Cluster;
  readonly replica: number;
  readonly identity: TestMember;
  readonly clock: MachineClock;
  readonly draw: Draw;
  readonly store: Store;
  readonly disk: Disk;
  readonly ground: Ground;
  readonly traffic: Traffic;
  readonly probing: Probing;
  readonly policies: Policies;
  readonly graySignals: boolean;
  readonly heartbeatMs: number;
  readonly told: ProcessEvents;
}

/** To the world. */
export interface ProcessEvents {
  decided(step: Step): void;
  /** New plan for the proxies that are connected to this replica. */
  serve(plan: Plan, gateways: ReadonlyMap<string, readonly KnownGateway[]>): void;
  /** To the other replica. */
  ship(word: Word): void;
  changed(process: Process, change: FederationChange): void;
  commands(): readonly Command[];
}
