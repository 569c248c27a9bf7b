/** `isthmus journal list|show|verify|export|replay|anchors`: why traffic moved, and whether the account of it is whole. */
import { type Replay, replayStep } from '../controller/replay.ts';
import { IsthmusError } from '../core/errors.ts';
import type { Anchor } from '../journal/export.ts';
import { unpackInputs } from '../journal/inputs.ts';
import { verifyExport } from '../journal/verify.ts';
import { version } from '../version.ts';
import {
  exportQuery,
  readAnchorFile,
  readAnchors,
  readExportFile,
  readExports,
  readLists,
  readSteps,
  type SourceOptions,
  type StepOf,
  stepsIn,
} from './journal_source.ts';
import { renderEntry, renderList, renderVerification } from './journal_text.ts';
import { type Format, mark, print, printData, table } from './output.ts';
import { timeOf } from './times.ts';

interface RangeOptions extends SourceOptions {
  readonly since?: string;
  readonly until?: string;
  readonly chain?: string;
}

const rangeOf = ({ since, until, chain }: RangeOptions): Record<string, string | number | undefined> => {
  const now = Date.now();
  const [from, to] = [
    since === undefined ? undefined : timeOf('--since', since, now),
    until === undefined ? undefined : timeOf('--until', until, now),
  ];
  if (from !== undefined && to !== undefined && from > to) {
    throw new IsthmusError('usage/invalid', `--since "${since}" is after --until "${until}"`);
  }
  return { since: from, until: to, chain };
};

const isData = (output: Format): output is 'json' | 'yaml' => output === 'json' || output === 'yaml';

export interface ListOptions extends RangeOptions {
  readonly service?: string;
  readonly member?: string;
  readonly kind?: string;
  readonly rule?: string;
  readonly author?: string;
  readonly limit: string;
  readonly output: Format;
}

const countOf = (option: string, text: string, max: number): number => {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new IsthmusError('usage/invalid', `${option} "${text}" is not a number from 1 to ${max}`);
};

export const list = async (options: ListOptions): Promise<void> => {
  const { service, member, kind, rule, author, output } = options;
  const limit = countOf('--limit', options.limit, 1_000);
  const lists = await readLists(
    options,
    exportQuery({ ...rangeOf(options), service, member, kind, rule, author, limit }),
  );
  if (!isData(output)) print(renderList(lists, output === 'wide'));
  else printData(output, lists.length === 1 ? lists[0] : { apiVersion: 'isthmus.dev/v1', kind: 'List', items: lists });
};

export interface EntryOptions extends SourceOptions {
  readonly chain?: string;
  readonly output: Format;
}

const sequenceOf = (text: string): number => countOf('entry', text, Number.MAX_SAFE_INTEGER);

const stepsOf = async (text: string, options: EntryOptions): Promise<readonly StepOf[]> => {
  const sequence = sequenceOf(text);
  const files = await readSteps(options, sequence, options.chain);
  const found = files.flatMap((file) => stepsIn(file, sequence, options.chain));
  if (found.length > 0) return found;
  throw new IsthmusError('journal/not-found', `there is no entry ${sequence}`, { hint: 'isthmus journal list' });
};

export const show = async (sequence: string, options: EntryOptions): Promise<void> => {
  const found = await stepsOf(sequence, options);
  if (isData(options.output)) {
    const items = found.map(({ entry, step }) => ({ apiVersion: 'isthmus.dev/v1', kind: 'JournalEntry', entry, step }));
    printData(options.output, items.length === 1 ? items[0] : { apiVersion: 'isthmus.dev/v1', kind: 'List', items });
    return;
  }
  print(found.map(({ entry, step }) => renderEntry(entry, step)).join('\n\n'));
};

export interface ExportOptions extends RangeOptions {
  readonly inputs: boolean;
}

/** The bytes go to stdout as they are: redirect them into a file. */
export const exportJournal = async (options: ExportOptions): Promise<void> => {
  const query = exportQuery({ ...rangeOf(options), inputs: options.inputs ? undefined : 'no' });
  for (const { text } of await readExports(options, query)) print(text);
};

export interface VerifyOptions extends RangeOptions {
  readonly key?: string;
  readonly anchors?: string;
  readonly output: Format;
}

/** Of a file: nothing but the file is asked. Of controllers: their exports, and what all of them remember of each other. */
const toVerify = async (
  options: VerifyOptions,
): Promise<{ readonly file: Buffer; readonly anchors: readonly Anchor[] }> => {
  // Border audits have theirs in the same manifests.
  const ofJournals = (anchors: readonly Anchor[]) => anchors.filter(({ log }) => log === undefined);
  const given = ofJournals(options.anchors === undefined ? [] : readAnchorFile(options.anchors));
  if (options.file !== undefined) return { file: readExportFile(options.file), anchors: given };
  const query = exportQuery({ ...rangeOf(options), chain: options.chain ?? 'all' });
  const exports = await readExports(options, query);
  const remembered = (await readAnchors(options)).flatMap(({ anchors }) => anchors);
  const file = Buffer.from(exports.map(({ text }) => text).join(''));
  return { file, anchors: [...given, ...ofJournals(remembered)] };
};

