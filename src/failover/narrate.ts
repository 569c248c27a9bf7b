/**
 * What the journal is told of one service's step: one decision when its traffic moved, and one for what is newly held back.
 *
 * A decision for every cell was passed over: whoever reads at three in the morning asks where the traffic went, and a region's failure
 * is one answer, not one a cluster.
 */
import type { Decision, Placement } from './decision.ts';
import type { ServiceScene } from './draft.ts';
import { type Kind, membersOf, samePlaces } from './placement.ts';
import type { GuardHold } from './plan.ts';
import type { Wish } from './ramp.ts';

/** A change of a cell that the guards let through. */
export interface Change {
  readonly member: string;
  readonly kind: Exclude<Wish['kind'], 'note'>;
  readonly rule: Wish['rule'];
  readonly detail: string;
  readonly urgent: boolean;
  readonly author: string | undefined;
}

export interface Story {
  readonly scene: ServiceScene;
  readonly previous: Placement | undefined;
  readonly placement: Placement;
  readonly moved: boolean;
  readonly changes: readonly Change[];
  readonly byCapacity: boolean;
  /** It moved by rates and grants alone. */
  readonly byGrants: boolean;
  readonly kind: Kind;
  readonly holds: readonly GuardHold[];
  readonly heldBefore: readonly string[];
  readonly failFast: boolean;
}

const controller = 'controller';

type Cause = Pick<Decision, 'kind' | 'rule' | 'detail' | 'urgent' | 'author' | 'member'>;

const kinds = {
  withdraw: 'shift',
  drain: 'drain',
  undrain: 'undrain',
  failback: 'failback',
  ramp: 'ramp',
} as const;

/** Guards of our own share that bring traffic back here. */
const overruling: ReadonlySet<GuardHold['guard']> = new Set(['SpillOnSpill', 'Headroom', 'LastCell']);

const joined = (parts: readonly string[]): string => parts.join('; ');

const named = (members: readonly string[]): string => members.join(', ');

/** What moved it, when no cell changed its phase: clusters that came or went, doubt, numbers, the policy. */
const quietCause = (story: Story): Cause => {
  const { scene, previous, placement, byCapacity } = story;
  const common = { kind: 'shift', author: controller, member: undefined } as const;
  const before = membersOf(previous!.tiers);
  const after = membersOf(placement.tiers);
  const [were, are] = [new Set(before), new Set(after)];
  const came = after.filter((member) => !were.has(member));
  const went = before.filter((member) => !are.has(member));
  const only = (members: readonly string[]) => (members.length === 1 ? members[0] : undefined);
  if (story.failFast !== scene.before?.failFast && samePlaces(previous!, placement)) {
    const detail = story.failFast
      ? 'every cell is bad: calls are refused at once, as the policy wishes'
      : 'calls are no longer refused at once';
    return { ...common, rule: story.failFast ? 'NotReady' : 'Healthy', detail, urgent: true };
  }
  if (scene.before?.policy !== scene.policy.name) {
    return { ...common, rule: 'Policy', detail: `planned by policy ${scene.policy.name} now`, urgent: true };
  }
  const gone = went.filter((member) => !scene.view.remotes.has(member));
  if (gone.length > 0) {
    return {
      ...common,
      rule: 'Withdrawn',
      detail: `${named(gone)} no longer has it`,
      urgent: true,
      member: only(gone),
    };
  }
  if (byCapacity && previous!.localPercent !== placement.localPercent) {
    const { ready = 0, total = 0 } = scene.local ?? {};
    const detail = `${ready} of ${total} endpoints of ours are ready: ${placement.localPercent} % stays here`;
    return { ...common, rule: 'Capacity', detail, urgent: false, member: scene.self };
  }
  // Numbers that a guard overrules move it for the guard's sake: not at discretion, and that is what is told.
  const guard = story.holds.find(({ guard, member }) => member === scene.self && overruling.has(guard));
  if (guard !== undefined && previous!.localPercent < placement.localPercent) {
    return { ...common, rule: holdRule(scene, guard), detail: guard.detail, urgent: true, member: scene.self };
  }
  if (story.byGrants) {
    const detail = 'what the others grant, or what there is to place, changed';
    return { ...common, rule: 'Capacity', detail, urgent: false };
  }
  if (came.length > 0) {
    return { ...common, rule: 'Order', detail: `${named(came)} takes part`, urgent: true, member: only(came) };
  }
  const detail = went.length > 0 ? `${named(went)} leaves its place to better ones` : 'the order changed';
  return { ...common, rule: 'Order', detail, urgent: true, member: only(went) };
};

const cause = (story: Story): Cause => {
  const { changes } = story;
  if (changes.length === 0) return quietCause(story);
  const first = changes[0]!;
  const members = new Set(changes.map(({ member }) => member));
  return {
    kind: kinds[first.kind],
    rule: first.rule === 'NotReady' ? 'Readiness' : first.rule,
    detail: joined(changes.map(({ member, detail }) => `${member}: ${detail}`)),
    urgent: changes.some(({ urgent }) => urgent),
    author: changes.find(({ author }) => author !== undefined)?.author ?? controller,
    member: members.size === 1 ? first.member : undefined,
  };
};

export const narrate = (story: Story): readonly Decision[] => {
  const { scene, previous, placement, moved, holds, heldBefore } = story;
  const base = {
    atMs: scene.now,
    service: scene.key,
    observed: scene.policy.mode === 'observe',
    policy: scene.policy.name,
  };
  if (moved) return [{ ...base, ...cause(story), guards: holds, before: previous, after: placement }];
  if (previous === undefined) return [];
  const known = new Set(heldBefore);
  const fresh = holds.filter(({ guard, member }) => !known.has(`${guard}|${member ?? ''}`));
  if (fresh.length === 0) return [];
  const members = new Set(fresh.map(({ member }) => member));
  return [
    {
      ...base,
      kind: 'hold',
      member: members.size === 1 ? fresh[0]!.member : undefined,
      rule: holdRule(scene, fresh[0]!),
      detail: joined(
        fresh.map(({ guard, member, detail }) => `${guard}${member === undefined ? '' : ` ${member}`}: ${detail}`),
      ),
      author: controller,
      guards: fresh,
      before: undefined,
      after: undefined,
      urgent: false,
    },
  ];
};

const holdRule = (scene: ServiceScene, { guard, member }: GuardHold): Decision['rule'] => {
  if (guard === 'HoldDown' || guard === 'Latched' || guard === 'Flapping') return guard;
  if (member === scene.self) return scene.local?.verdict.reason ?? 'Capacity';
  return scene.cells.find((cell) => cell.member.name === member)?.verdict.reason ?? 'Capacity';
};
