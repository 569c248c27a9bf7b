import { darkKinds } from '../world/fault.ts';
import { policyNamed } from '../world/policies.ts';
import type { Invariant } from './invariant.ts';
import { placeText, servicesOf } from './placement.ts';

export const darkChangesNothing: Invariant = {
  name: 'dark-changes-nothing',
  what: 'While only sight is lost (etcd, a peer’s or an own controller, the API server), nothing that is served changes.',
  begin: () => ({
    served: (cluster, before, world) => {
      const { faults, calmMs, policy } = world.scenario;
      // With grants the split follows the calls, in the light as in the dark.
      const pours = policyNamed(policy).capacity.perEndpoint !== undefined;
      if (before === undefined || world.nowMs < calmMs || !faults.every(({ kind }) => darkKinds.has(kind))) {
        return undefined;
      }
      const after = cluster.served!;
      for (const key of servicesOf(before.plan, after.plan)) {
        const was = placeText(before.plan.services.get(key));
        const is = placeText(after.plan.services.get(key));
        if (was !== is && !pours) return `${cluster.name}: ${key} went from "${was}" to "${is}" in the dark`;
      }
      for (const [member, gateways] of before.gateways) {
        if ((after.gateways.get(member)?.length ?? 0) < gateways.length) {
          return `${cluster.name} lost gateways of ${member} in the dark`;
        }
      }
      return undefined;
    },
  }),
};
