/**
 * What decisions need of a service's exporters, side by side: who they are, what they have ready, and which ports not all of them have.
 *
 * A large set has a hundred thousand records, far apart in memory, and to read these few numbers off them takes longer than to decide
 * by them. A view is never changed in place, so they are gathered once for each: by the merge, that has the records at hand. A field of the
 * view was passed over: whoever makes a view of another could forget it.
 */
import { carriesTcp } from '../core/transport.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import { capacityReady, capacityTotal } from './capacity.ts';
import type { ServiceView } from './view.ts';

export interface Exporters {
  /** Those that can take part, in the order of the view. */
  readonly members: readonly string[];
  readonly ready: readonly number[];
  readonly total: readonly number[];
  /** Ports that not all exporters have, of those that traffic to the service follows. */
  readonly unshared: readonly number[];
}

/** Over TCP, for a tunnel carries nothing else. */
export const offersPort = ({ ports }: ServiceRecord, port: number): boolean => {
  for (const offered of ports) if (offered.port === port && carriesTcp(offered.protocol)) return true;
  return false;
};

const gathered = new WeakMap<ServiceView, Exporters>();

export const exportersOf = (view: ServiceView): Exporters => {
  const known = gathered.get(view);
  if (known !== undefined) return known;
  const members: string[] = [];
  const ready: number[] = [];
  const total: number[] = [];
  const ports = (view.local?.ports ?? view.ports).filter(({ protocol }) => carriesTcp(protocol));
  const lacking = new Set<number>();
  for (const [member, record] of view.remotes) {
    for (const { port } of ports) if (!offersPort(record, port)) lacking.add(port);
    if (record.headless || record.sessionAffinity) continue;
    members.push(member);
    ready.push(capacityReady(record));
    total.push(capacityTotal(record));
  }
  const unshared = ports.filter(({ port }) => lacking.has(port)).map(({ port }) => port);
  const exporters = { members, ready, total, unshared };
  gathered.set(view, exporters);
  return exporters;
};
