/**
 * The custom resource definition of FailoverPolicy and its page of documentation, from the one table of fields in
 * `src/failover/policy_fields.ts`. Written by `tools/docs.ts`; a test compares what is committed with what comes out here.
 */
import { stringify } from 'yaml';
import { durationPattern, formatDuration } from '../src/core/duration.ts';
import { ratePattern } from '../src/core/rate.ts';
import { defaultPolicy } from '../src/failover/policy.ts';
import {
  type FieldType,
  orderTypes,
  type PolicyField,
  policyFields,
  policyGroups,
  readField,
} from '../src/failover/policy_fields.ts';
import { specText, targetsMax, typeText } from '../src/failover/policy_object.ts';

type Schema = Record<string, unknown>;

const dnsLabel = { type: 'string', minLength: 1, maxLength: 63, pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$' };
const labelValue = { type: 'string', minLength: 1, maxLength: 63, pattern: '^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$' };
const rule = (expression: string, message: string) => ({ rule: expression, message });

const orderSchema = (countMax: number): Schema => ({
  type: 'array',
  minItems: 1,
  maxItems: countMax,
  'x-kubernetes-list-type': 'atomic',
  'x-kubernetes-validations': [
    rule(`self.all(s, s.type != 'any') || self[self.size() - 1].type == 'any'`, 'any takes in every cluster: put it last'),
    rule('self.all(a, self.exists_one(b, b == a))', 'list each step once'),
  ],
  items: {
    type: 'object',
    required: ['type'],
    properties: {
      type: { type: 'string', enum: [...orderTypes], description: 'What the step takes in.' },
      name: { ...labelValue, description: 'Of the cluster, as its membership has it, or of the region.' },
    },
    'x-kubernetes-validations': [
      rule(`self.type in ['cluster', 'region'] == has(self.name)`, 'cluster and region need a name, the others have none'),
    ],
  },
});

const typeSchema = (type: FieldType): Schema => {
  switch (type.kind) {
    case 'duration': {
      const [least, most] = [formatDuration(type.minMs), formatDuration(type.maxMs)];
      const within = `duration(self) >= duration('${least}') && duration(self) <= duration('${most}')`;
      return {
        type: 'string',
        maxLength: 32,
        pattern: durationPattern,
        'x-kubernetes-validations': [rule(within, `must be from ${least} to ${most}`)],
      };
    }
    case 'integer':
      return { type: 'integer', format: 'int32', minimum: type.min, maximum: type.max };
    case 'rate':
      return { type: 'string', maxLength: 16, pattern: ratePattern };
    case 'word':
      return { type: 'string', enum: [...type.words] };
    case 'steps':
      return {
        type: 'array',
        minItems: 1,
        maxItems: type.countMax,
        'x-kubernetes-list-type': 'atomic',
        'x-kubernetes-validations': [
          rule('self.isSorted() && self.all(a, self.exists_one(b, b == a))', 'the steps must rise'),
          rule('self[self.size() - 1] == 100', 'the last step must be 100'),
        ],
        items: { type: 'integer', format: 'int32', minimum: 1, maximum: 100 },
      };
    case 'order':
      return orderSchema(type.countMax);
  }
};

const defaultText = (field: PolicyField): string => specText(field.type, readField(field, defaultPolicy));
const described = (field: PolicyField): string => {
  const built = defaultText(field);
  return `${field.meaning} Default: the cluster set's${built === '' ? '' : `, or ${built}`}.`.replaceAll('`', '');
};

const groupRules: Readonly<Record<string, readonly ReturnType<typeof rule>[]>> = {
  outlierDetection: [
    rule(
      '!has(self.baseEjectionTime) || !has(self.maxEjectionTime) || duration(self.maxEjectionTime) >= duration(self.baseEjectionTime)',
      'maxEjectionTime must not be below baseEjectionTime',
    ),
  ],
  thresholds: [
    rule(
      '!has(self.flapPenalty) || !has(self.flapLimit) || self.flapLimit >= self.flapPenalty',
      'flapLimit must not be below flapPenalty',
    ),
  ],
};

const specSchema = (): Schema => {
  const properties: Record<string, Schema> = {
    targetRefs: {
      description:
        'Services of the same namespace that this policy is for. Empty: all Services of the namespace that no other policy names.',
      type: 'array',
      maxItems: targetsMax,
      'x-kubernetes-list-type': 'map',
      'x-kubernetes-list-map-keys': ['name'],
      items: { type: 'object', required: ['name'], properties: { name: { ...dnsLabel, description: 'Of the Service.' } } },
    },
  };
  for (const field of policyFields) {
    const [first = '', second] = field.path.split('.');
    const schema = { description: described(field), ...typeSchema(field.type) };
    if (second === undefined) properties[first] = schema;
    else {
      const group = (properties[first] ??= {
        description: policyGroups[first],
        type: 'object',
        ...(groupRules[first] && { 'x-kubernetes-validations': groupRules[first] }),
        properties: {},
      });
      (group['properties'] as Record<string, Schema>)[second] = schema;
    }
  }
  return { description: 'What is not set keeps the default of the cluster set.', type: 'object', properties };
};

const conditionSchema: Schema = {
  type: 'object',
  required: ['lastTransitionTime', 'message', 'reason', 'status', 'type'],
  properties: {
    lastTransitionTime: { type: 'string', format: 'date-time' },
    message: { type: 'string', maxLength: 32768 },
    observedGeneration: { type: 'integer', format: 'int64', minimum: 0 },
    reason: { type: 'string', minLength: 1, maxLength: 1024, pattern: '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$' },
    status: { type: 'string', enum: ['True', 'False', 'Unknown'] },
    type: { type: 'string', maxLength: 316 },
  },
};

const definition = (): Schema => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'failoverpolicies.isthmus.dev', labels: { 'app.kubernetes.io/part-of': 'isthmus' } },
  spec: {
    group: 'isthmus.dev',
    scope: 'Namespaced',
    names: {
      plural: 'failoverpolicies',
      singular: 'failoverpolicy',
      kind: 'FailoverPolicy',
      listKind: 'FailoverPolicyList',
      shortNames: ['fop'],
      categories: ['isthmus'],
    },
    versions: [
      {
        name: 'v1alpha1',
        served: true,
        storage: true,
        subresources: { status: {} },
        additionalPrinterColumns: [
          { name: 'Ready', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
          { name: 'Reason', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].reason' },
          { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' },
        ],
        schema: {
          openAPIV3Schema: {
            description: 'How this cluster moves traffic of its Services to other clusters, and back.',
            type: 'object',
            required: ['spec'],
            properties: {
              apiVersion: { type: 'string' },
              kind: { type: 'string' },
              metadata: { type: 'object' },
              spec: specSchema(),
              status: {
                description: 'Written by the controller of the cluster.',
                type: 'object',
                properties: {
                  conditions: {
                    type: 'array',
                    'x-kubernetes-list-type': 'map',
                    'x-kubernetes-list-map-keys': ['type'],
                    items: conditionSchema,
                  },
                },
              },
            },
          },
        },
      },
    ],
  },
});

