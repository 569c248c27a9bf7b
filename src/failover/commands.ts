/**
 * What people ask for: each command becomes a decision with its author, and a change of what is remembered.
 *
 * A freeze stops decisions, not people: a drain or undrain during it is taken down and takes effect with the thaw. A failback is not
 * kept for later, for what was true when it was said may not be then.
 */
import type { ServiceKey } from '../core/names.ts';
import type { Command } from '../health/signals.ts';
import type { Decision } from './decision.ts';
import { sameTarget, targetText } from './drains.ts';
import type { GuardHold } from './plan.ts';
import type { Drain, FailoverState, Freeze } from './state.ts';

export interface Release {
  readonly member: string;
  /** Undefined: of every service. */
  readonly service: ServiceKey | undefined;
  readonly author: string;
}

export interface Commanded {
  readonly drains: readonly Drain[];
  readonly frozen: Freeze | undefined;
  readonly releases: readonly Release[];
  readonly decisions: readonly Decision[];
}

/** More drains at once than this are refused: every cell is compared with each. */
export const drainsMax = 256;

const frozenHold = (detail: string): GuardHold => ({ guard: 'Frozen', member: undefined, detail });

interface Desk {
  readonly self: string;
  readonly now: number;
  drains: readonly Drain[];
  frozen: Freeze | undefined;
}

type Answer = Pick<Decision, 'kind' | 'detail'> & Partial<Decision>;

const because = (reason: string): string => (reason === '' ? '' : `: ${reason}`);

const refused = (detail: string): Answer => ({ kind: 'hold', detail });

const drain = (desk: Desk, command: Extract<Command, { kind: 'drain' | 'undrain' }>): Answer => {
  const { target, author, reason, overMs, graceMs, kind } = command;
  const text = targetText(target);
  const place = {
    service: target.scope === 'service' ? target.service : undefined,
    member: target.scope === 'region' ? undefined : target.member,
  };
  const others = desk.drains.filter((other) => !sameTarget(other.target, target));
  const was = others.length < desk.drains.length;
  const guards = desk.frozen === undefined ? [] : [frozenHold('taken down; takes effect with the thaw')];
  if (kind === 'undrain') {
    if (!was) return { ...refused(`${text} is not drained here`), ...place };
    desk.drains = others;
    return {
      kind,
      detail: `${text} comes back${because(reason)}`,
      before: 'drained',
      after: 'in use',
      guards,
      ...place,
    };
  }
  if (target.scope === 'gateway' && target.member !== desk.self) {
    const detail = `${text} can be drained by its own cluster only: run it there, or drain the cluster ${target.member} from here`;
    return { ...refused(detail), ...place };
  }
  if (others.length >= drainsMax)
    return { ...refused(`${text}: ${drainsMax} drains are in force; undrain some`), ...place };
  desk.drains = [...others, { target, author, reason, sinceMs: desk.now, overMs, graceMs }];
  const before = was ? 'drained' : 'in use';
  return { kind, detail: `${text} is drained${because(reason)}`, before, after: 'drained', guards, ...place };
};

const answer = (desk: Desk, command: Command): { answer: Answer; release?: Release } => {
  const { author, reason } = command;
  if (command.kind === 'drain' || command.kind === 'undrain') return { answer: drain(desk, command) };
  if (command.kind === 'freeze') {
    if (desk.frozen !== undefined) return { answer: refused(`frozen already, by ${desk.frozen.author}`) };
    desk.frozen = { author, reason, sinceMs: desk.now };
    return {
      answer: { kind: 'freeze', detail: `decisions stop${because(reason)}`, before: 'deciding', after: 'frozen' },
    };
  }
  if (command.kind === 'thaw') {
    if (desk.frozen === undefined) return { answer: refused('it is not frozen') };
    const { author: by } = desk.frozen;
    desk.frozen = undefined;
    const detail = `decisions go on; they were frozen by ${by}${because(reason)}`;
    return { answer: { kind: 'thaw', detail, before: 'frozen', after: 'deciding' } };
  }
  if (command.kind !== 'failback' && command.kind !== 'confirm-withdrawal')
    return { answer: refused('unknown command') };
  const { member, service } = command;
  const what = `${service ?? 'every service'} at ${member}`;
  if (command.kind === 'confirm-withdrawal') {
    return {
      answer: { kind: 'state', detail: `the withdrawal of ${what} is confirmed${because(reason)}`, member, service },
    };
  }
  if (desk.frozen !== undefined) {
    const guards = [frozenHold('say it again after the thaw')];
    return { answer: { ...refused(`${what} does not come back while decisions are frozen`), member, service, guards } };
  }
  const detail = `${what} may come back${because(reason)}`;
  return { answer: { kind: 'failback', detail, member, service }, release: { member, service, author } };
};

export const obey = (state: FailoverState, commands: readonly Command[], self: string, now: number): Commanded => {
  const desk: Desk = { self, now, drains: state.drains, frozen: state.frozen };
  const decisions: Decision[] = [];
  const releases: Release[] = [];
  for (const command of commands) {
    const { answer: said, release } = answer(desk, command);
    if (release !== undefined) releases.push(release);
    decisions.push({
      atMs: now,
      service: undefined,
      member: undefined,
      rule: 'Command',
      author: command.author,
      guards: [],
      before: undefined,
      after: undefined,
      observed: false,
      policy: '',
      urgent: false,
      ...said,
    });
  }
  return { drains: desk.drains, frozen: desk.frozen, releases, decisions };
};
