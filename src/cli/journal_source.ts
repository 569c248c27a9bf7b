/** Where the command line gets a journal from: an export given by name, else every controller that it can reach. */
import { readFileSync } from 'node:fs';
import { entryReport, filterOf } from '../controller/journaling.ts';
import { IsthmusError } from '../core/errors.ts';
import type {
  JournalAnchorsReport,
  JournalEntryReport,
  JournalExportReport,
  JournalListReport,
} from '../core/journal_report.ts';
import { limits } from '../core/limits.ts';
import type { Anchor } from '../journal/export.ts';
import { readExport } from '../journal/export_file.ts';
import { type ReachOptions, reachControllers } from './reach.ts';

export interface SourceOptions extends ReachOptions {
  readonly file?: string | undefined;
  readonly replica?: string | undefined;
}

const timeoutMs = 60_000;

/** Bytes of an export; it may be larger than what other commands read. @param log - whose command writes such a file */
export const readExportFile = (
  path: string,
  log: 'journal' | 'audit' = 'journal',
  bytesMax = 4 * limits.journalExportBytesMax,
): Buffer => {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path === '-' ? 0 : path);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'error';
    const hint = `write one: isthmus ${log} export > ${log}.jsonl`;
    throw new IsthmusError('config/file', `--file "${path}" cannot be read (${code})`, { hint, cause });
  }
  if (bytes.length > bytesMax) {
    throw new IsthmusError('files/invalid', `--file "${path}" has ${bytes.length} bytes: no export is that large`);
  }
  return bytes;
};

export interface Asked<T> {
  readonly controller: string;
  readonly answer: T;
}

type ReachedController = Awaited<ReturnType<typeof reachControllers>>[number];

/**
 * Each controller in turn: each replica has a log of its own. What one fails with is told where there are several.
 * @returns the last failure, for whoever got nothing
 */
export const eachReached = async (
  options: ReachOptions,
  use: (controller: ReachedController) => Promise<void>,
): Promise<unknown> => {
  const controllers = await reachControllers(options);
  let failure: unknown;
  for (const controller of controllers) {
    try {
      await use(controller);
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      if (controllers.length > 1) process.stderr.write(`${controller.name}: ${error.message}\n`);
      failure = error;
    } finally {
      controller.close();
    }
  }
  return failure;
};

/** The same question to every controller. At least one answers, or its error is thrown. */
const askAll = async <T>(options: SourceOptions, path: string): Promise<readonly Asked<T>[]> => {
  const answers: Asked<T>[] = [];
  const failure = await eachReached(options, async (controller) => {
    answers.push({ controller: controller.name, answer: (await controller.get(path, timeoutMs)) as T });
  });
  if (answers.length === 0) throw failure;
  return answers;
};

export const noReplica = (replica: string | undefined, there: readonly string[]): IsthmusError =>
  new IsthmusError('usage/invalid', `--replica "${replica}" did not answer`, { hint: `there are ${there.join(', ')}` });

export const ofReplica = <T extends { readonly replica: string }>(
  asked: readonly Asked<T>[],
  replica?: string,
): readonly T[] => {
  const answers = asked.map(({ answer }) => answer);
  if (replica === undefined) return answers;
  const found = answers.filter((answer) => answer.replica === replica);
  if (found.length > 0) return found;
  throw noReplica(
    replica,
    answers.map((answer) => answer.replica),
  );
};

