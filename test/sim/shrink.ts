/**
 * A failing scenario made smaller while it fails in the same way: fewer faults, shorter ones, fewer clusters and services. What is
 * left is what a person reads, and what is kept as a regression.
 */
import { runScenario } from './run.ts';
import { clustersOf, type Fault } from './world/fault.ts';
import type { Scenario } from './world/scenario.ts';

export interface Shrunk {
  readonly scenario: Scenario;
  readonly runs: number;
}

const without = <T>(list: readonly T[], from: number, count: number): T[] => [
  ...list.slice(0, from),
  ...list.slice(from + count),
];

/** Halves of the faults, quarters, …, single ones. */
function* fewerFaults(scenario: Scenario): Generator<Scenario> {
  const { faults } = scenario;
  for (let size = Math.ceil(faults.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < faults.length; at += size) yield { ...scenario, faults: without(faults, at, size) };
  }
}

function* shorterFaults(scenario: Scenario): Generator<Scenario> {
  const { faults, calmMs } = scenario;
  const endsMs = Math.max(calmMs + 5_000, ...faults.map((fault) => fault.atMs + fault.forMs + 1_000));
  if (endsMs < scenario.safetyMs) yield { ...scenario, safetyMs: endsMs };
  for (const [i, fault] of faults.entries()) {
    if (fault.forMs < 1_000) continue;
    const shorter: Fault = { ...fault, forMs: Math.round(fault.forMs / 2) };
    yield { ...scenario, faults: faults.map((f, j) => (i === j ? shorter : f)) };
  }
}

function* smallerWorld(scenario: Scenario): Generator<Scenario> {
  const { clusters, services, faults, hostile } = scenario;
  const named = new Set([...faults.flatMap(clustersOf), hostile]);
  for (const { name } of clusters) {
    if (named.has(name) || clusters.length <= 2) continue;
    const left = services.map((service) => {
      const { [name]: _pods, ...pods } = service.pods;
      const { [name]: _load, ...load } = service.load;
      return { ...service, pods, load };
    });
    if (left.some(({ pods }) => Object.keys(pods).length === 0)) continue;
    yield { ...scenario, clusters: clusters.filter((c) => c.name !== name), services: left };
  }
  for (const { key } of services) {
    if (services.length === 1 || faults.some((fault) => 'service' in fault && fault.service === key)) continue;
    yield { ...scenario, services: services.filter((s) => s.key !== key) };
  }
  for (const { name, replicas } of clusters) {
    if (replicas === 1 || faults.some((fault) => 'replica' in fault && fault.cluster === name)) continue;
    yield { ...scenario, clusters: clusters.map((c) => (c.name === name ? { ...c, replicas: 1 } : c)) };
  }
}

/** @param wallMs - to spend at most */
export const shrink = async (failing: Scenario, invariant: string, wallMs: number): Promise<Shrunk> => {
  const endMs = performance.now() + wallMs;
  let scenario = failing;
  let runs = 0;
  for (let found = true; found; ) {
    found = false;
    for (const smaller of [fewerFaults, smallerWorld, shorterFaults]) {
      for (let again = true; again; ) {
        again = false;
        for (const candidate of smaller(scenario)) {
          if (performance.now() > endMs) return { scenario, runs };
          runs++;
          const { violation } = await runScenario(candidate);
          if (violation?.invariant !== invariant) continue;
          scenario = candidate;
          found = true;
          again = true;
          break;
        }
      }
    }
  }
  return { scenario, runs };
};
