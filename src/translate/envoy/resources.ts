/**
 * All resources of a cluster's gateways, from one input. The wiring calls this at start; tick by tick it may call the parts
 * for what changed (a service's endpoints, a class, one virtual host) and keep the rest.
 */
import { limits } from '../../core/limits.ts';
import { classOf, type ServiceClass } from '../../failover/classes.ts';
import type { ServicePlan, Tiers } from '../../failover/plan.ts';
import type { MemberView, ServiceView } from '../../federation/view.ts';
import { noEgressRules } from '../../trust/egress_rules.ts';
import { envoysPerGateway, Grants, sharers } from './border.ts';
import { classCluster } from './class_cluster.ts';
import { classEndpoints } from './class_endpoints.ts';
import { limitsResource } from './egress_limits.ts';
import { answeringFor, slotOf, tiersWithin } from './egress_members.ts';
import { rightsResources } from './egress_rights.ts';
import { type Encoded, typeUrls } from './encoded.ts';
import { headHost, headResources, headRoutes } from './head.ts';
import type { GatewayInput, GatewaySettings, RoundTrip } from './input.ts';
import { egressListener, federationListener, hboneListener } from './listeners.ts';
import { localClusters, localEndpoints } from './local_service.ts';
import { probeResources } from './probes.ts';
import { type EncodedHost, egressHosts, egressPorts, egressRoutes, localHosts, localRoutes } from './routes.ts';
import { memberSecret, ownSecrets } from './secrets.ts';
import { type PeerTimers, timersFor, unmeasured } from './timers.ts';
import { tunnelAgeOf } from './tunnel_age.ts';
import { tunnelPorts } from './tunnel_ports.ts';

const noClasses: ReadonlyMap<string, ServiceClass> = new Map();
const noAnswering: ReturnType<typeof answeringFor> = [];

/**
 * The class of each port that some other member serves; empty when the service has no path to other members. Ports share one,
 * but for those that not all exporters have. With a traffic policy of its own a service gets classes of its own: its limits
 * and its ejections are nobody else's. Callers whom some members alone may answer have further classes, of those.
 * @returns by `slotOf` the port
 */
export const gatewayClasses = (
  service: ServiceView,
  plan: ServicePlan | undefined,
  answering = noAnswering,
): ReadonlyMap<string, ServiceClass> => {
  if (plan === undefined || service.unsupported !== undefined) return noClasses;
  const madeOf = (tiers: Tiers): ServiceClass => {
    const shared = classOf({ tiers }, service.local?.trafficPolicy);
    return shared.policy === undefined ? shared : { ...shared, name: `${shared.name}@${service.key}` };
  };
  const classFor = (tiers: Tiers): ServiceClass | undefined =>
    tiers.some((tier) => tier.length > 0) ? madeOf(tiers) : undefined;
  const common = classFor(plan.tiers);
  const classes = new Map<string, ServiceClass>();
  for (const port of egressPorts(service)) {
    const tiers = plan.ports?.get(port);
    const entry = tiers === undefined ? common : classFor(tiers);
    if (entry === undefined) continue;
    classes.set(slotOf(port), entry);
    for (const { members } of answering) {
      if (members === undefined) continue;
      // None is left: the route leads nowhere, and not to the others.
      classes.set(slotOf(port, members), madeOf(tiersWithin(tiers ?? plan.tiers, members)));
    }
  }
  return classes;
};

/** Whether other members may reach our own endpoints of this service. */
export const isExported = (service: ServiceView): boolean =>
  service.local?.exported !== undefined && service.unsupported === undefined;

/** Timers that suit the slowest member of a class. */
export const classTimers = ({ tiers }: ServiceClass, roundTrips: ReadonlyMap<string, RoundTrip>): PeerTimers =>
  timersFor(tiers.flat().map(({ member }) => roundTrips.get(member) ?? unmeasured));

/** The cluster and the endpoints of one class. */
export const classResources = (
  settings: GatewaySettings,
  serviceClass: ServiceClass,
  members: ReadonlyMap<string, MemberView>,
  roundTrips: ReadonlyMap<string, RoundTrip>,
): Encoded[] => {
  const { name, tiers, policy } = serviceClass;
  const names = [...new Set(tiers.flat().map((cell) => cell.member))].filter((member) => members.has(member));
  const timers = classTimers(serviceClass, roundTrips);
  return [classCluster(settings, name, names, timers, policy), classEndpoints(name, tiers, members)];
};

