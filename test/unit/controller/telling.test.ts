import { describe, expect, it } from 'vitest';
import type { Cluster } from '../../../src/controller/cluster.ts';
import type { Failover } from '../../../src/controller/failover.ts';
import { Telling } from '../../../src/controller/telling.ts';
import { defaultPolicies, defaultPolicy } from '../../../src/failover/policy.ts';
import type { ServiceView } from '../../../src/federation/view.ts';
import { noVerdicts, nowMs, planFor, planOf, serviceView, standing, viewOf } from './shop.ts';

/** Until nothing is scheduled any more. */
const settled = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
};

const tiers = [[{ member: 'us-west', weight: 3 }]];
const planned = (name: string, own = standing('us-east')) =>
  planOf([own, standing('us-west')], tiers, { key: `shop/${name}` });

class Rig {
  readonly told: { readonly key: string; readonly traffic: unknown }[] = [];
  policiesTold = 0;
  view = viewOf([]);
  plan = planFor([]);
  policies = defaultPolicies;
  readonly telling: Telling;

  constructor(services: readonly ServiceView[]) {
    this.view = viewOf(services);
    this.plan = planFor(services.map(({ name }) => planned(name)));
    const cluster = {
      reportTraffic: (key: string, traffic: unknown) => this.told.push({ key, traffic }),
      reportPolicies: () => this.policiesTold++,
    } as unknown as Cluster;
    const failover = { book: { standings: () => new Map() }, decidedBy: undefined } as unknown as Failover;
    this.telling = new Telling({
      cluster: () => cluster,
      failover: () => failover,
      input: () => ({ view: this.view, plan: this.plan, verdicts: noVerdicts, policies: this.policies, nowMs }),
    });
  }
}

const shop = (name: string) => serviceView([3, 3], { 'us-west': [3, 3] }, name);

describe('what is told of services', () => {
  it('comes in later turns, some at once, each service once', async () => {
    const rig = new Rig(Array.from({ length: 120 }, (_, i) => shop(`s${i}`)));
    rig.telling.services(rig.view.services.keys());
    rig.telling.services(['shop/s7']);
    expect(rig.told).toEqual([]);
    await new Promise((resolve) => setImmediate(resolve));
    expect(rig.told.length).toBeLessThan(120);
    await settled();
    expect(rig.told.map(({ key }) => key).sort()).toEqual([...rig.view.services.keys()].sort());
    expect(rig.policiesTold).toBe(1);
  });

  it('is not made again of what is as it was told', async () => {
    const rig = new Rig([shop('a'), shop('b')]);
    const tell = async () => {
      rig.told.length = 0;
      rig.telling.services(['shop/a', 'shop/b']);
      await settled();
      return rig.told.map(({ key }) => key);
    };
    expect(await tell()).toEqual(['shop/a', 'shop/b']);
    expect(await tell()).toEqual([]);
    const out = planned('b', standing('us-east', { reason: 'NotReady', ready: 0, percent: 0 }));
    rig.plan = planFor([rig.plan.services.get('shop/a')!, { ...out, local: { percent: 0 } }]);
    expect(await tell()).toEqual(['shop/b']);
    expect(rig.told[0]!.traffic).toMatchObject({ away: true, reason: 'NotReady' });
    rig.view = viewOf([shop('a'), rig.view.services.get('shop/b')!]);
    expect(await tell()).toEqual(['shop/a']);
    rig.policies = { ...defaultPolicies, default: { ...defaultPolicy } };
    expect(await tell()).toEqual(['shop/a', 'shop/b']);
  });

  it('is told each time while it rests on verdicts, and when the service is nobody else’s', async () => {
    const rig = new Rig([shop('a')]);
    rig.plan = planFor([]);
    for (const times of [1, 2]) {
      rig.telling.services(['shop/a']);
      await settled();
      expect(rig.told.length).toBe(times);
    }
    rig.view = viewOf([serviceView([3, 3], {}, 'a')]);
    rig.telling.services(['shop/a', 'shop/gone']);
    await settled();
    expect(rig.told.slice(2)).toEqual([
      { key: 'shop/a', traffic: undefined },
      { key: 'shop/gone', traffic: undefined },
    ]);
  });
});
