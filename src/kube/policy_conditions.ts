/** What became of a FailoverPolicy, as conditions on it: whether it can be read, whether an older one decides, whether it counts. */
import type { PolicyOutcome } from '../failover/policy_set.ts';
import type { ConditionKind, DesiredCondition } from './condition_writer.ts';

export interface PolicyStanding {
  readonly outcome: PolicyOutcome;
  /** Decisions are made by the policies that this outcome belongs to. */
  readonly programmed: boolean;
  /** Targets of which no cluster has a Service. */
  readonly missing: readonly string[];
}

const listed = (names: readonly string[], max = 8): string =>
  names.length <= max ? names.join(', ') : `${names.slice(0, max).join(', ')} and ${names.length - max} more`;

const condition = (type: string, good: boolean, reason: string, message: string): DesiredCondition => ({
  type,
  status: good ? 'True' : 'False',
  reason,
  message: message.slice(0, 2_048),
});

const scope = ({ decides, wholeNamespace, object }: PolicyOutcome): string => {
  if (wholeNamespace) return `all services of ${object.namespace} that no other policy names`;
  return decides.length === 1 ? decides[0]! : `${decides.length} services: ${listed(decides)}`;
};

const lossText = ({ lost }: PolicyOutcome): string =>
  listed(
    lost.map(({ service, to }) => `${to} is older and decides for ${service === '*' ? 'the namespace' : service}`),
  );

const standing = ({ outcome, programmed }: PolicyStanding): DesiredCondition => {
  const { parsed, problem, decides, wholeNamespace } = outcome;
  if (parsed === undefined)
    return condition('Programmed', false, 'InvalidPolicy', problem?.message ?? 'it cannot be read');
  if (decides.length === 0 && !wholeNamespace) {
    return condition('Programmed', false, 'OlderPolicyDecides', lossText(outcome));
  }
  if (!programmed) return condition('Programmed', false, 'Pending', 'not yet part of the decisions');
  return condition('Programmed', true, 'Programmed', `it decides for ${scope(outcome)}`);
};

const summary = (told: PolicyStanding, programmed: DesiredCondition): DesiredCondition => {
  const { outcome, missing } = told;
  const { parsed, problem, lost, decides } = outcome;
  if (problem !== undefined) return condition('Ready', false, 'InvalidPolicy', problem.message);
  if (programmed.status !== 'True') return { ...programmed, type: 'Ready' };
  const absent = missing.length === 0 ? '' : `; there is no Service ${listed(missing)} in any cluster`;
  if (missing.length > 0 && missing.length >= decides.length) {
    return condition('Ready', false, 'TargetNotFound', `${programmed.message}${absent}`);
  }
  const observing = parsed?.policy.mode === 'observe' ? '; mode is observe: it changes nothing' : '';
  const partly = lost.length === 0 ? '' : `; ${lossText(outcome)}`;
  const reason = lost.length > 0 ? 'PartlyConflicted' : observing === '' ? 'Programmed' : 'Observing';
  return condition('Ready', true, reason, `${programmed.message}${observing}${partly}${absent}`);
};

/** In a fixed order. */
export const policyConditions = (told: PolicyStanding): readonly DesiredCondition[] => {
  const { outcome } = told;
  const { problem, parsed, lost } = outcome;
  const programmed = standing(told);
  const kept = parsed === undefined ? '' : '; its last good version stays in use';
  return [
    problem === undefined
      ? condition('Accepted', true, 'Accepted', 'the policy can be read')
      : condition('Accepted', false, 'InvalidPolicy', `${problem.message}${kept}`),
    lost.length === 0
      ? condition('Conflicted', false, 'NoConflicts', 'no older policy decides for its targets')
      : condition('Conflicted', true, 'OlderPolicyDecides', lossText(outcome)),
    programmed,
    summary(told, programmed),
  ];
};

/** How conditions are written on FailoverPolicies. Events follow the summary: the others say the same in other words. */
export const policyKind: ConditionKind = {
  kind: 'FailoverPolicy',
  plural: 'failoverpolicies',
  manager: 'isthmus',
  action: 'Program',
  sparse: false,
  announce: (to, before) => {
    if (to.type !== 'Ready' || to.reason === 'Pending') return undefined;
    const bad = to.status !== 'True' || to.reason === 'PartlyConflicted';
    if (!bad && before === undefined) return undefined;
    return { type: bad ? 'Warning' : 'Normal', reason: to.reason, note: to.message };
  },
};
