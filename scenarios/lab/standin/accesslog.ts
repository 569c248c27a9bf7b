/**
 * One line per connection in ztunnel's words, so that one reader serves both: who called whom, by which proven identities.
 */
import type { Workload } from '../../../src/gen/istio/workload/workload_pb.ts';

export interface Access {
  readonly direction: 'inbound' | 'outbound';
  readonly source: { readonly address: string; readonly identity: string; readonly workload?: Workload | undefined };
  readonly destination: {
    readonly address: string;
    readonly authority?: string | undefined;
    readonly service?: string | undefined;
    readonly identity?: string | undefined;
    readonly workload?: Workload | undefined;
  };
  readonly sent: number;
  readonly received: number;
  readonly durationMs: number;
  readonly error?: string | undefined;
}

const pair = (key: string, value: string | undefined): string[] =>
  value === undefined || value === ''
    ? []
    : [`${key}=${/^[\w.:/[\]-]+$/.test(value) && key.endsWith('addr') ? value : JSON.stringify(value)}`];

export const accessLine = (at: Date, access: Access): string => {
  const { source, destination, direction } = access;
  const level = access.error === undefined ? 'info' : 'error';
  return [
    at.toISOString(),
    level,
    'access',
    'connection complete',
    ...pair('src.addr', source.address),
    ...pair('src.workload', source.workload?.name),
    ...pair('src.namespace', source.workload?.namespace),
    ...pair('src.identity', source.identity),
    ...pair('dst.addr', destination.address),
    ...pair('dst.hbone_addr', destination.authority),
    ...pair('dst.service', destination.service),
    ...pair('dst.workload', destination.workload?.name),
    ...pair('dst.namespace', destination.workload?.namespace),
    ...pair('dst.identity', destination.identity),
    `direction="${direction}"`,
    `bytes_sent=${access.sent}`,
    `bytes_recv=${access.received}`,
    `duration="${Math.round(access.durationMs)}ms"`,
    ...pair('error', access.error),
  ].join('\t');
};
