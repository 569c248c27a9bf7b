/**
 * The journal of this replica, put together: the files, the chain, what the command line asks of it.
 */
import type { KeyObject } from 'node:crypto';
import type { Clock, Rng } from '../core/clock.ts';
import { fail, type IsthmusError, ok, type Result } from '../core/errors.ts';
import type {
  JournalAnchorsReport,
  JournalEntryAnswer,
  JournalEntryReport,
  JournalExportReport,
  JournalListReport,
} from '../core/journal_report.ts';
import { limits } from '../core/limits.ts';
import type { ProblemReport } from '../core/report.ts';
import type { Decision } from '../failover/decision.ts';
import { type Anchor, type ExportFilter, exportChain } from '../journal/export.ts';
import { type Appended, Journal, type JournalEvent } from '../journal/journal.ts';
import { type EntryFilter, JournalReader } from '../journal/reading.ts';
import type { Found } from '../journal/segment.ts';
import { json, type Reply, type Route } from '../ops/http.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import { DiskJournalFiles } from '../store/journal_files.ts';
import { captureStep, type StepInputs } from './replay.ts';

/** A journal head that a manifest carried, and whose journal it is. */
export interface HeldAnchor extends Anchor {
  readonly of: string;
}

export interface JournalingOptions {
  readonly member: string;
  readonly replica: string;
  /** The member's record key: Ed25519, private. */
  readonly recordKey: KeyObject;
  /** Of the journal alone; made when missing. */
  readonly dir: string;
  readonly version: string;
  /** Of the writer's term; 0 before the first. */
  readonly epoch: () => bigint;
  readonly whenUnwritable: 'refuse' | 'spool';
  /** What manifests, our own and those of peers, said of journals. */
  readonly anchors: () => readonly HeldAnchor[];
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  readonly metrics: Metrics;
}

export class Journaling {
  readonly journal: Journal;
  readonly reader: JournalReader;
  readonly #o: JournalingOptions;

  constructor(options: JournalingOptions) {
    this.#o = options;
    const { member, replica, recordKey, dir, version, epoch, whenUnwritable, clock, rng } = options;
    const files = new DiskJournalFiles({ dir, clock });
    const onEvent = (event: JournalEvent): void => this.#told(event);
    this.journal = new Journal({
      ...{ member, replica, key: recordKey, files, clock, rng, version, epoch, whenUnwritable, onEvent },
    });
    this.reader = new JournalReader(files, this.journal.disk);
  }

  /** Before the first decision. Never rejects: a disk that cannot be read is told, and tried again. */
  open(): Promise<void> {
    return this.journal.open();
  }

  /** See `Journal.append`: the plan takes effect once this has resolved, and not at all when it rejects. */
  append(decisions: readonly Decision[], inputs: StepInputs): Promise<Appended> {
    // The steps of a drain carry the name of who asked for it long ago: only what is asked for now can be refused.
    const asker = inputs.signals.commands[0]?.author ?? 'controller';
    return this.journal.append(decisions, this.#captured(inputs, decisions), asker);
  }

  /** A step whose inputs cannot be written down is still a decision: no failover stops for it. */
  #captured(inputs: StepInputs, decisions: readonly Decision[]): unknown {
    try {
      return captureStep(inputs, decisions, this.#o.version);
    } catch (error) {
      this.#o.log('error', 'the inputs of a step cannot be kept', { error: error as Error });
      return undefined;
    }
  }

  /** Once a second or so: what waits, and whether manifests name entries that this disk has no more. */
  gauge(): void {
    for (const anchor of this.#o.anchors()) if (anchor.of === this.#o.member) this.journal.witness(anchor);
    this.#o.metrics.set('isthmus_journal_spooled', this.journal.state.spooled);
  }

  close(): Promise<void> {
    return this.journal.close();
  }

  /** Standing problems, for `status`. */
  problems(): readonly IsthmusError[] {
    const { failure, problems } = this.journal.state;
    return failure === undefined ? problems : [...problems, failure];
  }

  /** GET /v1/journal, and below it entry, export, anchors. */
  readonly route: Route = (path, query) => {
    if (path === '/v1/journal') return this.#list(query);
    if (path === '/v1/journal/entry') return this.#entry(query);
    if (path === '/v1/journal/export') return this.#export(query);
    return path === '/v1/journal/anchors' ? json(this.#anchors()) : undefined;
  };

  async #list(query: URLSearchParams): Promise<Reply> {
    const filter = filterOf(query);
    if (!filter.ok) throw filter.error;
    const { member, replica, clock } = this.#o;
    const { head, spooled, lost, failure, problems } = this.journal.state;
    const entries = await this.reader.entries(filter.value);
    const report: JournalListReport = {
      apiVersion: 'isthmus.dev/v1',
      kind: 'JournalList',
      member,
      replica,
      at: new Date(clock.wallMs()).toISOString(),
      head: head ?? null,
      spooled,
      lost,
      failure: failure === undefined ? null : problemReport(failure),
      problems: problems.map(problemReport),
      entries: entries.map(entryReport),
    };
    return json(report);
  }

  async #entry(query: URLSearchParams): Promise<Reply> {
    const sequence = countOf(query, 'sequence');
    if (!sequence.ok) throw sequence.error;
    const found = await this.reader.find(sequence.value ?? 0, query.get('chain') ?? undefined);
    if (!found.ok) throw found.error;
    const answer: JournalEntryAnswer = {
      apiVersion: 'isthmus.dev/v1',
      kind: 'JournalEntry',
      entry: entryReport(found.value),
    };
    return json(answer);
  }

  async #export(query: URLSearchParams): Promise<Reply> {
    const text = await this.exported(query);
    if (!text.ok) throw text.error;
    const { member, replica } = this.#o;
    const kind = 'JournalExport' as const;
    const report: JournalExportReport = { apiVersion: 'isthmus.dev/v1', kind, member, replica, text: text.value };
    return { status: 200, type: 'application/json', body: JSON.stringify(report) };
  }

