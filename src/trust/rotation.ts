/**
 * Exchanging a root of the mesh, in stages, each proven before the next:
 *
 *   added     the new root is trusted beside the old one, which still issues
 *   switched  the CA under the new root issues
 *   removed   the old root is trusted no more
 *
 * What goes on is decided here from what every member published of its proxies; nothing is concluded from time having passed. It goes
 * back the same way, with old and new exchanged, so that an abort is as safe as going on. Names of roots are fingerprints, hexadecimal.
 */
import type { MemberTrust, RootReport } from '../core/trust_report.ts';
import { shortFingerprint } from './bundle.ts';

export type RotationStage = 'added' | 'switched' | 'removed';

export interface Rotation {
  readonly stage: RotationStage;
  /** Aborted: it goes back. */
  readonly back: boolean;
  /** Whose CA is exchanged: all clusters under a shared root, or one. */
  readonly clusters: readonly string[];
  /** The roots that go. */
  readonly from: readonly string[];
  /** The roots that come: one, or one for each cluster. */
  readonly to: readonly string[];
}

/** What a member keeps waiting for. */
export interface Waiting {
  readonly member: string;
  readonly what: string;
  /** By when it ends by itself at the latest, ms since 1970; undefined: it does not. */
  readonly untilMs: number | undefined;
}

/** `switch`, `remove`: onwards; `switch-back`, `withdraw`: back to where it began. */
export type RotationStep = 'switch' | 'remove' | 'switch-back' | 'withdraw';

export interface Judgement {
  /** What comes next; undefined: the rotation is over. */
  readonly step: RotationStep | undefined;
  readonly waiting: readonly Waiting[];
  /** Members that were asked about. */
  readonly concerned: readonly string[];
}

export const stepAfter = ({ stage, back }: Rotation): RotationStep | undefined => {
  if (stage === 'removed') return undefined;
  if (stage === 'added') return back ? 'withdraw' : 'switch';
  return back ? 'switch-back' : 'remove';
};

const standing = (member: MemberTrust, root: string): RootReport | undefined =>
  member.loaded?.roots.find((one) => one.root === root);

/** Whoever trades with a cluster whose root changes, as either of them says; and whoever does not say with whom it trades. */
const isConcerned = (member: MemberTrust, rotation: Rotation, members: readonly MemberTrust[]): boolean => {
  const { clusters } = rotation;
  if (clusters.includes(member.member) || member.loaded === undefined) return true;
  if (member.loaded.partners.some((partner) => clusters.includes(partner))) return true;
  return members.some((other) => clusters.includes(other.member) && other.loaded?.partners.includes(member.member));
};

const until = (ms: number): number | undefined => (ms > 0 ? ms : undefined);
const named = (names: readonly string[], count: number): string =>
  `${names.join(', ')}${count > names.length ? ` and ${count - names.length} more` : ''}`;

/** Which of `roots` a member needs: those of clusters that it trades with, or that are its own. */
const neededOf = (
  member: MemberTrust,
  roots: readonly string[],
  given: ReadonlyMap<string, readonly string[]>,
): string[] => {
  const near = new Set([member.member, ...(member.loaded?.partners ?? [])]);
  const needed = roots.filter((root) => [...near].some((name) => given.get(name)?.includes(root)));
  // Nobody was seen to have it: everybody has to say so.
  return needed.length > 0 ? needed : [...roots];
};

type Say = (what: string, untilMs?: number) => void;

/** Every proxy there has the root. */
const sayLoaded = (member: MemberTrust, root: string, say: Say): void => {
  const short = shortFingerprint(root);
  const found = standing(member, root);
  if (found === undefined || !found.given) {
    const { problem } = member;
    say(`does not give root ${short} to its proxies${problem === undefined ? '' : ` (${problem})`}`);
    return;
  }
  if (found.lacking === 0) return;
  say(
    `${found.lacking} without root ${short}: ${named(found.lackingNames, found.lacking)}`,
    until(found.lackingUntilMs),
  );
};

