/**
 * Checks an export by itself: no controller, no store, no network.
 *
 * Three things have to agree: the signatures over the entries (seals), the signature over the file (its end), and what others hold
 * (anchors, from manifests). The first names what was changed, the second that something was, the third what the key's own holder did.
 */
import { createHash, type KeyObject } from 'node:crypto';
import { type ChainCheck, checkChain, type Numbered } from './chain_check.ts';
import type { Entry, LogName } from './entry.ts';
import { type Anchor, type ExportHead, fingerprintOf, isWhole } from './export.ts';
import { entriesShown, Findings, type SectionReport, type Verification } from './finding.ts';
import { checkInputs } from './inputs_check.ts';
import { type Line, lineSigned, parseLine, splitLines, typeOf } from './lines.ts';
import { keyFromHex, readSegmentHead } from './segment.ts';

export interface VerifyOptions {
  /** Raw key in hexadecimal, or `sha256:…` of it; undefined: any, and the report says which. */
  readonly expectKey?: string | undefined;
  /** What others hold. */
  readonly anchors?: readonly Anchor[];
  /** What it must be of; undefined: the journal of decisions. */
  readonly log?: LogName | undefined;
  /** Lines of the file that come before these bytes. */
  readonly linesBefore?: number;
}

interface Section {
  readonly lines: readonly Numbered[];
  readonly head: Numbered | undefined;
  readonly end: Numbered | undefined;
  /** Every byte before the end line. */
  readonly content: Uint8Array;
}

const sectionsOf = (file: Uint8Array, lines: readonly Line[], linesBefore: number): readonly Section[] => {
  const groups: Numbered[][] = [];
  let open: Numbered[] | undefined;
  for (const [i, line] of lines.entries()) {
    const type = typeOf(line);
    if (open === undefined || type === 'journal') {
      open = [];
      groups.push(open);
    }
    open.push({ line, number: linesBefore + i + 1 });
    if (type === 'end') open = undefined;
  }
  return groups.map((group) => {
    const [first] = group;
    const last = group.at(-1)!;
    const head = first !== undefined && typeOf(first.line) === 'journal' ? first : undefined;
    const end = typeOf(last.line) === 'end' ? last : undefined;
    const stop = end?.line.offset ?? last.line.offset + last.line.bytes.length + 1;
    const inner = group.filter((one) => one !== head && one !== end);
    return { lines: inner, head, end, content: file.subarray(first!.line.offset, stop) };
  });
};

interface Trusted {
  readonly head: ExportHead | undefined;
  readonly chain: string;
  readonly publicKey: string;
  readonly fileKey: KeyObject | undefined;
  readonly chainKey: KeyObject | undefined;
}

/** The head when its signature holds; else chain and key as the heads of its parts name them. */
const trustedOf = (section: Section, findings: (chain: string) => Findings): Trusted => {
  const segment = section.lines.flatMap(({ line }) => readSegmentHead(line) ?? [])[0];
  const raw =
    section.head === undefined ? undefined : (parseLine(section.head.line) as unknown as ExportHead | undefined);
  const key = keyFromHex(raw?.publicKey);
  const text = section.head?.line.text;
  if (raw !== undefined && key !== undefined && text !== undefined && lineSigned('journal-export', text, key)) {
    return { head: raw, chain: raw.chain, publicKey: raw.publicKey, fileKey: key, chainKey: keyFromHex(raw.chainKey) };
  }
  const chain = segment?.chain ?? (typeof raw?.chain === 'string' ? raw.chain : '');
  const number = section.head?.number ?? section.lines[0]?.number ?? section.end?.number;
  const what = section.head === undefined ? 'has no head line' : 'is not as it was exported: its head line was changed';
  findings(chain).add('file', `line ${number}: the export ${what}`, number === undefined ? {} : { line: number });
  const segmentKey = keyFromHex(segment?.publicKey);
  return { head: undefined, chain, publicKey: segment?.publicKey ?? '', fileKey: segmentKey, chainKey: segmentKey };
};

/** The signature over the whole. It adds nothing when the change was named already. */
const checkEnd = (section: Section, key: KeyObject | undefined, findings: Findings): void => {
  if (section.end === undefined) {
    findings.add('missing', 'the file stops before the end line of the export: what came after is missing');
    return;
  }
  const { line, number } = section.end;
  const value = parseLine(line);
  const sha256 = createHash('sha256').update(section.content).digest('hex');
  const signed = line.text !== undefined && key !== undefined && lineSigned('journal-end', line.text, key);
  if (!signed) findings.add('file', `line ${number}: the end line of the export was changed`, { line: number });
  else if (value?.['sha256'] !== sha256 && findings.count === 0) {
    findings.add('file', 'the file is not as it was exported, though every entry in it holds');
  }
};

