/**
 * One service of the cluster set, merged from its exporters.
 *
 * Same namespace and name is the same service (MCS API, KEP-1645). Where exporters' ports disagree the oldest export wins; members
 * that export at the same millisecond are ordered by name, so that every cluster finds the same winner. Ports are the union,
 * minus those that contradict an older export's. They are for people to read: when an export began is what its member says, so
 * traffic to a service of ours follows our own ports, and each exporter gets what it has.
 *
 * For the same reason "the oldest wins" was passed over for what has no path across clusters (headless, session affinity): one
 * member could take a service away from all. A member that has it takes no part; our own Service decides for us.
 *
 * A service that exists here and is not exported here takes nothing from others: exporting is how a cluster consents to share a
 * name, so no peer can lead one of our own names away. The mode is the reader's own too: it is about the path that starts here.
 */
import { IsthmusError } from '../core/errors.ts';
import { parseServiceKey, type ServiceKey, serviceHostname } from '../core/names.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import { exportersOf } from './exporters.ts';
import type { LocalService } from './local.ts';
import type { Conflict, MergedPort, ServiceView } from './view.ts';

export interface MergeContext {
  readonly self: string;
  readonly clusterDomain: string;
}

/** What the merge needs of an export, ours or another's. */
interface Exporter {
  readonly member: string;
  readonly exportedMs: number;
  readonly ports: readonly MergedPort[];
  readonly headless: boolean;
  readonly sessionAffinity: boolean;
  readonly mode: 'gateway' | 'direct';
}

const none: ReadonlyMap<string, ServiceRecord> = new Map();

const sorted = (
  self: string,
  local: LocalService | undefined,
  remotes: ReadonlyMap<string, ServiceRecord>,
): Exporter[] => {
  const exporters: Exporter[] = [];
  if (local?.exported !== undefined) {
    const { ports, headless, sessionAffinity, mode, exported } = local;
    exporters.push({ member: self, exportedMs: exported.sinceMs, ports, headless, sessionAffinity, mode });
  }
  for (const [member, record] of remotes) {
    const { ports, headless, sessionAffinity } = record;
    const mode = record.mode === 'direct' ? 'direct' : 'gateway';
    exporters.push({ member, exportedMs: Number(record.exportedMs), ports, headless, sessionAffinity, mode });
  }
  return exporters.sort((a, b) => a.exportedMs - b.exportedMs || (a.member < b.member ? -1 : 1));
};

const transport = (protocol: string): string => (protocol === 'UDP' || protocol === 'SCTP' ? protocol : 'TCP');

const sameNumber = (a: MergedPort, b: MergedPort): boolean =>
  a.port === b.port && transport(a.protocol) === transport(b.protocol);

const shownPort = ({ name, port, protocol }: MergedPort): string =>
  `${name === '' ? '' : `${name} `}${port}/${protocol}`;

const mergePorts = (exporters: readonly Exporter[]): { ports: MergedPort[]; conflict: Conflict | undefined } => {
  const ports: (MergedPort & { readonly owner: string })[] = [];
  const losers: string[] = [];
  const details: string[] = [];
  let winner = '';
  for (const { member, ports: offered } of exporters) {
    let lost = false;
    for (const port of offered) {
      const rival = ports.find((known) => sameNumber(known, port) || (known.name !== '' && known.name === port.name));
      if (rival === undefined) {
        ports.push({ name: port.name, port: port.port, protocol: port.protocol, owner: member });
      } else if (!sameNumber(rival, port) || rival.name !== port.name || rival.protocol !== port.protocol) {
        details.push(`${member} has ${shownPort(port)} where ${rival.owner} has ${shownPort(rival)}`);
        if (winner === '') winner = rival.owner;
        lost = true;
      }
    }
    if (lost) losers.push(member);
  }
  const conflict: Conflict | undefined =
    losers.length === 0
      ? undefined
      : { field: 'ports', winner, losers, message: `ports differ, the oldest export wins: ${details.join('; ')}` };
  return { ports: ports.map(({ name, port, protocol }) => ({ name, port, protocol })), conflict };
};

/** Who differs, in what rules out a path across clusters, from our own export; where we have none, from the oldest. */
const flagConflict = (
  field: 'headless' | 'sessionAffinity',
  exporters: readonly Exporter[],
  self: string,
): Conflict | undefined => {
  const measure = exporters.find(({ member }) => member === self) ?? exporters[0];
  if (measure === undefined) return undefined;
  const value = measure[field];
  const losers = exporters.filter((exporter) => exporter[field] !== value).map(({ member }) => member);
  if (losers.length === 0) return undefined;
  const message = `${field} differs, it is ${value} at ${measure.member} and ${!value} at ${losers.join(', ')}: members that have it take no part`;
  return { field, winner: measure.member, losers, message };
};

/** Members whose export has a path across clusters. */
const ableOf = (remotes: ReadonlyMap<string, ServiceRecord>): ReadonlyMap<string, ServiceRecord> =>
  new Map([...remotes].filter(([, { headless, sessionAffinity }]) => !headless && !sessionAffinity));

const unsupportedOf = (key: ServiceKey, headless: boolean, affinity: boolean): IsthmusError | undefined => {
  if (headless) {
    return new IsthmusError(
      'service/headless',
      `${key} is headless: it has no address that another cluster could serve`,
      {
        hint: 'export a Service with a cluster IP',
        subject: { service: key },
      },
    );
  }
  if (!affinity) return undefined;
  return new IsthmusError(
    'service/session-affinity',
    `${key} has session affinity, which does not hold across clusters`,
    {
      hint: 'remove sessionAffinity from the Service, or do not export it',
      subject: { service: key },
    },
  );
};

/**
 * @param local - the service as our own API server has it, undefined when there is none of that name
 * @param remotes - the admitted records of this key by member, our own member excluded
 * @returns undefined when nobody has the service
 */
export const mergeService = (
  key: ServiceKey,
  local: LocalService | undefined,
  remotes: ReadonlyMap<string, ServiceRecord>,
  { self, clusterDomain }: MergeContext,
): ServiceView | undefined => {
  if (local === undefined && remotes.size === 0) return undefined;
  const name = parseServiceKey(key);
  if (!name.ok) throw name.error;
  const joined = local !== undefined && local.exported === undefined ? none : remotes;
  const exporters = sorted(self, local, joined);
  const { ports, conflict: portConflict } = mergePorts(exporters);
  const able = ableOf(joined);
  // Without a Service of ours it has no path only when nobody's has.
  const deciding =
    local === undefined ? (able.size > 0 ? undefined : exporters[0]) : exporters.find((e) => e.member === self);
  const unsupported = unsupportedOf(key, deciding?.headless ?? false, deciding?.sessionAffinity ?? false);
  const flags = (['headless', 'sessionAffinity'] as const).map((field) => flagConflict(field, exporters, self));
  const view: ServiceView = {
    key,
    namespace: name.value.namespace,
    name: name.value.name,
    hostname: serviceHostname(name.value.namespace, name.value.name, clusterDomain),
    local,
    remotes: unsupported === undefined ? able : joined,
    ports: exporters.length === 0 && local !== undefined ? local.ports : ports,
    mode: local?.mode ?? exporters[0]?.mode ?? 'gateway',
    unsupported,
    conflicts: [portConflict, ...flags].filter((conflict) => conflict !== undefined),
  };
  exportersOf(view);
  return view;
};
