/** The EgressPolicy objects of a cluster, as they are kept: the spec as somebody wrote it, and what stands in the status. */
import type { LocalEgressPolicy } from '../trust/egress_rules.ts';
import { policyGroup, policyVersion } from './failover_policies.ts';
import { count, type Json, record, text } from './json.ts';
import { type Condition, projectConditions } from './objects.ts';

export const egressPlural = 'egresspolicies';

/** Like `LocalEgressPolicy`, with what only its conditions need. */
export interface EgressObject extends LocalEgressPolicy {
  readonly namespace: '';
  readonly apiVersion: string;
  readonly conditions: readonly Condition[];
}

export const projectEgressPolicy = (object: Json): EgressObject => {
  const metadata = record(object, 'metadata');
  const accepted = record(record(object, 'status'), 'accepted');
  const generation = count(accepted, 'generation');
  return {
    namespace: '',
    name: text(metadata, 'name'),
    uid: text(metadata, 'uid'),
    apiVersion: `${policyGroup}/${policyVersion}`,
    generation: count(metadata, 'generation') ?? 0,
    spec: object['spec'],
    ...(generation === undefined ? {} : { accepted: { generation, spec: accepted['spec'] } }),
    conditions: projectConditions(object),
  };
};

export const localEgressPolicy = ({ name, uid, generation, spec, accepted }: EgressObject): LocalEgressPolicy => ({
  name,
  uid,
  generation,
  spec,
  ...(accepted && { accepted }),
});