const segmentHeads = (section: Section, log: LogName | undefined, findings: Findings): void => {
  for (const { line, number } of section.lines) {
    if (typeOf(line) !== 'segment') continue;
    const head = readSegmentHead(line);
    if (head === undefined || head.chain !== findings.chain) {
      findings.add('file', `line ${number}: the head of a part was changed`, { line: number });
    } else if (head.log !== log) {
      const [is, not] = [head.log ?? 'journal', log ?? 'journal'];
      findings.add('file', `line ${number}: this is part of the ${is}, and the ${not} was expected`, { line: number });
    }
  }
};

/** The newest entry that says up to where older ones, or inputs, were removed. */
export const removedUpTo = (check: ChainCheck, of: 'entries' | 'inputs'): number => {
  let upTo = 0;
  for (const { entry } of check.good.values()) {
    if (entry.kind !== 'cut') continue;
    const removed = (entry.body as { removed?: readonly { of: string; chain: string; upTo?: number }[] }).removed ?? [];
    for (const one of removed) if (one.of === of && one.chain === entry.chain) upTo = Math.max(upTo, one.upTo ?? 0);
  }
  return upTo;
};

/** The beginning and the end of what should be there. */
const checkEdges = (head: ExportHead | undefined, check: ChainCheck, findings: Findings): void => {
  if (head === undefined || !isWhole(head.filter)) return;
  const removed = removedUpTo(check, 'entries');
  if (check.first > removed + 1 && check.first > 1) {
    const [sequence, last] = [removed + 1, check.first - 1];
    findings.add(
      'missing',
      `${entriesShown(sequence, last)}: not in the file, and no entry says that they were removed`,
      { sequence, last },
    );
  }
  const newest = head.head;
  if (newest === undefined) return;
  if (newest.sequence > check.last) {
    const [sequence, last] = [check.last + 1, newest.sequence];
    findings.add(
      'missing',
      `${entriesShown(sequence, last)}: the controller had them when it exported, the file has not`,
      { sequence, last },
    );
  } else if (check.good.has(newest.sequence) && check.good.get(newest.sequence)!.hash !== newest.hash) {
    const { sequence } = newest;
    findings.add('changed', `entry ${sequence} is not the newest one that the controller had`, { sequence });
  }
};

/** The same head may come from the file and from whoever is asked besides. */
const distinct = (anchors: readonly Anchor[]): readonly Anchor[] => [
  ...new Map(anchors.map((anchor) => [`${anchor.source} ${anchor.sequence} ${anchor.hash}`, anchor])).values(),
];

const checkAnchors = (
  anchors: readonly Anchor[],
  whole: boolean,
  check: ChainCheck,
  findings: Findings,
): SectionReport['anchors'] =>
  distinct(anchors).map((anchor) => {
    const { sequence, hash, source } = anchor;
    const held = check.good.get(sequence);
    if (held !== undefined) {
      if (held.hash === hash) return { ...anchor, outcome: 'agrees' as const };
      findings.add('anchor', `entry ${sequence} is not the one that ${source} holds the hash of`, { sequence });
      return { ...anchor, outcome: 'differs' as const };
    }
    if (sequence <= check.last || !whole) return { ...anchor, outcome: 'outside' as const };
    const from = check.last + 1;
    findings.add(
      'missing',
      `${entriesShown(from, sequence)}: missing at the end, for ${source} holds the hash of entry ${sequence}`,
      {
        sequence: from,
        last: sequence,
      },
    );
    return { ...anchor, outcome: 'beyond' as const };
  });

const expected = (want: string | undefined, publicKey: string, findings: Findings): void => {
  if (want === undefined || want === publicKey || want === fingerprintOf(publicKey)) return;
  findings.add('key', `the export is signed by ${fingerprintOf(publicKey)}, and ${want} was expected`);
};

const notesOf = (
  head: ExportHead | undefined,
  check: ChainCheck,
  section: SectionReport['anchors'],
  want: string | undefined,
): string[] => {
  const notes: string[] = [];
  if (want === undefined)
    notes.push('whose key this is was not checked: compare the fingerprint, or name it with --key');
  if (head !== undefined && !isWhole(head.filter) && head.filter.part === undefined) {
    notes.push(
      `only ${entriesShown(check.first, check.last)} were asked for; what came before and after is not in the file`,
    );
  }
  const removed = removedUpTo(check, 'entries');
  if (removed > 0) notes.push(`entries up to ${removed} were removed earlier, for want of room`);
  if (section.every(({ outcome }) => outcome === 'outside')) {
    notes.push('no anchor lies in this range: that its writer itself rewrote it cannot be told from this file alone');
  }
  const told: readonly Entry['kind'][] = ['gap', 'torn', 'lost'];
  for (const { entry } of check.good.values()) {
    if (told.includes(entry.kind))
      notes.push(`entry ${entry.sequence} (${entry.kind}) says that something was lost: ${JSON.stringify(entry.body)}`);
  }
  return notes;
};

