/**
 * The border audit of this replica, put together: what gateways tell of connections goes into a chain of its own, in files of its own.
 *
 * It is the journal's chain, with other entries, and it never holds anything back: connections wait in memory for a moment, are written
 * many at a time, and when the disk does not take them the oldest are dropped and counted in a signed gap. Each replica audits the
 * gateways that report to it. Entries are read by the command line and not here: searching them would hold up the loop.
 */
import type { KeyObject } from 'node:crypto';
import type { Connection } from '../audit/connection.ts';
import { withoutTunnel } from '../audit/connection.ts';
import { Folding } from '../audit/folding.ts';
import { OpenTunnels } from '../audit/open_tunnels.ts';
import type { AuditPartAnswer, AuditReport } from '../core/audit_report.ts';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { IsthmusError, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ProblemReport } from '../core/report.ts';
import { exportPart } from '../journal/export_part.ts';
import type { JournalFiles } from '../journal/files.ts';
import { Journal, type JournalEvent, type JournalOptions } from '../journal/journal.ts';
import { JournalReader } from '../journal/reading.ts';
import { json, type Reply, type Route } from '../ops/http.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import type { ConnectionEvent } from '../telemetry/connections.ts';
import { countOf, type HeldAnchor } from './journaling.ts';

export interface AuditingOptions {
  readonly member: string;
  readonly replica: string;
  /** The member's record key: Ed25519, private. */
  readonly recordKey: KeyObject;
  /** Of the audit alone. */
  readonly files: JournalFiles;
  readonly enabled: boolean;
  /** Of all files together; the oldest go. */
  readonly bytesMax: number;
  readonly version: string;
  readonly epoch: () => bigint;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  readonly metrics: Metrics;
  /** For tests. */
  readonly bounds?: JournalOptions['bounds'];
}

/** What comes within this shares a write, unless it is too much for one. */
const flushMs = 1_000;

export class Auditing {
  readonly journal: Journal;
  readonly #o: AuditingOptions;
  readonly #reader: JournalReader;
  readonly #tunnels = new OpenTunnels(limits.auditOpenAfterMs, limits.auditTunnelsWaitingMax);
  readonly #folding = new Folding(limits.auditFailuresPerSourceMax, limits.auditSourcesMax);
  readonly #sources = new Set<string>();
  #ready: Connection[] = [];
  #opened: Promise<void> | undefined;
  #timer: Timer | undefined;
  #lostTold = 0;

  constructor(options: AuditingOptions) {
    this.#o = options;
    const { member, replica, recordKey: key, files, bytesMax, version, epoch, clock, rng } = options;
    this.journal = new Journal({
      ...{ member, replica, key, log: 'audit', files, clock, rng, version, epoch, whenUnwritable: 'spool' },
      onEvent: (event) => this.#told(event),
      bounds: {
        segmentBytesMax: limits.auditSegmentBytesMax,
        entriesBytesMax: bytesMax,
        freeBytesMin: limits.auditFreeBytesMin,
        entriesMax: limits.auditSpoolEntriesMax,
        batchEntriesMax: limits.auditBatchEntriesMax,
        ...options.bounds,
      },
    });
    this.#reader = new JournalReader(files, this.journal.disk);
  }