const sayProbed = (member: MemberTrust, root: string, say: Say): void => {
  const found = standing(member, root);
  const missing = (member.loaded?.partners ?? []).filter((partner) => found?.probed.includes(partner) !== true);
  for (const partner of missing) {
    const failed = found?.probeFailed.includes(partner) === true;
    const short = shortFingerprint(root);
    say(
      failed
        ? `a probe of ${partner} with a certificate of ${short} fails`
        : `${partner} is not yet probed with ${short}`,
    );
  }
};

/** No certificate under the root is in use there. */
const sayUnused = (member: MemberTrust, root: string, say: Say): void => {
  const short = shortFingerprint(root);
  const found = standing(member, root);
  if (found === undefined) return;
  if (found.issuing) say(`still issues under root ${short}`);
  if (found.inUse > 0) {
    say(
      `${found.inUse} with a certificate of ${short}: ${named(found.inUseNames, found.inUse)}`,
      until(found.inUseUntilMs),
    );
  }
};

/** What must hold of one member before the step. */
const missing = (
  step: RotationStep,
  member: MemberTrust,
  rotation: Rotation,
  bundles: ReadonlyMap<string, readonly string[]>,
): Waiting[] => {
  const found: Waiting[] = [];
  const say: Say = (what, untilMs) => found.push({ member: member.member, what, untilMs });
  const { from, to, clusters } = rotation;
  const own = clusters.includes(member.member);
  const unload = step === 'remove' || step === 'withdraw';
  // Whose CA does not change has no certificate under the root that goes.
  if (unload && !own) return found;
  if (member.loaded === undefined) {
    say('has not said what its proxies have loaded: an older version, or it was never up');
    return found;
  }
  if (!member.fresh) say(`is silent${member.ageSeconds === null ? '' : ` for ${Math.round(member.ageSeconds)} s`}`);
  for (const what of member.loaded.unknown) say(what);
  if (unload) {
    const [going, staying] = step === 'remove' ? [from, to] : [to, from];
    for (const root of going) sayUnused(member, root, say);
    if (!staying.some((root) => standing(member, root)?.issuing === true)) {
      say(`does not issue under ${staying.map(shortFingerprint).join(' or ')} yet`);
    }
    return found;
  }
  const coming = step === 'switch' ? to : from;
  for (const root of neededOf(member, coming, bundles)) sayLoaded(member, root, say);
  if (step === 'switch' && own) {
    for (const root of to) if (bundles.get(member.member)?.includes(root)) sayProbed(member, root, say);
    if (!to.some((root) => member.bundle.includes(root))) {
      say(
        `its new root is not in the bundle that others use${member.problem === undefined ? '' : ` (${member.problem})`}`,
      );
    }
  }
  return found;
};

/** What comes next, and who keeps it waiting. A member of `clusters` of which nothing at all is known is waited for, too. */
export const judgeRotation = (rotation: Rotation, members: readonly MemberTrust[]): Judgement => {
  const step = stepAfter(rotation);
  const absent = rotation.clusters.filter((name) => !members.some(({ member }) => member === name));
  const concerned = members.filter((member) => isConcerned(member, rotation, members));
  const names = [...concerned.map(({ member }) => member), ...absent].sort();
  if (step === undefined) return { step, waiting: [], concerned: names };
  const bundles = new Map(members.map(({ member, bundle }) => [member, bundle]));
  const waiting = concerned.flatMap((member) => missing(step, member, rotation, bundles));
  for (const member of absent) waiting.push({ member, what: 'is not known here', untilMs: undefined });
  waiting.sort((a, b) => (a.member < b.member ? -1 : a.member > b.member ? 1 : 0));
  return { step, waiting, concerned: names };
};

/** After the step is done. */
export const rotationAfter = (rotation: Rotation, step: RotationStep): Rotation => {
  if (step === 'switch') return { ...rotation, stage: 'switched' };
  if (step === 'switch-back') return { ...rotation, stage: 'added' };
  return { ...rotation, stage: 'removed' };
};
