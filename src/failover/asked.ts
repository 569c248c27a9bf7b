/**
 * Which services a step has to look at: those of which something that a decision depends on is not what it was.
 *
 * Found by comparing identities of what was known with what is, so the inputs may be live maps whose values are replaced. To forget
 * a reason here is to decide too late; so whatever concerns all (a drain, a freeze, our own membership) asks for all.
 */
import type { ServiceKey } from '../core/names.ts';
import type { ServiceView, View } from '../federation/view.ts';
import type { Assessment } from '../health/assess.ts';
import type { GrantOffer, Signals, TrafficWindow } from '../health/signals.ts';
import { cellOf } from '../health/verdict.ts';
import { addRates, type RateChange } from './capacity.ts';
import type { Commanded, Release } from './commands.ts';
import { type Offers, offersChanged, offersOf } from './grants.ts';
import type { Role } from './guards.ts';
import { type Policies, policyOf } from './policy.ts';
import { type Place, placesOf, samePlaces } from './rankings.ts';
import type { Drain, FailoverState, Freeze } from './state.ts';

/** What a step is told, as the decisions read it. */
export interface Inputs {
  readonly drains: readonly Drain[];
  readonly frozen: Freeze | undefined;
  /** Peers that say that they drain. */
  readonly leaving: ReadonlySet<string>;
  readonly offers: Offers;
  readonly receiving: ReadonlySet<ServiceKey>;
  readonly ejected: ReadonlyMap<string, number>;
}

/** What the last step knew. */
export interface Known {
  readonly views: ReadonlyMap<ServiceKey, ServiceView>;
  readonly places: ReadonlyMap<string, Place>;
  /** Every member but ourselves, sorted. */
  readonly readers: readonly string[];
  readonly policies: Policies;
  readonly inputs: Inputs;
  readonly grants: readonly GrantOffer[];
  readonly role: Role;
}

export interface AskScene {
  readonly view: View;
  readonly policies: Policies;
  readonly now: number;
  readonly verdict: Pick<Assessment, 'verdicts' | 'changed'>;
  readonly signals: Signals;
  readonly inputs: Inputs;
  readonly commanded: Commanded;
  readonly state: FailoverState;
  readonly role: Role;
}

export interface Asked {
  readonly services: ReadonlySet<ServiceKey>;
  /** Rates that changed, be it too little to matter. */
  readonly demand: ReadonlyMap<ServiceKey, RateChange>;
  /** Who lets what come back. */
  released(service: ServiceKey): ReadonlyMap<string, string>;
  readonly known: Known;
}

const sameSet = <T>(a: ReadonlySet<T>, b: ReadonlySet<T>): boolean => a === b || (a.size === b.size && a.isSubsetOf(b));

/** A member whose gateways our Envoys hold ejected, all of them, since when. */
const ejections = (
  before: ReadonlyMap<string, number>,
  windows: readonly TrafficWindow[],
): ReadonlyMap<string, number> => {
  let next: Map<string, number> | undefined;
  for (const { member, gateways, ejected, atMs } of windows) {
    if (gateways <= 0) continue;
    const known = (next ?? before).has(member);
    const all = ejected >= gateways;
    if (known === all) continue;
    next ??= new Map(before);
    if (all) next.set(member, atMs);
    else next.delete(member);
  }
  return next ?? before;
};

export const readInputs = (
  state: FailoverState,
  signals: Signals,
  commanded: Commanded,
  known: Known | undefined,
): Inputs => {
  const leaving = new Set<string>();
  for (const [member, { draining }] of signals.control) if (draining) leaving.add(member);
  const before = known?.inputs;
  return {
    drains: commanded.drains,
    frozen: commanded.frozen,
    leaving: before !== undefined && sameSet(before.leaving, leaving) ? before.leaving : leaving,
    offers: before !== undefined && known?.grants === signals.grants ? before.offers : offersOf(signals.grants),
    receiving:
      before !== undefined && sameSet(before.receiving, signals.receivingSpill)
        ? before.receiving
        : new Set(signals.receivingSpill),
    ejected: ejections(state.ejected, signals.traffic),
  };
};

/** Whether something changed that concerns every service. */
export const asksAll = (known: Known | undefined, { inputs, policies, view, role }: AskScene): boolean =>
  known === undefined ||
  known.role !== role ||
  known.inputs.drains !== inputs.drains ||
  known.inputs.frozen !== inputs.frozen ||
  known.policies.capabilities.partialSpill !== policies.capabilities.partialSpill ||
  known.places.get(view.self)?.member !== view.members.get(view.self)?.member ||
  known.places.size !== view.members.size ||
  [...view.members.keys()].some((name) => !known.places.has(name));

