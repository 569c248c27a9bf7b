import { describe, expect, it } from 'vitest';
import type { Decided } from '../../../src/controller/deciding.ts';
import { Engine } from '../../../src/controller/engine.ts';
import { noPlan } from '../../../src/failover/plan.ts';
import { ViewKeeper } from '../../../src/federation/view_keeper.ts';
import { SimClock } from '../../sim/clock.ts';
import { cluster } from '../translate-ztunnel/fixture.ts';
import { memberView } from './shop.ts';

const self = 'us-east';
const none: Decided = { plan: noPlan, changed: new Set() };

/** An engine whose decisions are what the test says. */
const engineOf = (decide: () => Decided | Promise<Decided>) => {
  const clock = new SimClock();
  const planned: string[][] = [];
  const engine = new Engine({
    self,
    keeper: new ViewKeeper({ self, clusterDomain: 'cluster.local' }),
    decide,
    ztunnel: {} as never,
    gateway: {} as never,
    schedule: (run) => void clock.after(0, run),
    local: () => cluster({}),
    members: () => new Map([[self, memberView(self)]]),
    onResources: () => {},
    onPlanned: (services) => planned.push([...services]),
    clock,
  });
  engine.markLocal({ services: new Set(['shop/checkout']), pods: new Set(), policies: false, failoverPolicies: false });
  return { clock, engine, planned };
};

describe('a decision that was not made', () => {
  it('is asked for again a moment later, with what was marked', async () => {
    let asked = 0;
    const { clock, planned } = engineOf(() => (++asked < 3 ? Promise.reject(new Error('the disk is full')) : none));
    await clock.advance(500);
    expect(asked).toBe(1);
    expect(planned).toEqual([]);
    await clock.advance(2_500);
    expect(asked).toBe(3);
    expect(planned).toEqual([['shop/checkout']]);
  });

  it('does not hold up what the records say, once there is a plan', async () => {
    let broken = false;
    const { clock, engine, planned } = engineOf(() => (broken ? Promise.reject(new Error('the disk is full')) : none));
    await clock.advance(500);
    broken = true;
    engine.markRecords({ services: new Set(['shop/cart']), members: new Set(), topology: new Set() });
    await clock.advance(500);
    expect(planned.at(-1)).toEqual(['shop/cart']);
  });
});
