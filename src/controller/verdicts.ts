/**
 * The verdicts as they stand, out of the state that the decisions keep: what people are shown is what is remembered, also by a replica
 * that only follows and has judged nothing itself.
 */
import type { HealthState, Standing } from '../health/state.ts';
import type { CellKey, MemberVerdict, Verdict, Verdicts } from '../health/verdict.ts';

const verdict = (standing: Standing & { readonly deadlineMs?: number | undefined }): Verdict => ({
  state: standing.state,
  reason: standing.reason,
  detail: standing.detail,
  sinceMs: standing.sinceMs,
  deadlineMs: standing.deadlineMs,
  penalty: standing.penalty?.value ?? 0,
});

export const verdictsOf = (health: HealthState): Verdicts => {
  const members = new Map<string, MemberVerdict>();
  for (const [name, peer] of Object.entries(health.members)) {
    members.set(name, { ...verdict(peer), control: peer.control, data: peer.data });
  }
  const cells = new Map<CellKey, Verdict>();
  for (const [key, cell] of Object.entries(health.cells)) {
    if (cell.state !== 'fresh' || cell.reason !== 'Healthy') cells.set(key as CellKey, verdict(cell));
  }
  const regions = new Map<string, Verdict>();
  for (const [name, region] of Object.entries(health.regions)) if (region.down) regions.set(name, verdict(region));
  return { members, cells, regions };
};
