/**
 * Where every service's traffic should go when nothing is wrong, worked out from the scenario alone: the local endpoints first, then
 * those of the own region, then the other regions by name, each with all of its exporters. It shares no code with what it judges.
 */
import { policyNamed } from './policies.ts';
import type { World } from './world.ts';

const expected = (world: World, from: string, key: string): string => {
  const service = world.scenario.services.find((s) => s.key === key)!;
  const region = world.network.region(from);
  const tiers = new Map<string, string[]>();
  for (const member of Object.keys(service.pods).sort()) {
    if (member === from) continue;
    const theirs = world.network.region(member);
    const place = theirs === region ? '0' : `1 ${theirs}`;
    tiers.set(place, [...(tiers.get(place) ?? []), member]);
  }
  return [...tiers]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, members]) => members.join('+'))
    .join(' then ');
};

/** With grants the tiers are poured together as need be; who grants nothing is left out. */
const isGranted = (world: World, from: string, key: string, is: string, should: string): boolean => {
  const names = (text: string): string[] => text.split(/\+| then /);
  const used = names(is);
  const able = names(should);
  const granting = able.filter((member) => world.offered(from, member, key) !== 0);
  return used.every((member) => able.includes(member)) && granting.every((member) => used.includes(member));
};

/** @returns the first thing that is not as it should be */
export const expectedPlaces = (world: World): string | undefined => {
  const declared = policyNamed(world.scenario.policy).capacity.perEndpoint !== undefined;
  for (const [name, cluster] of world.clusters) {
    const process = world.leader(name);
    if (process === undefined) return `nobody leads ${name}`;
    for (const { key, pods } of world.scenario.services) {
      if (Object.keys(pods).every((member) => member === name)) continue;
      const plan = cluster.served?.plan.services.get(key);
      if (plan === undefined) return `${name} has no plan for ${key}`;
      if (name in pods && plan.local.percent !== 100) return `${name} keeps ${plan.local.percent} % of ${key}`;
      if (plan.failFast) return `${name} refuses calls to ${key}`;
      // What proxies have may be older where nothing of it concerns them.
      const standings = process.plan?.services.get(key)?.standings ?? [];
      const odd = standings.find((s) => s.state !== 'fresh' || (s.percent < 100 && !declared && s.member !== name));
      if (odd !== undefined)
        return `${name} holds ${odd.member} for ${key} as ${odd.state}, ${odd.percent} %: ${odd.reason} ${odd.detail}`;
      const is = plan.tiers
        .map((cells) =>
          cells
            .map(({ member }) => member)
            .sort()
            .join('+'),
        )
        .join(' then ');
      const should = expected(world, name, key);
      const same = declared ? isGranted(world, name, key, is, should) : is === should;
      if (!same) return `${name} sends ${key} to "${is}" instead of "${should}"`;
    }
  }
  return undefined;
};