export const verify = async (options: VerifyOptions): Promise<void> => {
  const { file, anchors } = await toVerify(options);
  const result = verifyExport(file, { expectKey: options.key?.toLowerCase(), anchors });
  if (isData(options.output)) {
    printData(options.output, { apiVersion: 'isthmus.dev/v1', kind: 'JournalVerification', ...result });
  } else print(renderVerification(result));
  if (!result.holds) process.exitCode = 79;
};

interface ReplayAnswer extends Omit<Replay, 'covers'> {
  readonly sequence: number;
  readonly chain: string;
}

const replayOf = ({ entry, step, inputs }: StepOf): ReplayAnswer => {
  const { sequence, chain } = entry;
  const cannot = (why: string, hint: string): IsthmusError =>
    new IsthmusError('journal/not-found', `entry ${sequence} cannot be replayed: ${why}`, { hint });
  if (entry.inputs === null) throw cannot('it has no inputs', 'isthmus journal list --kind shift shows such as have');
  if (entry.inputs.left !== null)
    throw cannot(`its inputs are ${entry.inputs.left}`, 'isthmus journal show says what is known');
  if (inputs === undefined)
    throw cannot('its inputs are no longer here', 'export with inputs, before they are removed for want of room');
  if (!step.every(({ intact }) => intact) || step.length !== entry.step.count) {
    throw new IsthmusError(
      'journal/broken',
      `the entries of its step do not hold, so there is nothing to compare with`,
      {
        hint: 'isthmus journal verify',
      },
    );
  }
  const value = unpackInputs(inputs);
  if (!value.ok) throw value.error;
  const replay = replayStep(
    value.value,
    step.map(({ body }) => body),
  );
  if (!replay.ok) throw replay.error;
  const { covers, ...answer } = replay.value;
  if (!covers((entry.body as { service?: string }).service)) {
    throw cannot(
      'its step decided about so many services that this one’s inputs were left out',
      'replay another entry of the step',
    );
  }
  return { sequence, chain, ...answer };
};

const shown = (value: unknown): string => (typeof value === 'string' ? value : (JSON.stringify(value) ?? 'nothing'));

const renderReplay = (answer: ReplayAnswer, step: StepOf): string => {
  const { first } = step.entry.step;
  const count = step.step.length;
  const lines: string[] = [];
  if (answer.same) {
    const others =
      count === 1 ? '' : `, and so ${count === 2 ? 'is the other one' : `are the ${count - 1} others`} of its step`;
    lines.push(`${mark('ok')} same decision: entry ${answer.sequence}${others}`);
  } else {
    lines.push(`${mark('fail')} another decision than entry ${answer.sequence} has, from the same inputs:`);
    const rows = answer.differences.map(({ index, field, recorded, replayed }) => [
      index < count ? String(first + index) : 'more',
      field,
      shown(recorded),
      shown(replayed),
    ]);
    lines.push(table(['SEQ', 'FIELD', 'JOURNAL', 'REPLAY'], rows));
  }
  if (answer.program !== version)
    lines.push(`note: it was decided by version ${answer.program}, and replayed by ${version}`);
  if (answer.leftOut > 0) lines.push(`note: ${answer.leftOut} services that it did not decide about were not kept`);
  return lines.join('\n');
};

export const replay = async (sequence: string, options: EntryOptions): Promise<void> => {
  const steps = await stepsOf(sequence, options);
  const answers = steps.map((step) => ({ step, answer: replayOf(step) }));
  if (isData(options.output)) {
    const items = answers.map(({ answer }) => ({ apiVersion: 'isthmus.dev/v1', kind: 'JournalReplay', ...answer }));
    printData(options.output, items.length === 1 ? items[0] : { apiVersion: 'isthmus.dev/v1', kind: 'List', items });
  } else print(answers.map(({ answer, step }) => renderReplay(answer, step)).join('\n'));
  if (answers.some(({ answer }) => !answer.same)) process.exitCode = 79;
};

export const anchors = async (options: SourceOptions & { readonly output: Format }): Promise<void> => {
  const reports = await readAnchors(options);
  if (isData(options.output)) {
    printData(
      options.output,
      reports.length === 1 ? reports[0] : { apiVersion: 'isthmus.dev/v1', kind: 'List', items: reports },
    );
    return;
  }
  const rows = reports.flatMap(({ anchors: held }) =>
    held.map((a) => [a.of, a.log ?? 'journal', a.chain, String(a.sequence), a.source, a.hash]),
  );
  print(rows.length === 0 ? 'no anchors' : table(['OF', 'LOG', 'CHAIN', 'SEQ', 'HELD BY', 'HASH'], rows));
};
