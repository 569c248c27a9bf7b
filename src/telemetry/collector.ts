/**
 * Takes in what this cluster's gateways report and hands it on once a second: windows of traffic for decisions, counts at the border
 * for grants.
 *
 * Access logs are the source: they know the service, and the kind of an error. Load reports tell how many tunnels are open, and stand
 * in for a gateway whose logs do not come. Adding both up for one gateway was passed over: one try would count twice.
 */
import type { Connection } from '../audit/connection.ts';
import type { Clock, Timer } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import { probeHeader } from '../core/probing.ts';
import type { HTTPAccessLogEntry } from '../gen/envoy/data/accesslog/v3/accesslog_pb.ts';
import type { TrafficWindow } from '../health/signals.ts';
import { logNames, memberTag } from '../translate/envoy/access_logs.ts';
import { isClassCluster } from '../translate/envoy/resource_names.ts';
import { BorderCounts } from './border.ts';
import { type ConnectionEvent, connectionOf } from './connections.ts';
import { loadRequest, type PeerLoad, readLoadMessage, readLogMessage } from './decode.ts';
import { Doors, isDoor } from './doors.ts';
import { attemptOutcome, borderCall, isEstablished, lostCall, statusOf, tunnelOutcome } from './outcome.ts';
import { type Ejected, TrafficWindows } from './windows.ts';

export interface TelemetryOptions {
  readonly clock: Clock;
  /** Whether this replica takes reports: the one that decides does. */
  readonly accepts: () => boolean;
  readonly isMember: (name: string) => boolean;
  /** The member whose federation certificate has this URI name. */
  readonly memberOf: (identity: string) => string | undefined;
  /** The service of a CONNECT's `host:port`, when it is one of the view. */
  readonly serviceOf: (authority: string) => ServiceKey | undefined;
  /** Names of the clusters that gateways have: loads of those that lead to members are asked for. */
  readonly clusters: () => Iterable<string>;
  /** What our Envoys hold out of use; see `EjectionWatch`. */
  readonly ejected: (member: string, service?: ServiceKey) => Ejected | undefined;
  /** Peers with something ejected. */
  readonly ejecting: () => Iterable<string>;
  /** Called once a tick, also with nothing, so that silence can be told from stillness. */
  readonly onWindows: (windows: readonly TrafficWindow[]) => void;
  /** For the audit: connections over the border, as they begin and end. */
  readonly onConnection?: (event: ConnectionEvent) => void;
  /** An Envoy has begun to send its logs, or sends them no more. */
  readonly onLogs?: (nodeId: string, begins: boolean) => void;
  readonly intervalMs?: number;
}

/** Totals since the start, for metrics. */
export interface TelemetryTotals {
  readonly entries: number;
  /** Entries about members that are not known (any more). */
  readonly unknown: number;
  /** Calls that a rule or bound of our own egress denied. */
  readonly denied: number;
  /** Calls that got no tunnel, although there was somebody to try, or not. */
  readonly lostTried: number;
  readonly lostUntried: number;
  readonly streams: number;
}

export interface ReportStreamPort {
  receive(message: Uint8Array): void;
  close(): void;
}

type CheckNode = (nodeId: string) => IsthmusError | undefined;

interface Node {
  /** Open streams of access logs. */
  logs: number;
  /** Reports in a row that told of traffic of which no log came. */
  unlogged: number;
  /** Open tunnels by member, as last reported. */
  open: ReadonlyMap<string, number>;
}

const intervalDefaultMs = 1_000;
const loadIntervalMs = 1_000;
/** A log comes a second or so after what it tells, and its stream opens with the first entry. */
const unloggedMin = 4;

export class Telemetry {
  readonly border = new BorderCounts();
  readonly #o: TelemetryOptions;
  readonly #windows = new TrafficWindows();
  readonly #doors = new Doors();
  readonly #nodes = new Map<string, Node>();
  readonly #loadStreams = new Set<LoadStream>();
  readonly #totals = { entries: 0, unknown: 0, denied: 0, lostTried: 0, lostUntried: 0, streams: 0 };
  #timer: Timer | undefined;
  #tickedMs = 0;

  constructor(options: TelemetryOptions) {
    this.#o = options;
  }