  /** Begins. Nothing waits for it, and it never rejects: a disk that cannot be read is told, and tried again. */
  open(): Promise<void> {
    if (!this.#o.enabled) return Promise.resolve();
    this.#opened ??= this.journal.open().then(() => this.#again());
    return this.#opened;
  }

  /** A connection has begun, or ended. Quick, and never fails. */
  connection({ key, begins, connection }: ConnectionEvent): void {
    if (!this.#o.enabled) return;
    if (begins) {
      const told = this.#tunnels.opened(key, connection, this.#o.clock.monotonicMs());
      if (told !== undefined) this.#add(told);
      return;
    }
    this.#tunnels.ended(key);
    this.#count(connection);
    const own = this.#folding.add(connection);
    if (own !== undefined) this.#add(own);
  }

  /** An Envoy begins to tell of its connections here, or does so no more. */
  source(nodeId: string, begins: boolean): void {
    if (!this.#o.enabled) return;
    if (begins) this.#sources.add(nodeId);
    else this.#sources.delete(nodeId);
    // What was told before stands before it.
    this.#flush();
    this.journal.record('source', [{ envoy: nodeId, begins }]);
  }

  /** Once a second or so. @param anchors - what manifests said of audits */
  gauge(anchors: readonly HeldAnchor[]): void {
    for (const anchor of anchors) if (anchor.of === this.#o.member) this.journal.witness(anchor);
    const { metrics } = this.#o;
    const { spooled, lostEver } = this.journal.state;
    metrics.set('isthmus_audit_waiting', spooled + this.#ready.length);
    if (lostEver > this.#lostTold) metrics.add('isthmus_audit_lost_total', {}, lostEver - this.#lostTold);
    this.#lostTold = lostEver;
  }

  /** Standing problems, for `status`. */
  problems(): readonly IsthmusError[] {
    const { failure, problems, lost, spooled } = this.journal.state;
    const standing = problems.map(ofAudit);
    if (failure !== undefined) standing.push(ofAudit(failure));
    if (lost > 0 || spooled > limits.auditSpoolEntriesMax / 2) {
      const text = `the border audit falls behind: ${spooled} entries wait in memory, ${lost} are lost`;
      const hint = 'look at the volume of state.dir; what is lost is counted in the audit itself';
      standing.push(new IsthmusError('audit/behind', text, { hint }));
    }
    return standing;
  }

  /** Writes what there is, tunnels that stand included, and stops. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    if (this.#opened === undefined) return;
    await this.#opened;
    this.#timer?.cancel();
    for (const connection of this.#tunnels.due()) this.#add(connection);
    this.#flush();
    await this.journal.close();
  }

  /** GET /v1/audit and /v1/audit/part. */
  readonly route: Route = (path, query) => {
    if (path === '/v1/audit') return this.#report();
    return path === '/v1/audit/part' ? this.#part(query) : undefined;
  };

  #add(connection: Connection): void {
    this.#ready.push(connection);
    if (this.#ready.length >= limits.auditBatchEntriesMax) this.#flush();
  }

  #flush(): void {
    const ready = this.#ready;
    this.#ready = [];
    this.journal.record('connection', ready);
  }

  #again(): void {
    this.#timer = this.#o.clock.after(flushMs, () => {
      for (const connection of this.#tunnels.due(this.#o.clock.monotonicMs())) this.#add(connection);
      for (const connection of this.#folding.take()) this.#add(connection);
      this.#flush();
      this.#again();
    });
  }

  #count(connection: Connection): void {
    const { side, result, reason = '' } = connection;
    this.#o.metrics.add('isthmus_border_connections_total', { side, result });
    if (withoutTunnel(connection)) this.#o.metrics.add('isthmus_border_denied_total', { side, reason });
  }

  async #report(): Promise<Reply> {
    const { member, replica, enabled, clock } = this.#o;
    const { head, spooled, lostEver } = this.journal.state;
    const files = await this.#reader.list('entries');
    const report: AuditReport = {
      apiVersion: 'isthmus.dev/v1',
      kind: 'Audit',
      member,
      replica,
      at: new Date(clock.wallMs()).toISOString(),
      enabled,
      head: head ?? null,
      waiting: spooled + this.#ready.length,
      lost: lostEver,
      sources: [...this.#sources].sort(),
      problems: this.problems().map(problemReport),
      parts: files.map(({ chain, first, bytes }) => ({ chain, first, bytes })),
    };
    return json(report);
  }

  async #part(query: URLSearchParams): Promise<Reply> {
    const [first, since, until] = ['first', 'since', 'until'].map((field) => orThrow(countOf(query, field)));
    const { member, replica, recordKey: key, clock, version } = this.#o;
    const at = { chain: query.get('chain') ?? '', first: first ?? 0 };
    const options = { sinceMs: since, untilMs: until, wallMs: clock.wallMs(), version };
    const writer = { member, replica, key, log: 'audit' } as const;
    const text = orThrow(await exportPart(writer, this.journal.disk, this.#reader, at, options));
    const answer: AuditPartAnswer = { apiVersion: 'isthmus.dev/v1', kind: 'AuditPart', member, replica, text };
    return { status: 200, type: 'application/json', body: JSON.stringify(answer) };
  }

  #told(event: JournalEvent): void {
    const { log, metrics } = this.#o;
    if (event.kind === 'written') {
      metrics.add('isthmus_audit_entries_total', {}, event.entries);
      return;
    }
    const { error } = event;
    metrics.add('isthmus_audit_errors_total', { code: error.code });
    if (event.kind === 'problem') log('error', 'the border audit is not as it was written', { error });
    else if (!event.again) log('error', 'the border audit cannot be written', { error });
  }
}

const orThrow = <T>(result: Result<T>): T => {
  if (result.ok) return result.value;
  throw result.error;
};

/** The chain does not say of itself what it is of. */
const ofAudit = (error: IsthmusError): IsthmusError =>
  new IsthmusError(error.code, `border audit: ${error.message}`, {
    ...(error.hint === undefined ? {} : { hint: error.hint.replaceAll('isthmus journal', 'isthmus audit') }),
    cause: error,
  });

const problemReport = ({ code, message, hint }: IsthmusError): ProblemReport =>
  hint === undefined ? { code, message } : { code, message, hint };
