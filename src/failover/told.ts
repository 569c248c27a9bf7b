/** States of members, cells and regions as the journal was told them: a decision when one changes, and none twice. */
import { type CellKey, type CellState, cellOf, type Verdict, type Verdicts } from '../health/verdict.ts';
import type { Decision } from './decision.ts';
import type { FailoverState } from './state.ts';

type Told = FailoverState['told'];

interface Subject {
  readonly kind: 'state' | 'region';
  readonly service: string | undefined;
  readonly member: string | undefined;
  readonly what: string;
}

const healthyAgain: Pick<Verdict, 'reason' | 'detail'> = {
  reason: 'Healthy',
  detail: 'nothing speaks against it any more',
};

const decision = (subject: Subject, before: CellState, verdict: Verdict | undefined, now: number): Decision => {
  const { reason, detail } = verdict ?? healthyAgain;
  const { kind, service, member, what } = subject;
  return {
    atMs: now,
    kind,
    service,
    member,
    rule: reason,
    detail: `${what}: ${detail === '' ? reason : detail}`,
    author: 'controller',
    guards: [],
    before,
    after: verdict?.state ?? 'fresh',
    observed: false,
    policy: '',
    urgent: false,
  };
};

const compare = <Key extends string>(
  told: ReadonlyMap<Key, CellState>,
  verdicts: ReadonlyMap<Key, Verdict>,
  keys: Iterable<Key>,
  subject: (key: Key) => Subject,
  now: number,
  decisions: Decision[],
): ReadonlyMap<Key, CellState> => {
  let next: Map<Key, CellState> | undefined;
  const one = (key: Key): void => {
    const before = told.get(key) ?? 'fresh';
    const verdict = verdicts.get(key);
    const state = verdict?.state ?? 'fresh';
    if (state === before || (next?.get(key) ?? (next === undefined ? before : 'fresh')) === state) return;
    decisions.push(decision(subject(key), before, verdict, now));
    next ??= new Map(told);
    if (state === 'fresh') next.delete(key);
    else next.set(key, state);
  };
  for (const key of keys) one(key);
  for (const key of told.keys()) if (!verdicts.has(key)) one(key);
  return next ?? told;
};

/** @param cells - those whose verdict may have changed; undefined: all */
export const tell = (
  told: Told,
  verdicts: Verdicts,
  cells: Iterable<CellKey> | undefined,
  now: number,
  decisions: Decision[],
): Told => {
  const regions = compare(
    told.regions,
    verdicts.regions,
    verdicts.regions.keys(),
    (region) => ({ kind: 'region', service: undefined, member: undefined, what: `region ${region}` }),
    now,
    decisions,
  );
  const members = compare(
    told.members,
    verdicts.members,
    verdicts.members.keys(),
    (member) => ({ kind: 'state', service: undefined, member, what: member }),
    now,
    decisions,
  );
  const places = compare(
    told.cells,
    verdicts.cells,
    cells ?? verdicts.cells.keys(),
    (key) => {
      const { service, member } = cellOf(key);
      return { kind: 'state', service, member, what: `${service} at ${member}` };
    },
    now,
    decisions,
  );
  return regions === told.regions && members === told.members && places === told.cells
    ? told
    : { members, cells: places, regions };
};