/** What the clusters and virtual hosts of one service of ours are made from. */
export const localShape = ({ key, hostname, local }: ServiceView): string =>
  `${key} ${hostname} ${tunnelPorts(local?.ports ?? []).join(' ')} ${local?.exported?.to?.join(',') ?? '*'}`;

/** Whether it is exported to some members alone: then only the border, where it is known which one asks, has routes to it. */
export const isForSome = (service: ServiceView): boolean => service.local?.exported?.to !== undefined;

/**
 * The clusters and the endpoints of one service of ours.
 * @param known - what was made of the same `localShape` before: its clusters are used again
 */
export const localResources = (
  service: ServiceView,
  input: Pick<GatewayInput, 'local' | 'settings'>,
  known?: readonly Encoded[],
): Encoded[] => {
  if (!isExported(service) || service.local === undefined) return [];
  return [
    ...(known?.filter(({ typeUrl }) => typeUrl === typeUrls.cluster) ?? localClusters(service.local)),
    ...localEndpoints(service.local, input.local.pods, input.settings.binding.podPort),
  ];
};

/** Listeners, secrets and the way of probes: they change with membership and certificates, not with services. */
export const memberResources = ({ settings, secrets, members, roundTrips }: GatewayInput): Encoded[] => {
  const views = [...members.values()].filter(({ member }) => member.name !== settings.self.name);
  const others = views.map(({ member }) => member);
  return [
    egressListener(settings),
    federationListener(
      settings,
      others.map(({ name }) => name),
    ),
    hboneListener(settings),
    ...headResources(),
    ...probeResources(
      settings,
      others.map(({ name }) => name),
      roundTrips,
    ),
    ...ownSecrets(secrets),
    ...views.map(memberSecret),
  ];
};

/** What each other member is granted, as its part at each Envoy. `grants`: remembers what was made before. */
export const grantResources = (
  { settings, members, plan }: Pick<GatewayInput, 'settings' | 'members' | 'plan'>,
  grants = new Grants(),
): Encoded[] => {
  const { self, envoysPerGateway: envoys = envoysPerGateway } = settings;
  const others = [...members.keys()].filter((name) => name !== self.name).sort();
  return grants.resources(others, plan.grants, sharers(members.get(self.name), envoys));
};

/** Rights and limits of our own workloads at the egress. */
export const egressResources = ({
  settings,
  members,
  egress,
}: Pick<GatewayInput, 'settings' | 'members' | 'egress'>): Encoded[] => {
  const { self, envoysPerGateway: envoys = envoysPerGateway, clusterDomain = 'cluster.local' } = settings;
  const { identityConnectsPerSecond: perSecond = limits.identityConnectsPerSecond } = settings;
  const rules = egress ?? noEgressRules;
  return [
    limitsResource(rules.limits, perSecond, sharers(members.get(self.name), envoys)),
    ...rightsResources(rules, clusterDomain),
  ];
};

/** Everything. Names are unique within a type. */
export const gatewayResources = (input: GatewayInput): Encoded[] => {
  const { settings, members, roundTrips } = input;
  const classes = new Map<string, ServiceClass>();
  const outward: EncodedHost[] = [];
  const inward: EncodedHost[] = [];
  const atBorder: EncodedHost[] = [headHost()];
  const resources: Encoded[] = memberResources(input);
  for (const [key, service] of input.services) {
    const plan = input.plan.services.get(key);
    const answering = answeringFor(input.egress ?? noEgressRules, service.namespace, service.name);
    const bySlot = gatewayClasses(service, plan, answering);
    for (const entry of bySlot.values()) classes.set(entry.name, entry);
    const names = new Map([...bySlot].map(([slot, { name }]) => [slot, name]));
    outward.push(...egressHosts(service, names, tunnelAgeOf(plan), answering));
    if (isExported(service)) (isForSome(service) ? atBorder : inward).push(...localHosts(service));
    resources.push(...localResources(service, input));
  }
  for (const entry of classes.values()) resources.push(...classResources(settings, entry, members, roundTrips));
  resources.push(
    egressRoutes(settings.self.name, outward),
    ...localRoutes(settings.self.name, inward, atBorder),
    headRoutes(input),
    ...grantResources(input),
    ...egressResources(input),
  );
  return resources;
};

/** Round trips to peers from our own vantage record: the one way in which measurements reach translation. */
export const roundTripsOf = (self: MemberView | undefined): Map<string, RoundTrip> =>
  new Map((self?.vantage?.peers ?? []).map((peer) => [peer.member, { rttMs: peer.rttMs, varMs: peer.rttVarMs }]));