export const definitionYaml = (): string =>
  `# How a cluster moves the traffic of its Services, see docs/FAILOVER-POLICY.md. Made by tools/docs.ts from the table in
# src/failover/policy_fields.ts: do not edit it here.
${stringify(definition(), { lineWidth: 0, aliasDuplicateObjects: false })}`;

/** A value of the field that is not its default where that says more. */
const samples: Readonly<Record<string, unknown>> = {
  order: [{ type: 'local' }, { type: 'same-region' }, { type: 'cluster', name: 'us-west' }, { type: 'any' }],
  'capacity.perEndpoint': '50/s',
  'failback.tunnelMaxAge': '1h',
};

/** An object that sets every field. */
export const exampleObject = (): Schema => {
  const spec: Schema = { targetRefs: [{ name: 'checkout' }] };
  for (const field of policyFields) {
    const [first = '', second] = field.path.split('.');
    const text = defaultText(field);
    const value = samples[field.path] ?? (field.type.kind === 'integer' ? Number(text) : undefined);
    const shown = value ?? (field.type.kind === 'steps' ? readField(field, defaultPolicy) : text);
    if (second === undefined) spec[first] = shown;
    else spec[first] = { ...(spec[first] as Schema | undefined), [second]: shown };
  }
  return {
    apiVersion: 'isthmus.dev/v1alpha1',
    kind: 'FailoverPolicy',
    metadata: { name: 'checkout', namespace: 'shop' },
    spec,
  };
};

