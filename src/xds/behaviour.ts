/**
 * What differs between the types: how a proxy asks for them, and how it treats a response of which it refuses a part.
 */
import { types } from './resource.ts';

export interface TypeBehaviour {
  /** A first request without names asks for everything. Endpoints, routes and secrets are always asked for by name. */
  readonly wildcardByDefault: boolean;
  /**
   * A refusal concerns the refused resources only, the others of the same response are in use. Where this is false the
   * others may not have been applied (Envoy stops at the first bad one) and are sent again without the culprit.
   */
  readonly appliesEach: boolean;
  /** Removals wait until everything that may still refer to the removed things has been replaced. */
  readonly ordered: boolean;
}

const each: TypeBehaviour = { wildcardByDefault: true, appliesEach: true, ordered: true };
const named: TypeBehaviour = { wildcardByDefault: false, appliesEach: false, ordered: true };
const mesh: TypeBehaviour = { wildcardByDefault: true, appliesEach: true, ordered: false };

const behaviours: ReadonlyMap<string, TypeBehaviour> = new Map([
  [types.cluster, each],
  [types.listener, each],
  [types.endpoints, named],
  [types.routes, named],
  [types.secret, named],
  [types.extension, named],
  [types.address, mesh],
  [types.authorization, mesh],
]);

export const behaviourOf = (typeUrl: string): TypeBehaviour => behaviours.get(typeUrl) ?? mesh;

/** What is referred to comes before what refers to it. Types that are not listed come after, in their own order. */
export const upsertOrder: readonly string[] = [
  types.cluster,
  types.endpoints,
  types.listener,
  types.routes,
  types.extension,
  types.secret,
];

/** What refers goes before what it refers to. */
export const removalOrder: readonly string[] = [
  types.listener,
  types.routes,
  types.cluster,
  types.endpoints,
  types.extension,
  types.secret,
];