/** Members whose place in the order, word, verdict or region is not what it was. */
const membersAsked = (known: Known, { view, verdict, inputs }: AskScene): ReadonlySet<string> => {
  const members = new Set(verdict.changed.members);
  for (const [name, { member, gateways }] of view.members) {
    const place = known.places.get(name);
    if (place?.member !== member || place.gateways !== gateways) members.add(name);
    if (verdict.changed.regions.has(member.region)) members.add(name);
  }
  if (inputs.leaving !== known.inputs.leaving) {
    for (const name of inputs.leaving.symmetricDifference(known.inputs.leaving)) members.add(name);
  }
  return members;
};

const addViews = (known: Known, { view }: AskScene, services: Set<ServiceKey>): boolean => {
  let differs = known.views.size !== view.services.size;
  for (const [key, service] of view.services) {
    if (known.views.get(key) === service) continue;
    services.add(key);
    differs = true;
  }
  if (differs) for (const key of known.views.keys()) if (!view.services.has(key)) services.add(key);
  return differs;
};

const addMembers = (known: Known, scene: AskScene, services: Set<ServiceKey>): void => {
  const members = [...membersAsked(known, scene)];
  if (members.length === 0) return;
  for (const [key, { remotes }] of scene.view.services) {
    if (members.some((member) => remotes.has(member))) services.add(key);
  }
};

const addOffers = (known: Known, { inputs, view }: AskScene, services: Set<ServiceKey>): void => {
  if (inputs.offers === known.inputs.offers) return;
  for (const [member, changed] of offersChanged(known.inputs.offers, inputs.offers)) {
    if (!changed.has('*')) for (const key of changed) services.add(key);
    else for (const [key, { remotes }] of view.services) if (remotes.has(member)) services.add(key);
  }
};

const addPolicies = (known: Known, { policies, view }: AskScene, services: Set<ServiceKey>): void => {
  if (known.policies.default === policies.default && known.policies.services === policies.services) return;
  for (const key of view.services.keys()) {
    if (policyOf(known.policies, key) !== policyOf(policies, key)) services.add(key);
  }
};

const releaseFor = (releases: readonly Release[], service: ServiceKey): ReadonlyMap<string, string> =>
  new Map(
    releases
      .filter((release) => release.service === undefined || release.service === service)
      .map((release) => [release.member, release.author]),
  );

const nobody: ReadonlyMap<string, string> = new Map();

/** Rates of calls, of services whose receivers limit them. */
const demandChanges = ({ signals, inputs, state }: AskScene): ReadonlyMap<ServiceKey, RateChange> => {
  const changes = new Map<ServiceKey, RateChange>();
  if (inputs.offers.size === 0) return changes;
  const windows = new Map<ServiceKey, TrafficWindow[]>();
  for (const window of signals.traffic) {
    if (window.service === undefined) continue;
    const of = windows.get(window.service);
    if (of === undefined) windows.set(window.service, [window]);
    else of.push(window);
  }
  for (const [key, of] of windows) {
    const before = state.services.get(key)?.demand;
    if (before === undefined) continue;
    changes.set(key, addRates(before, of));
  }
  return changes;
};

/** @param known - undefined: all are asked for */
export const askedServices = (
  known: Known | undefined,
  scene: AskScene,
  wakes: ReadonlyMap<ServiceKey, number> | undefined,
): Asked => {
  const { view, verdict, inputs, commanded, policies, signals, state, now } = scene;
  const services = new Set<ServiceKey>();
  const demand = demandChanges(scene);
  let viewsDiffer = true;
  if (known === undefined) {
    for (const key of view.services.keys()) services.add(key);
    for (const key of state.services.keys()) services.add(key);
    for (const key of state.grants.keys()) services.add(key);
  } else {
    viewsDiffer = addViews(known, scene, services);
    addMembers(known, scene, services);
    for (const key of verdict.changed.cells) services.add(cellOf(key).service);
    for (const [key, wake] of wakes ?? []) if (wake <= now) services.add(key);
    addOffers(known, scene, services);
    if (inputs.receiving !== known.inputs.receiving) {
      for (const key of inputs.receiving.symmetricDifference(known.inputs.receiving)) services.add(key);
    }
    addPolicies(known, scene, services);
    for (const [key, { moved }] of demand) if (moved) services.add(key);
    for (const release of commanded.releases) {
      if (release.service !== undefined) services.add(release.service);
      else for (const key of view.services.keys()) services.add(key);
    }
  }
  const placesSame = known !== undefined && samePlaces(known.places, view);
  return {
    services,
    demand,
    released: (key) => (commanded.releases.length === 0 ? nobody : releaseFor(commanded.releases, key)),
    known: {
      views: viewsDiffer ? new Map(view.services) : known!.views,
      places: placesSame ? known.places : placesOf(view),
      readers: placesSame ? known.readers : [...view.members.keys()].filter((name) => name !== view.self).sort(),
      policies,
      inputs,
      grants: signals.grants,
      role: scene.role,
    },
  };
};
