import { expect, it } from 'vitest';
import { Engine } from '../../../src/controller/engine.ts';
import { noPlan } from '../../../src/failover/plan.ts';
import { ViewKeeper } from '../../../src/federation/view_keeper.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { defaultBinding } from '../../../src/translate/envoy/input.ts';
import { localCluster, localPod, localService } from '../federation/local.ts';

it('lets proxies be flushed before anybody is told what was planned', async () => {
  const seen: string[] = [];
  const local = localCluster([localService()], [localPod('checkout-1')]);
  const due: (() => void)[] = [];
  const engine = new Engine({
    self: 'us-east',
    keeper: new ViewKeeper({ self: 'us-east', clusterDomain: 'cluster.local' }),
    decide: () => ({ plan: noPlan, changed: new Set() }),
    ztunnel: {
      clusterId: 'us-east',
      network: 'net-east',
      trustDomain: 'cluster.local',
      clusterDomain: 'cluster.local',
      namespace: 'isthmus-system',
      gatewayService: 'isthmus-egress',
    },
    gateway: { trustDomain: 'cluster.local', binding: defaultBinding },
    schedule: (run) => due.push(run),
    local: () => local,
    members: () => new Map(),
    // As the server does when its last push is long over.
    onResources: () => queueMicrotask(() => seen.push('flushed')),
    onPlanned: (services) => seen.push(`planned ${[...services].join()}`),
    clock: realClock,
  });
  engine.markLocal({ services: new Set(), pods: new Set(), policies: false, failoverPolicies: false });
  due.shift()!();
  await Promise.resolve();
  expect(seen).toEqual(['flushed', 'planned shop/checkout']);
  engine.markLocal({ services: new Set(['shop/checkout']), pods: new Set(), policies: false, failoverPolicies: false });
  due.shift()!();
  engine.close();
  await Promise.resolve();
  expect(seen.filter((what) => what.startsWith('planned'))).toEqual(['planned shop/checkout']);
});