const verifySection = (
  section: Section,
  options: VerifyOptions,
): { readonly report: SectionReport; readonly findings: Findings } => {
  let findings: Findings | undefined;
  const at = (chain: string): Findings => {
    findings ??= new Findings(chain);
    return findings;
  };
  const { head, chain, publicKey, fileKey, chainKey } = trustedOf(section, at);
  const found = at(chain);
  const range = { first: head?.first ?? 0, last: head?.last ?? 0 };
  const entries = section.lines.filter(({ line }) => typeOf(line) !== 'inputs');
  const none: ChainCheck = { good: new Map(), first: 0, last: 0 };
  const check = chainKey === undefined ? none : checkChain(chain, chainKey, entries, range, found);
  if (chainKey === undefined) found.add('file', 'the file names no key under which anything in it could be checked');
  segmentHeads(section, options.log, found);
  checkEdges(head, check, found);
  const inputs = checkInputs(section.lines, check, head, removedUpTo(check, 'inputs'), found);
  const whole = head === undefined || isWhole(head.filter);
  const ofChain = [...(head?.anchors ?? []), ...(options.anchors ?? [])].filter((anchor) => anchor.chain === chain);
  const anchors = checkAnchors(ofChain, whole, check, found);
  if (publicKey !== '') expected(options.expectKey, publicKey, found);
  checkEnd(section, fileKey, found);
  const times = [...check.good.values()].map(({ entry }) => entry.wallMs);
  const one = check.good.values().next().value?.entry;
  const edges: SectionReport['edges'] = {
    previous: check.good.get(check.first)?.entry.previous,
    lastHash: check.good.get(check.last)?.hash,
    newest: head?.head?.sequence,
    removedUpTo: removedUpTo(check, 'entries'),
    part: head?.filter.part === true,
    since: head?.filter.sinceMs !== undefined,
    until: head?.filter.untilMs !== undefined,
  };
  const report: SectionReport = {
    chain,
    member: head?.member ?? one?.member ?? '',
    replica: head?.replica ?? one?.replica ?? '',
    publicKey,
    fingerprint: publicKey === '' ? '' : fingerprintOf(publicKey),
    first: check.first,
    last: check.last,
    entries: check.good.size,
    fromWallMs: times.length === 0 ? undefined : times.reduce((a, b) => Math.min(a, b)),
    toWallMs: times.length === 0 ? undefined : times.reduce((a, b) => Math.max(a, b)),
    filtered: !whole,
    edges,
    anchors,
    inputs,
    notes: notesOf(head, check, anchors, options.expectKey),
  };
  return { report, findings: found };
};

/** A head that is signed may still say nonsense, by whoever holds that key. */
const checkedSection = (section: Section, options: VerifyOptions): ReturnType<typeof verifySection> => {
  try {
    return verifySection(section, options);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const nonsense: Section = { ...section, head: undefined };
    const checked = verifySection(
      { ...nonsense, lines: section.lines.filter(({ line }) => typeOf(line) !== 'entry') },
      options,
    );
    checked.findings.add('file', `what this part of the file says of itself makes no sense: ${error.message}`);
    return checked;
  }
};

/** Never rejects and never throws for what is in the file. */
export const verifyExport = (file: Uint8Array, options: VerifyOptions = {}): Verification => {
  const { lines, rest } = splitLines(file);
  const sections = sectionsOf(file, lines, options.linesBefore ?? 0).map((section) => checkedSection(section, options));
  const outside = new Findings('');
  if (rest.length > 0) outside.add('file', `${rest.length} bytes after the last line: the file was cut or added to`);
  if (sections.length === 0) outside.add('file', 'the file holds no journal');
  const all = [...sections.map(({ findings }) => findings), outside];
  const findings = all.flatMap(({ found }) => found);
  const count = all.reduce((sum, one) => sum + one.count, 0);
  const chains = new Set(sections.map(({ report }) => report.chain));
  const members = new Set<string | undefined>(sections.map(({ report }) => report.member));
  const absent = distinct(options.anchors ?? []).filter(
    ({ chain, of }) => !chains.has(chain) && (of === undefined || members.has(of)),
  );
  return {
    holds: count === 0,
    sections: sections.map(({ report }) => report),
    absent,
    findings,
    more: count - findings.length,
  };
};
