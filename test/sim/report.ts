/** What a run says to people. */
import type { Outcome } from './run.ts';
import { shownFault } from './world/fault.ts';
import type { Scenario } from './world/scenario.ts';

export const shownScenario = (scenario: Scenario): string => {
  const { seed, clusters, services, policy, etcdRegion, hostile, calmMs, safetyMs, faults } = scenario;
  const where = clusters.map((c) => `${c.name}(${c.region}, ${c.replicas} replicas, ${c.gateways} gateways)`).join(' ');
  const what = services.map(({ key, pods, perPod, load }) => {
    const pairs = (of: Readonly<Record<string, number>>) =>
      Object.entries(of)
        .map(([name, n]) => `${name}:${n}`)
        .join(' ');
    return `  ${key}: pods ${pairs(pods)}, each takes ${perPod}/s; calls a second ${pairs(load)}`;
  });
  return [
    `seed ${seed}, policy ${policy}, etcd in ${etcdRegion}${hostile === undefined ? '' : `, ${hostile} hostile`}`,
    `  ${where}`,
    ...what,
    `  faults between ${calmMs / 1_000} s and ${safetyMs / 1_000} s:`,
    ...faults.map((fault) => `    ${shownFault(fault)}`),
  ].join('\n');
};

export const shownViolation = ({ violation }: Outcome): string =>
  violation === undefined
    ? 'held'
    : `${violation.invariant} violated at ${(violation.atMs / 1_000).toFixed(3)} s: ${violation.detail}`;
