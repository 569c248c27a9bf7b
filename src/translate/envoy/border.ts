/**
 * What one member may ask of our federation listener: connections, new tunnels a second, and of each service what we granted it.
 *
 * A refusal is 429. The other side's gateway tries the next tier then, and its outlier detection does not count it, not even
 * where a user's rules count every 5xx: an overrun is nobody's illness. A header says which bound it was.
 *
 * Grants change by the minute, and Envoy answers a changed filter chain by draining the connections of the old one, in the end by
 * cutting their tunnels. So they are no part of the listener: each member's grants are an extension configuration of their own. Nor
 * are they part of the routes, where every service that comes or goes would fill all buckets anew, and where members would need
 * routes of their own. The routes only name the service, so that its ports share one bucket.
 *
 * A bucket is one Envoy's. A grant is divided among all Envoys of this cluster: together they never let more through, and where
 * connections are spread unevenly they let less through.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { refusals, refusedHeader } from '../../core/hop.ts';
import { limits } from '../../core/limits.ts';
import type { ServiceKey } from '../../core/names.ts';
import type { Grant } from '../../failover/plan.ts';
import type { MemberView } from '../../federation/view.ts';
import { HeaderValueOption_HeaderAppendAction } from '../../gen/envoy/config/core/v3/base_pb.ts';
import { TypedExtensionConfigSchema } from '../../gen/envoy/config/core/v3/extension_pb.ts';
import type { RateLimitSchema } from '../../gen/envoy/config/route/v3/route_components_pb.ts';
import type { LocalRateLimitDescriptorSchema } from '../../gen/envoy/extensions/common/ratelimit/v3/ratelimit_pb.ts';
import { LocalRateLimitSchema } from '../../gen/envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit_pb.ts';
import { ConnectionLimitSchema } from '../../gen/envoy/extensions/filters/network/connection_limit/v3/connection_limit_pb.ts';
import type { HttpFilterSchema } from '../../gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { StatusCode } from '../../gen/envoy/type/v3/http_status_pb.ts';
import type { TokenBucketSchema } from '../../gen/envoy/type/v3/token_bucket_pb.ts';
import { duration, type Encoded, encode, extension, fromAds, packed, typeUrls } from './encoded.ts';

type BucketInit = MessageInitShape<typeof TokenBucketSchema>;
type LimitInit = Extract<MessageInitShape<typeof LocalRateLimitSchema>, { $typeName?: never }>;

const filterName = 'envoy.filters.http.local_ratelimit';
const filterType = `type.googleapis.com/${LocalRateLimitSchema.typeName}`;

/** Two Envoys stand on one port in each gateway pod. */
export const envoysPerGateway = 2;

export const grantsName = (member: string): string => `grants/${member}`;

/** How a route names its service to the member's grants; a stage of its own, so that no other limit asks for it. */
const grantStage = 1;
const serviceEntry = 'service';

/** For the route of a service of ours. */
export const grantedService = (key: ServiceKey): MessageInitShape<typeof RateLimitSchema> => ({
  stage: grantStage,
  actions: [{ actionSpecifier: { case: 'genericKey', value: { descriptorKey: serviceEntry, descriptorValue: key } } }],
});

/** A refusal is 429, and a header names the bound. */
export const limit = (reason: string, rest: LimitInit): LimitInit => {
  const always = { defaultValue: { numerator: 100 } };
  return {
    statPrefix: `border_${reason}`,
    status: { code: StatusCode.TooManyRequests },
    filterEnabled: always,
    filterEnforced: always,
    responseHeadersToAdd: [
      {
        header: { key: refusedHeader, value: reason },
        appendAction: HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
      },
    ],
    ...rest,
  };
};

/** New tunnels a second of one member, whatever they are for. */
export const rateFilter = () =>
  extension(
    filterName,
    LocalRateLimitSchema,
    limit(refusals.rate, {
      tokenBucket: {
        maxTokens: limits.memberConnectsPerSecondMax,
        tokensPerFill: limits.memberConnectsPerSecondMax,
        fillInterval: duration(1_000),
      },
    }),
  );

