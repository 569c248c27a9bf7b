import { policyNamed } from '../world/policies.ts';
import type { World } from '../world/world.ts';
import type { Invariant } from './invariant.ts';

/** Long enough to be noticed, and to be trusted again when nobody else is left. */
const usableMs = 30_000;
const spanMs = 10_000;
const callsMin = 5;

const failed: ReadonlySet<string> = new Set(['unreachable', 'no-pods', 'fail-fast']);

/** Everything that it takes works: path, pods, and both control planes, so that the one can know of the other. */
const works = (world: World, from: string, member: string, service: string): boolean => {
  const pods = world.cluster(member).pods.get(service);
  if (pods === undefined || pods.ready === 0 || pods.toppled > 0 || Math.max(0, ...pods.gray) > 0) return false;
  if (member === from) return true;
  const talks = (name: string): boolean => world.leader(name) !== undefined && world.reachesEtcd(name);
  return world.cluster(from).anyGatewayUp && world.reachable(from, member) && talks(from) && talks(member);
};

export const servedWhileUsable: Invariant = {
  name: 'served-while-usable',
  what: 'Calls do not go on failing while a cell that works has been there for a while.',
  begin: () => {
    const since = new Map<string, number>();
    const calls = new Map<string, { readonly atMs: number; readonly ok: boolean }[]>();
    return {
      request: ({ from, service, outcome, atMs }) => {
        const key = `${from}|${service}`;
        const list = (calls.get(key) ?? []).filter((call) => atMs - call.atMs < spanMs);
        list.push({ atMs, ok: !failed.has(outcome) });
        calls.set(key, list);
        return undefined;
      },
      second: (world) => {
        const { policy, hostile, services } = world.scenario;
        const { mode, capacity } = policyNamed(policy);
        if (mode === 'observe' || capacity.perEndpoint !== undefined) return undefined;
        for (const from of world.clusters.keys()) {
          for (const { key, pods } of services) {
            for (const member of Object.keys(pods)) {
              const cell = `${from}|${key}|${member}`;
              const fine = member !== hostile && !world.frozen(from) && works(world, from, member, key);
              if (!fine) since.delete(cell);
              else if (!since.has(cell)) since.set(cell, world.nowMs);
              const list = calls.get(`${from}|${key}`) ?? [];
              const ago = world.nowMs - (since.get(cell) ?? world.nowMs);
              if (ago < usableMs || list.length < callsMin) continue;
              const bad = list.filter(({ ok }) => !ok).length;
              if (bad * 2 < list.length) continue;
              return `${bad} of ${list.length} calls of ${from} to ${key} fail, and ${member} has worked for ${ago} ms`;
            }
          }
        }
        return undefined;
      },
    };
  },
};
