/** The FailoverPolicy objects of a cluster, as they are kept: the spec as somebody wrote it, and the conditions that stand on it. */
import type { LocalFailoverPolicy } from '../federation/local.ts';
import { count, type Json, record, text } from './json.ts';
import { type Condition, createdMs, projectConditions } from './objects.ts';

export const policyGroup = 'isthmus.dev';
export const policyVersion = 'v1alpha1';
export const policyPlural = 'failoverpolicies';

/** Like `LocalFailoverPolicy`, with what only its conditions need: those change with each write of ours, the policy does not. */
export interface PolicyObject extends LocalFailoverPolicy {
  readonly apiVersion: string;
  readonly conditions: readonly Condition[];
}

export const projectFailoverPolicy = (object: Json): PolicyObject => {
  const metadata = record(object, 'metadata');
  return {
    namespace: text(metadata, 'namespace'),
    name: text(metadata, 'name'),
    uid: text(metadata, 'uid'),
    apiVersion: `${policyGroup}/${policyVersion}`,
    generation: count(metadata, 'generation') ?? 0,
    createdMs: createdMs(metadata),
    spec: object['spec'],
    conditions: projectConditions(object),
  };
};

export const localPolicy = ({
  namespace,
  name,
  uid,
  generation,
  createdMs: at,
  spec,
}: PolicyObject): LocalFailoverPolicy => ({ namespace, name, uid, generation, createdMs: at, spec });