/** Behind the health check filter, before the router. Until the grants are there nothing is limited by them. */
export const grantsFilter = (member: string): MessageInitShape<typeof HttpFilterSchema> => ({
  name: grantsName(member),
  configType: {
    case: 'configDiscovery',
    value: {
      // A controller that does not know grants must not keep the listener waiting.
      configSource: { ...fromAds(), initialFetchTimeout: duration(2_000) },
      defaultConfig: packed(LocalRateLimitSchema, limit(refusals.grant, { stage: grantStage })),
      typeUrls: [filterType],
    },
  },
});

/** The first network filter of a member's chain: what exceeds this is hung up on. */
export const connectionFilter = (member: string) =>
  extension('envoy.filters.network.connection_limit', ConnectionLimitSchema, {
    statPrefix: `border.${member}`,
    maxConnections: BigInt(limits.memberConnectionsMax),
  });

/** How many Envoys share a grant: those of all gateways that take new tunnels. */
export const sharers = (self: MemberView | undefined, perGateway: number): number => {
  const gateways = self?.gateways?.gateways ?? [];
  const taking = gateways.filter(({ draining }) => !draining).length;
  return Math.max(1, taking || gateways.length) * perGateway;
};

/** How long a burst may be spent at once; never less than one tunnel. */
const burstMs = 250;
const dayMs = 86_400_000;
/** Envoy fills no bucket more often than every 50 ms; in single tokens where that suffices. */
const fillMs = 100;

/** One Envoy's part of a grant. Envoy has no bucket of 0: a grant of nothing is one tunnel, and then one a day. */
export const bucketOf = (perSecond: number, envoys: number, burst = burstMs): BucketInit => {
  const rate = perSecond / envoys;
  if (rate * dayMs <= 1_000) return { maxTokens: 1, tokensPerFill: 1, fillInterval: duration(dayMs) };
  const tokens = rate < 20 ? 1 : Math.floor((rate * fillMs) / 1_000);
  return {
    maxTokens: Math.max(1, Math.floor((rate * burst) / 1_000)),
    // Tokens down and time up: all parts together are never above the grant.
    tokensPerFill: tokens,
    fillInterval: duration(Math.ceil((tokens * 1_000) / rate)),
  };
};

const grantsResource = (member: string, grants: readonly Grant[], envoys: number): Encoded => {
  const descriptors = grants
    .toSorted((a, b) => (a.service < b.service ? -1 : 1))
    .map(
      ({ service, perSecond }): MessageInitShape<typeof LocalRateLimitDescriptorSchema> => ({
        entries: [{ key: serviceEntry, value: service }],
        tokenBucket: bucketOf(perSecond, envoys),
      }),
    );
  const name = grantsName(member);
  const config = packed(LocalRateLimitSchema, limit(refusals.grant, { stage: grantStage, descriptors }));
  return encode(
    typeUrls.extension,
    name,
    TypedExtensionConfigSchema,
    create(TypedExtensionConfigSchema, { name, typedConfig: config }),
  );
};

const sameGrants = (a: readonly Grant[], b: readonly Grant[]): boolean =>
  a.length === b.length && a.every((g, i) => g.service === b[i]!.service && g.perSecond === b[i]!.perSecond);

/** The grants of all members as resources; those that stayed as they were are not made again. */
export class Grants {
  #given: readonly Grant[] | undefined;
  #envoys = 0;
  #made: ReadonlyMap<string, { readonly grants: readonly Grant[]; readonly resource: Encoded }> = new Map();

  /** @param members - the others; each has a resource, grants or none */
  resources(members: readonly string[], given: readonly Grant[], envoys: number): Encoded[] {
    const same = given === this.#given && envoys === this.#envoys && members.length === this.#made.size;
    if (!same || members.some((member) => !this.#made.has(member))) {
      const of = Map.groupBy(given, ({ reader }) => reader);
      const before = envoys === this.#envoys ? this.#made : new Map<string, never>();
      this.#made = new Map(
        members.map((member) => {
          const grants = of.get(member) ?? [];
          const known = before.get(member);
          const kept = known !== undefined && sameGrants(known.grants, grants);
          return [member, kept ? known : { grants, resource: grantsResource(member, grants, envoys) }];
        }),
      );
      this.#given = given;
      this.#envoys = envoys;
    }
    return [...this.#made.values()].map(({ resource }) => resource);
  }
}
