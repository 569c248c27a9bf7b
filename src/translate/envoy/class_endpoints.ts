/**
 * The endpoints of a class: the gateways of each tier's members, a priority for each tier.
 *
 * Priorities are binary (high overprovisioning factor): a tier serves all as long as one of its gateways lives. Envoy's usual
 * rule of 1.4 would spill by the share of *gateways* that live, which says nothing of the capacity behind them. Within
 * a tier members share by the plan's weights, however many gateways each has: every member is a locality of its own.
 *
 * A draining gateway stays in the list, marked: it gets nothing while another one lives, and is better than none.
 */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { Cell, RemotePlan } from '../../failover/plan.ts';
import type { MemberView } from '../../federation/view.ts';
import { HealthStatus } from '../../gen/envoy/config/core/v3/health_check_pb.ts';
import type {
  LbEndpointSchema,
  LocalityLbEndpointsSchema,
} from '../../gen/envoy/config/endpoint/v3/endpoint_components_pb.ts';
import { ClusterLoadAssignmentSchema } from '../../gen/envoy/config/endpoint/v3/endpoint_pb.ts';
import type { Gateway } from '../../gen/isthmus/v1/records_pb.ts';
import { type Encoded, encode, typeUrls } from './encoded.ts';

/** Healthy share × this / 100, at most 100 %: one gateway in a thousand counts as all of them. */
const overprovisioning = 100_000;
const weightScale = 1_000;
const weightMax = 1_000_000;

const endpoint = (member: string, gateway: Gateway): MessageInitShape<typeof LbEndpointSchema> => ({
  hostIdentifier: {
    case: 'endpoint',
    value: {
      address: {
        address: {
          case: 'socketAddress',
          value: {
            address: gateway.address,
            portSpecifier: { case: 'portValue', value: gateway.federationPort },
          },
        },
      },
    },
  },
  healthStatus: gateway.draining ? HealthStatus.DRAINING : HealthStatus.UNKNOWN,
  metadata: { filterMetadata: { 'envoy.transport_socket_match': { member } } },
});

const locality = (
  cell: Cell,
  priority: number,
  view: MemberView | undefined,
): MessageInitShape<typeof LocalityLbEndpointsSchema> => ({
  priority,
  // The member is the sub-zone, so that load reports tell members of one zone apart.
  locality: { region: view?.member.region ?? '', zone: view?.member.zone ?? '', subZone: cell.member },
  loadBalancingWeight: Math.min(weightMax, Math.max(1, Math.round(cell.weight * weightScale))),
  lbEndpoints: (view?.gateways?.gateways ?? [])
    .filter((gateway) => gateway.federationPort > 0)
    .toSorted((a, b) => (a.id < b.id ? -1 : 1))
    .map((gateway) => endpoint(cell.member, gateway)),
});

/**
 * The class's endpoints. A member without a known gateway takes no place; a tier without any is left out, for Envoy wants
 * priorities without gaps.
 */
export const classEndpoints = (
  name: string,
  tiers: RemotePlan['tiers'],
  members: ReadonlyMap<string, MemberView>,
): Encoded => {
  const endpoints: MessageInitShape<typeof LocalityLbEndpointsSchema>[] = [];
  let priority = 0;
  for (const tier of tiers) {
    const cells = tier
      .toSorted((a, b) => (a.member < b.member ? -1 : 1))
      .map((cell) => locality(cell, priority, members.get(cell.member)))
      .filter((entry) => (entry.lbEndpoints?.length ?? 0) > 0);
    if (cells.length > 0) priority += 1;
    endpoints.push(...cells);
  }
  const assignment = create(ClusterLoadAssignmentSchema, {
    clusterName: name,
    endpoints,
    policy: { overprovisioningFactor: overprovisioning },
  });
  return encode(typeUrls.endpoints, name, ClusterLoadAssignmentSchema, assignment);
};
