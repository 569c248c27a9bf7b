/**
 * The entries and inputs in an export, for showing and replaying them. An entry that its seal does not vouch for is marked; what
 * verification says of the whole is another question.
 */
import { readInputs } from './inputs.ts';
import { parseLine, splitLines, typeOf } from './lines.ts';
import { entriesOf, type Found, keyFromHex, readSegmentHead } from './segment.ts';

export interface ExportContent {
  /** In the order of the file. */
  readonly entries: readonly Found[];
  /** Compressed, by digest; each matches its digest. */
  readonly inputs: ReadonlyMap<string, Uint8Array>;
}

export const readExport = (file: Uint8Array): ExportContent => {
  const entries: Found[] = [];
  const inputs = new Map<string, Uint8Array>();
  let key: ReturnType<typeof keyFromHex>;
  let open: ReturnType<typeof splitLines>['lines'][number][] = [];
  const close = (seal: (typeof open)[number] | undefined): void => {
    entries.push(...entriesOf({ lines: open, seal, end: 0 }, key));
    open = [];
  };
  for (const line of splitLines(file).lines) {
    const type = typeOf(line);
    if (type === 'seal') close(line);
    else if (type === 'entry') open.push(line);
    else if (type === 'inputs') {
      const read = readInputs(line);
      if (read?.data !== undefined) inputs.set(read.digest, read.data);
    } else {
      close(undefined);
      if (type === 'segment') key = keyFromHex(readSegmentHead(line)?.publicKey);
      if (type === 'journal') key = keyFromHex(parseLine(line)?.['chainKey']);
    }
  }
  close(undefined);
  return { entries, inputs };
};
