/** Rules from policies as people write them: by name, all of them good. */
import { compileEgress, type EgressRules } from '../../../src/trust/egress_rules.ts';

export const rulesOf = (specs: Readonly<Record<string, unknown>>): EgressRules => {
  const objects = Object.entries(specs).map(
    ([name, spec]) => [name, { name, uid: name, generation: 1, spec }] as const,
  );
  const { rules, outcomes } = compileEgress(new Map(objects), 'cluster.local');
  for (const { problem } of outcomes.values()) if (problem !== undefined) throw problem;
  return rules;
};

export const to = (...names: string[]) => [{ services: names }];
export const accounts = (...names: string[]) => [{ source: { serviceAccounts: names } }];
export const spaces = (...names: string[]) => [{ source: { namespaces: names } }];