/** Lists of entries, one a replica. */
export const readLists = async (
  options: SourceOptions,
  query: URLSearchParams,
): Promise<readonly JournalListReport[]> => {
  if (options.file === undefined) {
    return ofReplica(await askAll<JournalListReport>(options, `/v1/journal?${query}`), options.replica);
  }
  const file = readExportFile(options.file);
  const filter = filterOf(query);
  if (!filter.ok) throw filter.error;
  const { sinceMs, untilMs, chain, match, limit } = filter.value;
  const entries = readExport(file)
    .entries.filter(({ entry }) => chain === undefined || entry.chain === chain)
    .filter(({ entry }) => entry.wallMs >= (sinceMs ?? 0) && entry.wallMs <= (untilMs ?? Number.POSITIVE_INFINITY))
    .filter((found) => match === undefined || match(found))
    .slice(-(limit ?? limits.journalListMax));
  const replicas = [...new Set(entries.map(({ entry }) => entry.replica))];
  const { failure, lost, spooled } = { failure: null, lost: 0, spooled: 0 };
  return replicas.map((replica) => {
    const own = entries.filter(({ entry }) => entry.replica === replica).map(entryReport);
    const at = new Date().toISOString();
    const member = own[0]?.member ?? '';
    return {
      ...{ apiVersion: 'isthmus.dev/v1', kind: 'JournalList', member, replica, at, head: null },
      ...{ spooled, lost, failure, problems: [], entries: own },
    } as const;
  });
};

export const exportQuery = (more: Readonly<Record<string, string | number | undefined>>): URLSearchParams => {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(more)) if (value !== undefined) query.set(name, String(value));
  return query;
};

/** Exports, one a replica. */
export const readExports = async (
  options: SourceOptions,
  query: URLSearchParams,
): Promise<readonly JournalExportReport[]> =>
  ofReplica(await askAll<JournalExportReport>(options, `/v1/journal/export?${query}`), options.replica);

export const readAnchors = async (options: ReachOptions): Promise<readonly JournalAnchorsReport[]> =>
  (await askAll<JournalAnchorsReport>(options, '/v1/journal/anchors')).map(({ answer }) => answer);

/** The export that has one step: of each replica that has such an entry. */
export const readSteps = async (
  options: SourceOptions,
  sequence: number,
  chain: string | undefined,
): Promise<readonly Buffer[]> => {
  if (options.file !== undefined) return [readExportFile(options.file)];
  const exports = await readExports(options, exportQuery({ sequence, chain }));
  return exports.map(({ text }) => Buffer.from(text));
};

export interface StepOf {
  readonly entry: JournalEntryReport;
  /** All entries of its step, in order. */
  readonly step: readonly JournalEntryReport[];
  /** Compressed; undefined: they are not in the export. */
  readonly inputs: Uint8Array | undefined;
}

/** One entry of an export, in each chain that has it, and what belongs to it. */
export const stepsIn = (file: Uint8Array, sequence: number, chain?: string): readonly StepOf[] => {
  const { entries, inputs } = readExport(file);
  const wanted = entries.filter(
    ({ entry }) => entry.sequence === sequence && (chain === undefined || entry.chain === chain),
  );
  return wanted.map((found) => {
    const { chain: own, step } = found.entry;
    const all = entries.filter(
      ({ entry }) => entry.chain === own && entry.sequence >= step.first && entry.sequence < step.first + step.count,
    );
    const digest = found.entry.inputs?.digest;
    return {
      entry: entryReport(found),
      step: all.map(entryReport),
      inputs: digest === undefined ? undefined : inputs.get(digest),
    };
  });
};

const isAnchor = (value: unknown): value is Anchor => {
  const { chain, sequence, hash, source } = (value ?? {}) as Record<string, unknown>;
  return (
    typeof chain === 'string' &&
    Number.isSafeInteger(sequence) &&
    typeof hash === 'string' &&
    typeof source === 'string'
  );
};

/** From a file that `isthmus journal anchors -o json` wrote. */
export const readAnchorFile = (path: string): readonly Anchor[] => {
  const bad = (why: string, cause?: unknown) =>
    new IsthmusError('files/invalid', `--anchors "${path}" ${why}`, {
      hint: 'write it at a peer: isthmus journal anchors -o json > anchors.json',
      cause,
    });
  try {
    const value = JSON.parse(readFileSync(path, 'utf8')) as { items?: unknown[]; anchors?: unknown[] };
    const lists = (value.items ?? [value]) as { anchors?: unknown[] }[];
    const anchors = lists.flatMap((list) => list.anchors ?? []);
    if (anchors.length === 0 || !anchors.every(isAnchor)) throw bad('holds no anchors');
    return anchors;
  } catch (error) {
    if (error instanceof IsthmusError) throw error;
    throw bad('cannot be read', error);
  }
};
