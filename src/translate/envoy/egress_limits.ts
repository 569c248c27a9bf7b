/**
 * How many new tunnels a second each workload identity may open through the egress, so that none uses up the border for the others.
 *
 * Envoy keeps a bucket for each value of a descriptor that it has not been told of, and the value here is the identity that the handshake
 * proved: the egress writes it over whatever the caller put into that header before anything reads it. So it does not help to send
 * headers, or to open more connections. An identity that is named in a policy has a bucket of its own; those that a policy means by a
 * beginning (a namespace, an account with `*`) have one each of that size, and all others one each of the default.
 *
 * Buckets of identities that were not named are kept for those that called last (`egressIdentitiesMax`). One that was forgotten begins
 * with a full bucket: to gain by that takes more identities than the table holds, each with a bucket anyway, and takes nothing from others.
 *
 * The filter is an extension configuration of its own, apart from the rights: a new one begins with full buckets. A bucket is one Envoy's,
 * and what is granted is divided among all Envoys of the cluster, as at the federation listener (`border.ts`). How many tunnels an identity
 * has open at once Envoy cannot bound (adr/0018).
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { refusals, sourceHeader } from '../../core/hop.ts';
import { limits } from '../../core/limits.ts';
import { TypedExtensionConfigSchema } from '../../gen/envoy/config/core/v3/extension_pb.ts';
import type { HeaderMatcherSchema, RateLimitSchema } from '../../gen/envoy/config/route/v3/route_components_pb.ts';
import type { LocalRateLimitDescriptorSchema } from '../../gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.ts';
import { LocalRateLimitSchema } from '../../gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts';
import type { HttpFilterSchema } from '../../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import type { SourceLimit } from '../../trust/egress_rules.ts';
import { covers, type SourcePattern } from '../../trust/egress_source.ts';
import { bucketOf, limit } from './border.ts';
import { stringMatch } from './egress_rights.ts';
import { duration, type Encoded, encode, fromAds, packed, typeUrls } from './encoded.ts';

type DescriptorInit = MessageInitShape<typeof LocalRateLimitDescriptorSchema>;
type RateLimitInit = MessageInitShape<typeof RateLimitSchema>;
type HeaderMatchInit = MessageInitShape<typeof HeaderMatcherSchema>;

export const limitsName = 'egress/limits';

/** Which limit it is, and of whom. */
const entries = { limit: 'limit', source: 'source' } as const;
const everybody = 'default';
/** How long a burst may be spent at once. */
const burstMs = 1_000;

/** Before the rights: what a workload tries in vain costs a look at its bucket. */
export const limitsFilter = (): MessageInitShape<typeof HttpFilterSchema> => ({
  name: limitsName,
  configType: {
    case: 'configDiscovery',
    value: {
      configSource: { ...fromAds(), initialFetchTimeout: duration(2_000) },
      defaultConfig: packed(LocalRateLimitSchema, limit(refusals.source, {})),
      typeUrls: [`type.googleapis.com/${LocalRateLimitSchema.typeName}`],
    },
  },
});

const header = (source: SourcePattern, invertMatch: boolean): HeaderMatchInit => ({
  name: sourceHeader,
  invertMatch,
  headerMatchSpecifier: { case: 'stringMatch', value: stringMatch(source) },
});

const nameOf = (source: SourcePattern | undefined): string => source?.text ?? everybody;

/** Of all that fit an identity the longest decides, and no other is asked: each leaves to those within it what they mean. */
const asks = (source: SourcePattern | undefined, within: readonly SourcePattern[]): RateLimitInit => {
  const headers = [...(source === undefined ? [] : [header(source, false)]), ...within.map((one) => header(one, true))];
  const which: NonNullable<RateLimitInit['actions']>[number] =
    headers.length === 0
      ? { actionSpecifier: { case: 'genericKey', value: { descriptorKey: entries.limit, descriptorValue: everybody } } }
      : {
          actionSpecifier: {
            case: 'headerValueMatch',
            value: { descriptorKey: entries.limit, descriptorValue: nameOf(source), headers },
          },
        };
  return {
    actions: [
      which,
      {
        actionSpecifier: { case: 'requestHeaders', value: { headerName: sourceHeader, descriptorKey: entries.source } },
      },
    ],
  };
};

/** An empty value stands for each there is. */
const bucket = (name: string, source: string, perSecond: number, envoys: number): DescriptorInit => ({
  entries: [
    { key: entries.limit, value: name },
    { key: entries.source, value: source },
  ],
  tokenBucket: bucketOf(perSecond, envoys, burstMs),
});

interface Named {
  readonly source: SourcePattern;
  readonly rate: number;
}

/** Which beginning lies directly around each source; in the order of their texts those within another follow it. */
const nested = (named: readonly Named[]): Map<SourcePattern | undefined, Named[]> => {
  const within = new Map<SourcePattern | undefined, Named[]>([[undefined, []]]);
  const around: SourcePattern[] = [];
  const ordered = named.toSorted((a, b) =>
    a.source.text === b.source.text ? (a.source.prefix ? -1 : 1) : a.source.text < b.source.text ? -1 : 1,
  );
  for (const one of ordered) {
    while (around.length > 0 && !covers(around.at(-1)!, one.source)) around.pop();
    within.get(around.at(-1))!.push(one);
    if (!one.source.prefix) continue;
    within.set(one.source, []);
    around.push(one.source);
  }
  return within;
};

/**
 * @param some - one a source
 * @param perSecond - of every identity that none of them fits
 * @param envoys - that share them
 */
export const limitsResource = (some: readonly SourceLimit[], perSecond: number, envoys: number): Encoded => {
  const ofAll = some.find(({ source }) => source === undefined)?.perSecond ?? perSecond;
  const named: Named[] = some.flatMap(({ source, perSecond: rate }) =>
    source === undefined ? [] : [{ source, rate }],
  );
  const within = nested(named);
  const rateOf = new Map(named.map(({ source, rate }) => [source as SourcePattern | undefined, rate]));
  const beginnings = [...within.keys()];
  const config = limit(refusals.source, {
    rateLimits: beginnings.map((source) =>
      asks(
        source,
        within.get(source)!.flatMap((one) => (one.source.prefix ? [one.source] : [])),
      ),
    ),
    descriptors: [
      ...beginnings.map((source) => bucket(nameOf(source), '', rateOf.get(source) ?? ofAll, envoys)),
      // Found before the empty one.
      ...[...within].flatMap(([outer, some]) =>
        some.flatMap(({ source, rate }) => (source.prefix ? [] : [bucket(nameOf(outer), source.text, rate, envoys)])),
      ),
    ],
    maxDynamicDescriptors: limits.egressIdentitiesMax,
  });
  return encode(
    typeUrls.extension,
    limitsName,
    TypedExtensionConfigSchema,
    create(TypedExtensionConfigSchema, { name: limitsName, typedConfig: packed(LocalRateLimitSchema, config) }),
  );
};
