/**
 * Services that go to the same places in the same way share a class, and each class is one Envoy cluster.
 *
 * An Envoy cluster costs memory, health checks and connections to every gateway in it; services times peers of them would be
 * the cost that stops other meshes. So weights are cut to powers of two (off by 41 % at most, until 1 to 64), which keeps
 * classes in the dozens whatever the pod counts do.
 */
import { createHash } from 'node:crypto';
import type { TrafficPolicy } from '../federation/local.ts';
import type { Cell, RemotePlan } from './plan.ts';

export interface ServiceClass {
  /** Equal classes have equal names: `us-west>eu-central*32+eu-north*64`, tiers by `>`, `~…` for a traffic policy of its own. */
  readonly name: string;
  readonly tiers: readonly (readonly Cell[])[];
  readonly policy: TrafficPolicy | undefined;
}

const weightMax = 64;
const nameLengthMax = 120;

const coarse = (cells: readonly Cell[]): Cell[] => {
  const heaviest = Math.max(...cells.map(({ weight }) => weight));
  if (cells.every(({ weight }) => weight === heaviest)) return cells.map(({ member }) => ({ member, weight: 1 }));
  const scaled = cells.map(({ member, weight }) => {
    const exponent = Math.round(Math.log2((weight / heaviest) * weightMax));
    return { member, weight: 2 ** Math.max(0, exponent) };
  });
  // Equal after rounding is equal: 4 pods and 5 pods share the class of 5 and 5.
  return scaled.every(({ weight }) => weight === weightMax)
    ? scaled.map(({ member }) => ({ member, weight: 1 }))
    : scaled;
};

const digest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 8);

const policyName = (policy: TrafficPolicy): string => {
  const set = Object.entries(policy)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return set.length === 0 ? '' : `~${digest(JSON.stringify(set))}`;
};

export const classOf = (plan: Pick<RemotePlan, 'tiers'>, policy: TrafficPolicy | undefined): ServiceClass => {
  const tiers = plan.tiers.map(coarse);
  const path = tiers
    .map((cells) => cells.map(({ member, weight }) => (weight === 1 ? member : `${member}*${weight}`)).join('+'))
    .join('>');
  const short = path.length > nameLengthMax ? `${path.slice(0, nameLengthMax - 9)}~${digest(path)}` : path;
  const suffix = policy === undefined ? '' : policyName(policy);
  return { name: `${short === '' ? 'nowhere' : short}${suffix}`, tiers, policy: suffix === '' ? undefined : policy };
};
