/** Nothing that a member says of itself changes where our own names, or those of other members, lead. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { defaultPolicies } from '../../../src/failover/policy.ts';
import { initialState, step } from '../../../src/failover/step.ts';
import type { MemberView } from '../../../src/federation/view.ts';
import { ViewKeeper } from '../../../src/federation/view_keeper.ts';
import { RouteConfigurationSchema } from '../../../src/gen/envoy/config/route/v3/route_pb.ts';
import type { ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { noSignals } from '../../../src/health/signals.ts';
import { gatewayResources } from '../../../src/translate/envoy/resources.ts';
import { localCluster, localService } from '../federation/local.ts';
import { someService } from '../records/arbitrary.ts';
import { decoded, member, memberView, world } from './fixture.ts';

const port = (name: string, number: number, protocol = 'TCP') => ({
  $typeName: 'isthmus.v1.ServicePort' as const,
  name,
  port: number,
  protocol,
});
const ports = [80, 443].map((number) => ({ name: `p${number}`, port: number, protocol: 'TCP' }));
const honest = someService({ ports: [port('p80', 80), port('p443', 443)] });
const local = localCluster([localService({ ports })]);

const peer = (name: string, record: ServiceRecord | undefined): [string, MemberView] => {
  const view = memberView(member(name), [{ id: 'gw-1', address: '10.0.0.1' }]);
  return [name, { ...view, services: new Map(record === undefined ? [] : [['shop/checkout', record]]) }];
};

/** Which authority leads where, the hostile member left out of the answer; and what our own listeners lead to. */
const leads = (hostile: ServiceRecord | undefined): unknown => {
  const self = member('us-east');
  const members = new Map([
    peer('us-east', undefined),
    peer('eu-central', honest),
    peer('us-west', honest),
    peer('hostile', hostile),
  ]);
  const keeper = new ViewKeeper({ self: 'us-east', clusterDomain: 'cluster.local' });
  keeper.update(local, members, { services: [], members: true });
  const { services } = keeper.view;
  const { plan } = step(initialState(), keeper.view, noSignals, defaultPolicies, 1_000_000, () => 0.5);
  const input = { ...world({ self }), members, local, services, plan };
  const resources = gatewayResources(input);
  const hosts = (name: string) =>
    decoded(resources, RouteConfigurationSchema, name).virtualHosts.map((host) => {
      const action = host.routes[0]?.action;
      const to = action?.case === 'route' ? action.value.clusterSpecifier.value : undefined;
      const path = typeof to === 'string' ? to.split('>').filter((name) => name !== 'hostile') : [];
      return { name: host.name, path };
    });
  const { unsupported } = services.get('shop/checkout')!;
  return { unsupported, egress: hosts('egress'), federation: hosts('federation'), hbone: hosts('hbone') };
};

it('whatever the oldest export says', () => {
  const alone = leads(undefined);
  expect(alone).toMatchObject({
    egress: [443, 80].map((number) => ({
      name: `checkout.shop.svc.cluster.local:${number}`,
      path: ['eu-central', 'us-west'],
    })),
  });
  const record = fc.record({
    exportedMs: fc.constantFrom(0n, 1_000n, 9_000_000_000_000n),
    headless: fc.boolean(),
    sessionAffinity: fc.boolean(),
    mode: fc.constantFrom('gateway', 'direct', ''),
    ports: fc.uniqueArray(
      fc
        .tuple(fc.constantFrom('p80', 'p443', 'other'), fc.constantFrom(80, 443, 22), fc.constantFrom('TCP', 'UDP'))
        .map(([name, number, protocol]) => port(name, number, protocol)),
      { maxLength: 3, selector: ({ port: number, protocol }) => `${number}/${protocol}` },
    ),
  });
  fc.assert(
    fc.property(record, (change) => {
      expect(leads(someService(change))).toEqual(alone);
    }),
  );
});