const rows = (fields: readonly PolicyField[]): string =>
  fields
    .map((field) => `| \`${field.path}\` | ${defaultText(field) || 'none'} | ${typeText(field.type)} | ${field.meaning.replaceAll('|', '\\|')} |`)
    .join('\n');
const head = '| field | default | takes | meaning |\n|---|---|---|---|';

export const policyPage = (): string => `# FailoverPolicy

How a cluster moves the traffic of its Services to other clusters, and back: \`failoverpolicies.isthmus.dev\`, version \`v1alpha1\`, in the
namespace of the Services, in the cluster where the traffic starts. This page and the definition of the kind are made from one
table by \`tools/node tools/docs.ts\`.

## Which policy decides

1. A policy that names the Service in \`targetRefs\`; of several the oldest, the others say so in their condition \`Conflicted\`.
2. A policy of its namespace without \`targetRefs\`; again the oldest.
3. The cluster set's default: a spec of the same form without \`targetRefs\`, signed by the authority, under \`set/policy\` in the store.
4. The built-in defaults of this page, with the order that \`failover.order\` of the configuration gives.

What a policy does not set keeps the value of the cluster set's default, or else the one of this page. Lists are replaced as a whole.
A user's DestinationRule goes before \`outlierDetection\` for its own service. Durations are written as in the Gateway API:
\`30s\`, \`1m30s\`, \`500ms\`.

The API server refuses what is out of bounds. What reaches the controller all the same and is wrong (a relation to a default, a
newer field) is refused whole, with every field named in the condition \`Accepted\`; the last good version stays in use.

## Conditions

| condition | true means | reasons |
|---|---|---|
| \`Accepted\` | The spec can be read. | \`Accepted\`, \`InvalidPolicy\` |
| \`Conflicted\` | An older policy decides for some of its targets. | \`NoConflicts\`, \`OlderPolicyDecides\` |
| \`Programmed\` | Decisions are made by it. | \`Programmed\`, \`Pending\`, \`InvalidPolicy\`, \`OlderPolicyDecides\` |
| \`Ready\` | All of it in one word. | \`Programmed\`, \`Observing\`, \`TargetNotFound\`, \`PartlyConflicted\`, and the reasons above |

A Service whose traffic has left its usual place has the condition \`isthmus.dev/FailedOver\` in its own status.

## Fields

| field | default | takes | meaning |
|---|---|---|---|
| \`targetRefs\` | none | a list of at most ${targetsMax} \`{name: …}\` | Services of the same namespace. Empty: all that no other policy names. |
${rows(policyFields.filter(({ path }) => !path.includes('.')))}
${Object.entries(policyGroups)
  .map(
    ([group, about]) =>
      `\n### \`${group}\`\n\n${about}\n\n${head}\n${rows(policyFields.filter(({ path }) => path.startsWith(`${group}.`)))}`,
  )
  .join('\n')}

## Capacity of a Service

What one ready endpoint of an exported Service takes is declared where it runs, and goes with its record to the other clusters:

\`\`\`yaml
metadata:
  annotations:
    isthmus.dev/capacity: 50/s   # new connections a second
\`\`\`

Without it the capacity is unknown, and unknown capacity holds nothing back. A malformed one counts as unknown; the ServiceExport says
so in the reason of its condition \`Ready\`.

## Example

Every field, with its default where it has one.

\`\`\`yaml
${stringify(exampleObject(), { lineWidth: 0, aliasDuplicateObjects: false }).trimEnd()}
\`\`\`
`;