  get totals(): TelemetryTotals {
    return { ...this.#totals };
  }

  /** Tunnels that are open from here to each member, of all gateways together. */
  openTunnels(): Map<string, number> {
    const sums = new Map<string, number>();
    for (const { open } of this.#nodes.values())
      for (const [member, count] of open) sums.set(member, (sums.get(member) ?? 0) + count);
    return sums;
  }

  start(): void {
    this.#tickedMs = this.#o.clock.monotonicMs();
    this.#again();
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** For the server: see `ReportSink` there. */
  accepts(): boolean {
    return this.#o.accepts();
  }

  open(
    kind: 'access-log' | 'load-report',
    stream: { readonly checkNode: CheckNode; readonly send: (message: Uint8Array) => void },
  ): ReportStreamPort {
    this.#totals.streams++;
    const closed = () => {
      this.#totals.streams--;
    };
    if (kind === 'access-log') return new LogStream(this, stream.checkNode, closed);
    const load = new LoadStream(this, stream.checkNode, stream.send, () => {
      this.#loadStreams.delete(load);
      closed();
    });
    this.#loadStreams.add(load);
    return load;
  }

  /** One more stream of logs of this Envoy, or one less. */
  logs(name: string, change: 1 | -1): void {
    const node = this.node(name);
    node.logs += change;
    const begins = change === 1;
    if (node.logs === (begins ? 1 : 0)) this.#o.onLogs?.(name, begins);
    if (!begins) this.forget(name);
  }

  node(name: string): Node {
    let node = this.#nodes.get(name);
    if (node === undefined) {
      node = { logs: 0, unlogged: 0, open: new Map() };
      this.#nodes.set(name, node);
    }
    return node;
  }

  forget(name: string): void {
    const node = this.#nodes.get(name);
    if (node !== undefined && node.logs === 0 && node.open.size === 0) this.#nodes.delete(name);
  }

  /** @param node - id of the Envoy that tells it */
  entry(log: string, entry: HTTPAccessLogEntry, node: string): void {
    this.#totals.entries++;
    const member = entry.commonProperties?.customTags[memberTag] ?? '';
    const event = connectionOf(log, entry, node, member, this.#o);
    if (event !== undefined) this.#o.onConnection?.(event);
    // Decisions are made of beginnings and refusals. How a tunnel ended says nothing more: when it broke, its attempt does.
    const ended = log !== logNames.attempts && !isEstablished(entry) && statusOf(entry) < 400;
    if (ended || log === logNames.direct) return;
    if (log === logNames.border) {
      const call = borderCall(entry, probeHeader);
      const peer = this.#o.memberOf(call.identity);
      const service = this.#o.serviceOf(call.authority);
      if (peer === undefined || service === undefined) this.#totals.unknown++;
      else this.border.add(peer, service, call.status, call.probe, this.#o.clock.monotonicMs());
      return;
    }
    const outcome = log === logNames.attempts ? attemptOutcome(entry, member) : tunnelOutcome(entry, member);
    if (outcome === undefined) {
      const lost = log === logNames.tunnels ? lostCall(entry) : undefined;
      // By a rule or bound of our own: nobody was missing.
      const denied = lost?.tried === false && ['policy', 'source'].includes(event?.connection.reason ?? '');
      if (denied) this.#totals.denied++;
      else if (lost?.tried === true) this.#totals.lostTried++;
      else if (lost !== undefined) this.#totals.lostUntried++;
      return;
    }
    if (!this.#o.isMember(member)) this.#totals.unknown++;
    else this.#windows.add(outcome, this.#o.serviceOf(outcome.authority));
  }

  /** A message of a listener's own log. */
  door(log: string, message: Uint8Array, node: string): void {
    this.#denied(this.#doors.read(log, message, node));
  }

  #denied(connections: readonly Connection[]): void {
    for (const connection of connections) this.#o.onConnection?.({ key: '', begins: false, connection });
  }

  loads(name: string, loads: readonly PeerLoad[]): void {
    const node = this.node(name);
    const open = new Map<string, number>();
    const ours = loads.filter(({ cluster, member }) => isClassCluster(cluster) && this.#o.isMember(member));
    const busy = ours.filter(({ issued, succeeded, errors }) => issued + succeeded + errors > 0);
    if (node.logs > 0) node.unlogged = 0;
    else if (busy.length > 0) node.unlogged++;
    for (const load of ours) if (load.open > 0) open.set(load.member, (open.get(load.member) ?? 0) + load.open);
    node.open = open;
    if (node.unlogged < unloggedMin) return;
    for (const { member, issued, succeeded, errors } of busy)
      this.#windows.addReported(member, issued, succeeded, errors);
  }

  /** Sorted, so that the same set is the same question. */
  classes(): string[] {
    return [...this.#o.clusters()].filter(isClassCluster).sort();
  }

  #again(): void {
    this.#timer = this.#o.clock.after(this.#o.intervalMs ?? intervalDefaultMs, () => this.#tick());
  }

  #tick(): void {
    const nowMs = this.#o.clock.monotonicMs();
    const elapsedMs = nowMs - this.#tickedMs;
    this.#tickedMs = nowMs;
    this.#again();
    this.border.tick(nowMs, elapsedMs);
    this.#denied(this.#doors.tick(this.#o.clock.wallMs()));
    if (this.#loadStreams.size > 0) {
      const classes = this.classes();
      for (const stream of this.#loadStreams) stream.ask(classes);
    }
    this.#o.onWindows(this.#windows.take(nowMs, elapsedMs, this.#o.ejected, this.#o.ejecting()));
  }
}

/** The first message names the node; nothing of it is used before that is checked. */
class Named {
  readonly #checkNode: CheckNode;
  name: string | undefined;

  constructor(checkNode: CheckNode) {
    this.#checkNode = checkNode;
  }

  /** @throws IsthmusError when the node is not one of ours, or changes. */
  check(node: string | undefined): string {
    if (this.name === undefined) {
      const problem = this.#checkNode(node ?? '');
      if (problem !== undefined) throw problem;
      this.name = node ?? '';
    } else if (node !== undefined && node !== '' && node !== this.name) {
      const problem = this.#checkNode(node);
      if (problem !== undefined) throw problem;
    }
    return this.name;
  }
}

class LogStream implements ReportStreamPort {
  readonly #telemetry: Telemetry;
  readonly #named: Named;
  readonly #closed: () => void;
  #log = '';

  constructor(telemetry: Telemetry, checkNode: CheckNode, closed: () => void) {
    this.#telemetry = telemetry;
    this.#named = new Named(checkNode);
    this.#closed = closed;
  }

  receive(message: Uint8Array): void {
    const known = this.#named.name;
    if (known !== undefined && isDoor(this.#log)) {
      this.#telemetry.door(this.#log, message, known);
      return;
    }
    const { node, log, entries } = readLogMessage(message);
    const first = known === undefined;
    const name = this.#named.check(node);
    if (first) {
      this.#log = log ?? '';
      this.#telemetry.logs(name, 1);
    }
    if (isDoor(this.#log)) this.#telemetry.door(this.#log, message, name);
    for (const entry of entries) this.#telemetry.entry(this.#log, entry, name);
  }

  close(): void {
    const { name } = this.#named;
    if (name !== undefined) this.#telemetry.logs(name, -1);
    this.#closed();
  }
}

class LoadStream implements ReportStreamPort {
  readonly #telemetry: Telemetry;
  readonly #named: Named;
  readonly #send: (message: Uint8Array) => void;
  readonly #closed: () => void;
  #asked: string | undefined;

  constructor(telemetry: Telemetry, checkNode: CheckNode, send: (message: Uint8Array) => void, closed: () => void) {
    this.#telemetry = telemetry;
    this.#named = new Named(checkNode);
    this.#send = send;
    this.#closed = closed;
  }

  receive(message: Uint8Array): void {
    const { node, loads } = readLoadMessage(message);
    const first = this.#named.name === undefined;
    const name = this.#named.check(node);
    if (first) this.ask(this.#telemetry.classes());
    this.#telemetry.loads(name, loads);
  }

  /** Asks for loads of these clusters, unless that is what was asked. */
  ask(classes: readonly string[]): void {
    const question = classes.join(' ');
    if (this.#named.name === undefined || question === this.#asked) return;
    this.#asked = question;
    this.#send(loadRequest(classes, loadIntervalMs));
  }

  close(): void {
    const { name } = this.#named;
    if (name !== undefined) {
      this.#telemetry.node(name).open = new Map();
      this.#telemetry.forget(name);
    }
    this.#closed();
  }
}
