/**
 * That the traffic of a Service has left its usual place, written on the Service itself: who looks at it at night looks there
 * first. The condition is about calls that start in this cluster; a Service that never failed over has none.
 */
import type { ConditionKind, DesiredCondition } from './condition_writer.ts';

export const failedOverType = 'isthmus.dev/FailedOver';

export interface ServiceTraffic {
  /** Some cluster that the policy prefers gets less than its share. */
  readonly away: boolean;
  /** CamelCase: what it is that keeps traffic away; not read when nothing does. */
  readonly reason: string;
  /** One sentence for people, without ages: those would be a write a second. */
  readonly message: string;
}

export const serviceConditions = ({ away, reason, message }: ServiceTraffic): readonly DesiredCondition[] => [
  {
    type: failedOverType,
    status: away ? 'True' : 'False',
    reason: away ? reason : 'InPlace',
    message: message.slice(0, 1_024),
  },
];

/** How the condition is written on Services: with a manager of its own, for their status has other owners. */
export const serviceKind: ConditionKind = {
  kind: 'Service',
  plural: 'services',
  manager: 'isthmus-failover',
  action: 'Failover',
  sparse: true,
  announce: (to, before) => {
    if (to.status === 'True') {
      const reason = before?.status === 'True' ? 'FailoverChanged' : 'FailedOver';
      return { type: 'Warning', reason, note: `${to.reason}: ${to.message}` };
    }
    return before?.status === 'True' ? { type: 'Normal', reason: 'FailedBack', note: to.message } : undefined;
  },
};
