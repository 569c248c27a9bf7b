/**
 * Who may call which service through the egress: the rules as two filters, one of what is denied, one of what alone is allowed.
 *
 * Rules change while tunnels stand, and a changed listener drains its connections, in the end by cutting them. So both are extension
 * configurations of their own: Envoy puts a new one in place for new tunnels and touches nothing else. A filter in each route was passed
 * over: a rule for a whole namespace would stand in thousands of routes. Until Envoy has them nothing is let through: without its rules
 * a gateway must not be more open than with them.
 *
 * A rule is one policy in the filter, under its id, so a denial names it in Envoy's own words (`matched_policy[<id>]`). The identity is
 * the one that the TLS handshake proved; no header is read.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { serviceHostname } from '../../core/names.ts';
import { TypedExtensionConfigSchema } from '../../gen/envoy/config/core/v3/extension_pb.ts';
import {
  type PermissionSchema,
  type PolicySchema,
  type PrincipalSchema,
  RBAC_Action,
} from '../../gen/envoy/config/rbac/v3/rbac_pb.ts';
import { RBACSchema } from '../../gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts';
import type { HttpFilterSchema } from '../../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import type { EgressRule, ServicePattern } from '../../trust/egress_policy.ts';
import type { EgressRules } from '../../trust/egress_rules.ts';
import { covers, type SourcePattern } from '../../trust/egress_source.ts';
import { type Encoded, encode, fromAds, packed, typeUrls } from './encoded.ts';

type PolicyInit = MessageInitShape<typeof PolicySchema>;
type PermissionInit = MessageInitShape<typeof PermissionSchema>;
type PrincipalInit = MessageInitShape<typeof PrincipalSchema>;

export const rightsNames = { deny: 'egress/deny', allow: 'egress/allow' } as const;

const rightsFilter = (name: string): MessageInitShape<typeof HttpFilterSchema> => ({
  name,
  configType: {
    case: 'configDiscovery',
    // No default: without it Envoy answers 500.
    value: { configSource: fromAds(), typeUrls: [`type.googleapis.com/${RBACSchema.typeName}`] },
  },
});

/** For the egress listener, what is denied first. */
export const rightsFilters = (): MessageInitShape<typeof HttpFilterSchema>[] => [
  rightsFilter(rightsNames.deny),
  rightsFilter(rightsNames.allow),
];

/** The text that an identity equals or begins with, for any of Envoy's matchers. */
export const stringMatch = ({ text, prefix }: SourcePattern) => ({
  matchPattern: prefix ? { case: 'prefix' as const, value: text } : { case: 'exact' as const, value: text },
});

const anybody: PrincipalInit = { identifier: { case: 'any', value: true } };
const anything: PermissionInit = { rule: { case: 'any', value: true } };

const principal = (source: SourcePattern): PrincipalInit => ({
  identifier: { case: 'authenticated', value: { principalName: stringMatch(source) } },
});

/** So many are compared one by one. */
const fewMax = 4;
/** Each level is four messages within each other, and Envoy reads no more than 100. */
const levelsMax = 8;

const sharedStart = (a: string, b: string): number => {
  const most = Math.min(a.length, b.length);
  let at = 0;
  while (at < most && a[at] === b[at]) at++;
  return at;
};

/**
 * Any of them. Envoy compares one after the other, 0.5 µs each: many are put behind the beginnings that they share, so that most are
 * passed over together.
 * @param sources - in the order of their texts, none within another
 */
const anyOf = (sources: readonly SourcePattern[], levels = levelsMax): PrincipalInit[] => {
  if (sources.length <= fewMax || levels === 0) return sources.map(principal);
  // In this order the first and the last share what all share.
  const first = sources[0]!.text;
  const shared = sharedStart(first, sources.at(-1)!.text);
  const groups = Map.groupBy(sources, ({ text }) => text[shared] ?? '');
  const ids = [...groups.values()].flatMap((group) => anyOf(group, levels - 1));
  const any: PrincipalInit = { identifier: { case: 'orIds', value: { ids } } };
  const begins = principal({ text: first.slice(0, shared), prefix: true });
  return [{ identifier: { case: 'andIds', value: { ids: [begins, any] } } }];
};

const principals = (sources: readonly SourcePattern[] | undefined): PrincipalInit[] => {
  if (sources === undefined) return [anybody];
  const ordered = sources.toSorted((a, b) => (a.text === b.text ? (a.prefix ? -1 : 1) : a.text < b.text ? -1 : 1));
  let last: SourcePattern | undefined;
  return anyOf(
    ordered.filter((source) => {
      const within = last !== undefined && covers(last, source);
      if (!within) last = source;
      return !within;
    }),
  );
};

/** Authorities are `host:port`, and only those that are written exactly so have a route. */
const permission =
  (clusterDomain: string) =>
  ({ namespace, name }: ServicePattern): PermissionInit => ({
    rule: {
      case: 'header',
      value: {
        name: ':authority',
        headerMatchSpecifier: {
          case: 'stringMatch',
          value: {
            matchPattern:
              name === undefined
                ? { case: 'contains', value: `${serviceHostname(namespace, '', clusterDomain)}:` }
                : { case: 'prefix', value: `${serviceHostname(namespace, name, clusterDomain)}:` },
          },
        },
      },
    },
  });

const policy = ({ sources, services }: EgressRule, clusterDomain: string): PolicyInit => ({
  permissions: services?.map(permission(clusterDomain)) ?? [anything],
  principals: principals(sources),
});

const filter = (name: string, action: RBAC_Action, rules: readonly EgressRule[], clusterDomain: string): Encoded => {
  // The order of a map's keys is that in which they are put in: rules come sorted.
  const policies = Object.fromEntries(rules.map((rule) => [rule.id, policy(rule, clusterDomain)]));
  const typedConfig = packed(RBACSchema, { rules: { action, policies } });
  return encode(
    typeUrls.extension,
    name,
    TypedExtensionConfigSchema,
    create(TypedExtensionConfigSchema, { name, typedConfig }),
  );
};

/**
 * What is allowed for the same services, as one: nobody is told by which rule a call was allowed, and Envoy looks at one policy after the
 * other. Under the id of the first.
 */
const merged = (rules: readonly EgressRule[]): EgressRule[] =>
  [...Map.groupBy(rules, ({ services }) => JSON.stringify(services ?? null)).values()].map((group) => {
    const { id, services } = group[0]!;
    const all = group.some(({ sources }) => sources === undefined);
    return { id, services, sources: all ? undefined : group.flatMap(({ sources }) => sources ?? []) };
  });

/** Where nobody said what is allowed, everything is. */
const open = (name: string): Encoded =>
  encode(
    typeUrls.extension,
    name,
    TypedExtensionConfigSchema,
    create(TypedExtensionConfigSchema, { name, typedConfig: packed(RBACSchema, {}) }),
  );

export const rightsResources = ({ deny, allow }: EgressRules, clusterDomain: string): Encoded[] => [
  deny.length === 0 ? open(rightsNames.deny) : filter(rightsNames.deny, RBAC_Action.DENY, deny, clusterDomain),
  allow === undefined
    ? open(rightsNames.allow)
    : filter(rightsNames.allow, RBAC_Action.ALLOW, merged(allow), clusterDomain),
];
