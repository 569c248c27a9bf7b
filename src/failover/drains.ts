/**
 * Who is drained: by a command here, or by a peer's own word.
 *
 * A drain of our own cluster, gateway or service is told to the others, who move their traffic away; a drain of another's cluster or
 * service means that it is not used from here. A peer's gateway can only be drained by its own cluster: from here all
 * its gateways are one.
 */
import type { ServiceKey } from '../core/names.ts';
import type { DrainTarget } from '../health/signals.ts';
import type { Plan } from './plan.ts';
import type { Drain } from './state.ts';

export const sameTarget = (a: DrainTarget, b: DrainTarget): boolean => targetText(a) === targetText(b);

/** For people, and to compare. */
export const targetText = (target: DrainTarget): string => {
  if (target.scope === 'cluster') return `cluster ${target.member}`;
  if (target.scope === 'region') return `region ${target.region}`;
  if (target.scope === 'gateway') return `gateway ${target.gateway} of ${target.member}`;
  return `service ${target.service} of ${target.member}`;
};

/**
 * The drain that a cell is under. The narrowest wins, for its author knows most.
 * @param service - undefined: as far as it is not of a single service
 * @param word - the peer says that it drains
 */
export const drainOf = (
  drains: readonly Drain[],
  service: ServiceKey | undefined,
  member: string,
  region: string,
  word: Drain | undefined,
): Drain | undefined => {
  let found: Drain | undefined;
  for (const drain of drains) {
    const { target } = drain;
    if (target.scope === 'service') {
      if (target.member === member && target.service === service) return drain;
    } else if (target.scope === 'cluster') {
      if (target.member === member) found = drain;
    } else if (target.scope === 'region' && target.region === region) found ??= drain;
  }
  return found ?? word;
};

/** A peer's own word as a drain; what it says of time and grace is not known, so the policy's hold. */
export const ownWord = (member: string): Drain => ({
  target: { scope: 'cluster', member },
  author: member,
  reason: 'it says so itself',
  sinceMs: 0,
  overMs: undefined,
  graceMs: undefined,
});

/** What we tell the others about ourselves. */
export const drainingOf = (drains: readonly Drain[], self: string, region: string): Plan['draining'] => {
  let cluster = false;
  const gateways = new Set<string>();
  const services = new Set<ServiceKey>();
  for (const { target } of drains) {
    if (target.scope === 'region') cluster ||= target.region === region;
    else if (target.member !== self) continue;
    else if (target.scope === 'cluster') cluster = true;
    else if (target.scope === 'gateway') gateways.add(target.gateway);
    else services.add(target.service);
  }
  return { cluster, gateways, services };
};
