/** What became of an EgressPolicy, as conditions on it: whether it can be read, and which version of it is in force. */
import type { EgressOutcome } from '../trust/egress_rules.ts';
import type { ConditionKind, DesiredCondition } from './condition_writer.ts';

const condition = (type: string, good: boolean, reason: string, message: string): DesiredCondition => ({
  type,
  status: good ? 'True' : 'False',
  reason,
  message: message.slice(0, 2_048),
});

const meanings = {
  ALLOW: 'what no ALLOW policy allows is denied',
  DENY: 'what it means is denied, whatever else allows it',
  LIMIT: 'it limits, and gives or takes no right',
} as const;

/** In a fixed order. */
export const egressConditions = ({ policy, accepted, problem }: EgressOutcome): readonly DesiredCondition[] => {
  const read =
    problem === undefined
      ? condition('Accepted', true, 'Accepted', 'the policy can be read')
      : condition('Accepted', false, 'InvalidPolicy', problem.message);
  if (policy === undefined) {
    const nothing = 'no version of it could be read so far, so nothing of it is in force';
    return [read, condition('Ready', false, 'InvalidPolicy', `${nothing}: ${problem?.message ?? ''}`)];
  }
  const count = policy.rules.length;
  const said = `${policy.action}, ${count} ${count === 1 ? 'rule' : 'rules'}: ${meanings[policy.action]}`;
  const ready =
    problem === undefined
      ? condition('Ready', true, 'InForce', said)
      : condition(
          'Ready',
          false,
          'LastGoodInForce',
          `generation ${accepted?.generation} stays in force (${said}); ${problem.message}`,
        );
  return [read, ready];
};

/** How conditions are written on EgressPolicies. */
export const egressKind: ConditionKind = {
  kind: 'EgressPolicy',
  plural: 'egresspolicies',
  manager: 'isthmus',
  action: 'Program',
  sparse: false,
  announce: (to, before) => {
    if (to.type !== 'Ready') return undefined;
    const bad = to.status !== 'True';
    if (!bad && before === undefined) return undefined;
    return { type: bad ? 'Warning' : 'Normal', reason: to.reason, note: to.message };
  },
};
