import { addressBase } from '../world/process.ts';
import { guardedNamespace } from '../world/scenario.ts';
import type { Invariant } from './invariant.ts';
import { usesMember } from './placement.ts';

export const hostileAlone: Invariant = {
  name: 'hostile-alone',
  what: 'A hostile member changes only its own names: none that it was not granted, no address of another, no other’s place.',
  begin: () => ({
    records: (process, _, { scenario: { hostile } }) => {
      if (hostile === undefined) return undefined;
      const view = process.federation.members.get(hostile);
      for (const key of view?.services.keys() ?? []) {
        if (!key.startsWith('shop/'))
          return `${process.o.cluster.name} uses ${key} of ${hostile}, which was not granted it`;
      }
      const strange = view?.gateways?.gateways.find(({ address }) => !address.startsWith(`${addressBase(hostile)}.`));
      return strange === undefined
        ? undefined
        : `${process.o.cluster.name} would send traffic of ${hostile} to ${strange.address}`;
    },
    step: ({ process, plan }, { scenario: { hostile } }) => {
      if (hostile === undefined || process.o.cluster.name === hostile) return undefined;
      for (const [key, service] of plan.services) {
        if (key.startsWith(`${guardedNamespace}/`) && usesMember(service, hostile)) {
          return `${process.o.cluster.name} sends ${key} to ${hostile}`;
        }
      }
      return undefined;
    },
    second: ({ scenario: { hostile }, hostileActs, lifted, clusters, nowMs, scenario }) => {
      // What others export stays known while it attacks.
      if (hostile === undefined || hostileActs === 0 || lifted || nowMs < scenario.calmMs) return undefined;
      for (const cluster of clusters.values()) {
        for (const { key, pods } of scenario.services) {
          const others = Object.keys(pods).filter((name) => name !== cluster.name && name !== hostile);
          if (others.length === 0 || cluster.served === undefined) continue;
          if (cluster.served.plan.services.get(key) === undefined) return `${cluster.name} lost ${key} to ${hostile}`;
        }
      }
      return undefined;
    },
  }),
};
