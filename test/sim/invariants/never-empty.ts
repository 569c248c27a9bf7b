import type { Invariant } from './invariant.ts';

export const neverEmpty: Invariant = {
  name: 'never-empty',
  what: 'A service that somebody exports always has a cell, and its local share is not 0 when nobody else has anything.',
  begin: () => ({
    step: ({ process, view, plan }) => {
      const self = process.o.cluster.name;
      for (const [key, service] of view.services) {
        if (service.unsupported !== undefined || service.remotes.size === 0) continue;
        const made = plan.services.get(key);
        if (made === undefined) return `${self}: ${key} has ${service.remotes.size} exporters and no plan`;
        if (made.tiers.every((cells) => cells.length === 0)) return `${self}: no cell is left for ${key}`;
        const nobody = made.standings.every((s) => s.member === self || s.ready === 0);
        const ready = service.local?.endpoints.some((endpoint) => endpoint.ready) ?? false;
        if (nobody && ready && made.local.percent === 0)
          return `${self}: ${key} is ready here alone, and left out here`;
      }
      return undefined;
    },
  }),
};