  /** The newest chain, the one asked for, or `all` of them, one after the other. */
  async exported(query: URLSearchParams): Promise<Result<string>> {
    const [since, until, sequence] = [countOf(query, 'since'), countOf(query, 'until'), countOf(query, 'sequence')];
    for (const field of [since, until, sequence]) if (!field.ok) return field;
    const filter: ExportFilter = {
      sinceMs: since.ok ? since.value : undefined,
      untilMs: until.ok ? until.value : undefined,
      sequence: sequence.ok ? sequence.value : undefined,
    };
    const known = await this.reader.chains();
    const wanted = query.get('chain') ?? known.at(-1);
    const chains = wanted === 'all' ? known : known.filter((chain) => chain === wanted);
    if (chains.length === 0) {
      return fail(
        'journal/not-found',
        `this journal has no ${wanted === undefined ? 'entries' : `chain "${wanted}"`} yet`,
      );
    }
    const { member, replica, recordKey, clock, version } = this.#o;
    const anchors = this.#o.anchors().filter(({ of }) => of === member);
    const pieces: string[] = [];
    let bytes = 0;
    for (const chain of chains) {
      const inputs = query.get('inputs') !== 'no';
      const options = { chain, filter, inputs, anchors: anchors.map(bare), wallMs: clock.wallMs(), version };
      const piece = await exportChain({ member, replica, key: recordKey }, this.journal.disk, this.reader, options);
      if (!piece.ok) return piece;
      bytes += piece.value.length;
      if (bytes > limits.journalExportBytesMax) {
        return fail('usage/invalid', `all chains together have more than ${limits.journalExportBytesMax} bytes`, {
          hint: 'ask for one with --chain, or for less with --since',
        });
      }
      pieces.push(piece.value.toString('utf8'));
    }
    return ok(pieces.join(''));
  }

  #anchors(): JournalAnchorsReport {
    const { member, anchors } = this.#o;
    return { apiVersion: 'isthmus.dev/v1', kind: 'JournalAnchors', member, anchors: [...anchors()] };
  }

  #told(event: JournalEvent): void {
    const { log, metrics } = this.#o;
    if (event.kind === 'written') {
      metrics.add('isthmus_journal_entries_total', {}, event.entries);
      return;
    }
    const { error } = event;
    metrics.add('isthmus_journal_errors_total', { code: error.code });
    if (event.kind === 'problem') log('error', 'the journal is not as it was written', { error });
    else if (!event.again) log('error', 'the journal cannot be written', { error });
  }
}

const bare = ({ chain, sequence, hash, source }: HeldAnchor): Anchor => ({ chain, sequence, hash, source });

const problemReport = ({ code, message, hint }: IsthmusError): ProblemReport =>
  hint === undefined ? { code, message } : { code, message, hint };

export const entryReport = ({ entry, hash, intact }: Found): JournalEntryReport => {
  const { sequence, kind, chain, member, replica, epoch, wallMs, monotonicMs, previous, step, inputs, body } = entry;
  return {
    ...{
      sequence,
      kind,
      chain,
      member,
      replica,
      epoch,
      at: new Date(wallMs).toISOString(),
      monotonicMs,
      hash,
      previous,
    },
    ...{ intact, step, body },
    inputs: inputs === undefined ? null : { digest: inputs.digest, bytes: inputs.bytes, left: inputs.left ?? null },
  };
};

export const countOf = (query: URLSearchParams, field: string): Result<number | undefined> => {
  const text = query.get(field);
  if (text === null || text === '') return ok(undefined);
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return ok(value);
  return fail('usage/invalid', `${field} "${text}" is not a whole number`, { subject: { field, value: text } });
};

/** Fields of a decision that are asked for by their value. */
export const matchFields = ['service', 'member', 'rule', 'author'] as const;

export const filterOf = (query: URLSearchParams): Result<EntryFilter> => {
  const [since, until, limit] = [countOf(query, 'since'), countOf(query, 'until'), countOf(query, 'limit')];
  for (const field of [since, until, limit]) if (!field.ok) return field;
  const wanted = matchFields.flatMap((field) => {
    const value = query.get(field);
    return value === null || value === '' ? [] : [[field, value] as const];
  });
  const kind = query.get('kind') ?? '';
  return ok({
    sinceMs: since.ok ? since.value : undefined,
    untilMs: until.ok ? until.value : undefined,
    limit: Math.min(limits.journalListMax, (limit.ok ? limit.value : undefined) ?? limits.journalListMax),
    chain: query.get('chain') ?? undefined,
    match: (found) => matchesFields(found, kind, wanted),
  });
};

const matchesFields = (
  { entry }: Found,
  kind: string,
  wanted: readonly (readonly [(typeof matchFields)[number], string])[],
): boolean => {
  const body = (typeof entry.body === 'object' && entry.body !== null ? entry.body : {}) as Record<string, unknown>;
  if (kind !== '' && entry.kind !== kind && body['kind'] !== kind) return false;
  return wanted.every(([field, value]) => body[field] === value);
};
