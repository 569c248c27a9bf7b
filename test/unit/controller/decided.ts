/** A cluster set in which a path fails and heals, decided by the real `step` and journalled: what replays and the command line work on. */

import type { StepInputs } from '../../../src/controller/replay.ts';
import { seededRng } from '../../../src/core/rng.ts';
import type { Decision } from '../../../src/failover/decision.ts';
import { initialState, step } from '../../../src/failover/step.ts';
import { type Command, noSignals, type ProbeResult } from '../../../src/health/signals.ts';
import { ClusterSet } from '../failover/set.ts';

export interface DecidedStep {
  readonly inputs: StepInputs;
  readonly decisions: readonly Decision[];
}

const stepMs = 500;

const probe = (member: string, atMs: number, ok: boolean): ProbeResult => ({
  member,
  service: undefined,
  gateway: undefined,
  atMs,
  ok,
  denied: false,
  failedAt: ok ? undefined : 'tcp',
  status: ok ? 200 : undefined,
  ms: ok ? 12 : undefined,
  head: undefined,
});

/** Those steps that decided something. `eu` cannot be reached from 5 s to 15 s; at 20 s somebody drains `us-west`. */
export const decideFor = (seconds: number, set = new ClusterSet({ local: [0, 2] })): DecidedStep[] => {
  const made: DecidedStep[] = [];
  const startMs = 1_000_000;
  let state = initialState();
  for (let ms = 0; ms < seconds * 1_000; ms += stepMs) {
    const nowMs = startMs + ms;
    const bad = ms >= 5_000 && ms < 15_000;
    const peers = [...set.members.keys()].filter((name) => name !== set.view.self);
    const drain: Command = {
      kind: 'drain',
      target: { scope: 'cluster', member: 'us-west' },
      author: 'kim',
      reason: 'kernel update',
      overMs: 2_000,
      graceMs: undefined,
    };
    const signals = {
      ...noSignals,
      control: new Map(peers.map((name) => [name, { ageMs: 200, shuttingDown: false, draining: false }])),
      readBackMs: 300,
      paths: new Map(peers.map((name) => [name, { rttMs: 40, varMs: 2 }])),
      probes: peers.map((name) => probe(name, nowMs - 10, name !== 'eu' || !bad)),
      commands: ms === 20_000 ? [drain] : [],
    };
    const inputs: StepInputs = {
      state,
      view: set.view,
      signals,
      policies: set.policies,
      nowMs,
      seed: ms,
      role: 'writer',
    };
    const result = step(state, set.view, signals, set.policies, nowMs, seededRng(ms), 'writer');
    if (result.journal.length > 0) made.push({ inputs, decisions: result.journal });
    state = result.state;
  }
  return made;
};
