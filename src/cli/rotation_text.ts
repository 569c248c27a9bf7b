/** A rotation, for people: where it is, who has loaded what, and what keeps it waiting. */
import type { MemberTrust, RootReport, TrustReport } from '../core/trust_report.ts';
import { shortFingerprint } from '../trust/bundle.ts';
import type { Judgement, Rotation } from '../trust/rotation.ts';
import { age, aligned, paint, table } from './output.ts';

const stages = {
  added: 'added: the new root is trusted beside the old one, which still issues',
  switched: 'switched: the CA under the new root issues, the old root is still trusted',
  removed: 'removed: it is over',
} as const;

const nexts = {
  switch: 'next: switch the issuer (isthmus trust rotate continue)',
  remove: 'next: remove the old root (isthmus trust rotate continue)',
  'switch-back': 'next: issue under the old root again (isthmus trust rotate continue)',
  withdraw: 'next: remove the new root again (isthmus trust rotate continue)',
} as const;

const find = (member: MemberTrust, roots: readonly string[]): RootReport | undefined =>
  member.loaded?.roots.find(({ root }) => roots.includes(root));

const loadedOf = (standing: RootReport | undefined): string => {
  if (standing === undefined || !standing.given) return paint('yellow', 'no');
  return standing.lacking === 0 ? 'all' : paint('yellow', `${standing.lacking} without`);
};

const usedOf = (standing: RootReport | undefined): string => {
  if (standing === undefined) return 'no';
  if (standing.issuing) return 'issues';
  return standing.inUse === 0 ? 'no' : `${standing.inUse} left`;
};

const untilOf = (untilMs: number | undefined, nowMs: number): string =>
  untilMs === undefined ? '' : `ends by itself in ${age(Math.max(0, untilMs - nowMs) / 1_000)} at the latest`;

export const rotationText = (rotation: Rotation, judged: Judgement, seen: TrustReport, nowMs: number): string => {
  const { from, to, clusters } = rotation;
  const head = aligned([
    ['stage', stages[rotation.stage] + (rotation.back ? ', going back' : '')],
    ['clusters', clusters.join(', ')],
    ['old', from.map(shortFingerprint).join(' ')],
    ['new', to.map(shortFingerprint).join(' ')],
    ['asked', `${seen.member}, ${seen.replica}`],
  ]);
  const concerned = seen.members.filter(({ member }) => judged.concerned.includes(member));
  const rows = table(
    ['CLUSTER', 'HEARD', 'NEW ROOT LOADED', 'NEW ROOT USED', 'OLD ROOT LOADED', 'OLD ROOT USED', 'PROBED'],
    concerned.map((member) => {
      const fresh = find(member, to);
      const probes = fresh === undefined ? '' : `${fresh.probed.length}/${member.loaded?.partners.length ?? 0}`;
      return [
        member.member,
        member.ageSeconds === null ? 'never' : `${age(member.ageSeconds)}${member.fresh ? '' : ' (silent)'}`,
        loadedOf(fresh),
        usedOf(fresh),
        loadedOf(find(member, from)),
        usedOf(find(member, from)),
        judged.step === 'switch' && clusters.includes(member.member) ? probes : '',
      ];
    }),
  );
  const waiting = judged.waiting.map(({ member, what, untilMs }) => [
    paint('yellow', member),
    [what, untilOf(untilMs, nowMs)].filter((part) => part !== '').join('; '),
  ]);
  const missing = waiting.length === 0 ? '' : `\n\nmissing:\n${aligned(waiting)}`;
  const next =
    judged.step === undefined
      ? ''
      : `\n\n${nexts[judged.step]}${waiting.length === 0 ? ', proven' : ', refused until nobody is missing'}`;
  return `${head}\n\n${rows}${missing}${next}`;
};
