/**
 * Connections that came to no request: a handshake that failed, or a name (SNI) that no member has. Told by the listeners' own logs,
 * together with all connections that end in good order, which are passed over.
 *
 * Whoever reaches a port can make as many of these as it likes, so no more are read than there is reason to; the others are counted,
 * without being read.
 */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import type { Connection, Side } from '../audit/connection.ts';
import type { Reason } from '../audit/reason.ts';
import { limits } from '../core/limits.ts';
import type { TCPAccessLogEntry } from '../gen/envoy/data/accesslog/v3/accesslog_pb.ts';
import { StreamAccessLogsMessageSchema } from '../gen/envoy/service/accesslog/v3/als_pb.ts';
import { doorNames } from '../translate/envoy/access_logs.ts';
import { addressText, msOf, short } from './connections.ts';
import { readLogMessage } from './decode.ts';

const sides: Readonly<Record<string, Side>> = {
  [doorNames.egress]: 'egress',
  [doorNames.federation]: 'ingress',
  [doorNames.hbone]: 'direct',
};

export const isDoor = (log: string): boolean => sides[log] !== undefined;

const tcpLogsField = StreamAccessLogsMessageSchema.field.tcpLogs.number;

/** How many entries a message has, without reading them; 0 for what is no such message. */
export const countEntries = (message: Uint8Array): number => {
  let count = 0;
  try {
    const outer = new BinaryReader(message);
    while (outer.pos < outer.len) {
      const [field, type] = outer.tag();
      if (field !== tcpLogsField || type !== WireType.LengthDelimited) {
        outer.skip(type);
        continue;
      }
      const inner = new BinaryReader(outer.bytes());
      while (inner.pos < inner.len) {
        inner.skip(inner.tag()[1]);
        count++;
      }
    }
  } catch {
    return count;
  }
  return count;
};

const reasonOf = ({ commonProperties: common }: TCPAccessLogEntry): Reason | undefined => {
  if (common?.downstreamTransportFailureReason) return 'handshake';
  if (common?.responseFlags?.noRouteFound === true) return 'no-member';
  return undefined;
};

/** Undefined for a connection that was let in. */
export const doorEvent = (log: string, entry: TCPAccessLogEntry, node: string): Connection | undefined => {
  const { commonProperties: common, connectionProperties: bytes } = entry;
  const side = sides[log];
  const reason = reasonOf(entry);
  if (side === undefined || reason === undefined) return undefined;
  const detail = common?.downstreamTransportFailureReason ?? '';
  return {
    side,
    result: 'denied',
    reason,
    ...(detail === '' ? {} : { detail: short(detail) }),
    // What a certificate says that was not accepted proves nothing.
    source: '',
    from: addressText(common?.downstreamRemoteAddress),
    authority: short(common?.tlsProperties?.tlsSniHostname ?? ''),
    status: 0,
    startMs: msOf(common?.startTime),
    durationMs: msOf(common?.duration),
    sent: Number(bytes?.receivedBytes ?? 0n),
    received: Number(bytes?.sentBytes ?? 0n),
    gateway: node.split('~')[0]!,
  };
};

/** Reads so many a second; the rest it counts. */
export class Doors {
  #left: number = limits.telemetryDoorsPerSecondMax;
  readonly #unread = new Map<string, { side: Side; gateway: string; count: number }>();

  read(log: string, message: Uint8Array, node: string): Connection[] {
    if (this.#left <= 0) {
      const gateway = node.split('~')[0]!;
      const unread = this.#unread.get(`${log} ${gateway}`) ?? { side: sides[log]!, gateway, count: 0 };
      unread.count += countEntries(message);
      this.#unread.set(`${log} ${gateway}`, unread);
      return [];
    }
    const { doors } = readLogMessage(message);
    this.#left -= doors.length;
    return doors.flatMap((entry) => doorEvent(log, entry, node) ?? []);
  }

  /** Once a second: what was not read, as one connection each. @param nowMs - wall clock */
  tick(nowMs: number): Connection[] {
    this.#left = limits.telemetryDoorsPerSecondMax;
    const told = [...this.#unread.values()].map(({ side, gateway, count }): Connection => {
      const rest = { from: '', authority: '', status: 0, startMs: nowMs, durationMs: 0, sent: 0, received: 0 };
      return { side, result: 'denied', reason: 'unread', source: '*', ...rest, gateway, count };
    });
    this.#unread.clear();
    return told;
  }
}
