/**
 * Puts together what was found in the parts of an export: each of them holds or not by itself, and here it is seen whether one follows
 * the other, none is missing, and none is there twice.
 *
 * So an audit of any size is verified in the memory that one part takes. Verifying all lines at once was passed over for that reason.
 */
import type { Anchor } from './export.ts';
import { entriesShown, Findings, type SectionReport, type Verification } from './finding.ts';

const least = (values: readonly (number | undefined)[]): number | undefined =>
  values.reduce((a, b) => (a === undefined || (b !== undefined && b < a) ? b : a), undefined);
const most = (values: readonly (number | undefined)[]): number | undefined =>
  values.reduce((a, b) => (a === undefined || (b !== undefined && b > a) ? b : a), undefined);

const follows = (parts: readonly SectionReport[], findings: Findings): void => {
  for (const [i, part] of parts.entries()) {
    const before = parts[i - 1];
    if (before === undefined) continue;
    const shown = entriesShown(part.first, part.last);
    const at = { sequence: part.first, last: part.last };
    if (part.first === before.first) findings.add('duplicate', `${shown}: this part of the file is there twice`, at);
    else if (part.first < before.first) findings.add('reordered', `${shown}: this part stands behind a later one`, at);
  }
  const sorted = parts.toSorted((a, b) => a.first - b.first);
  for (const [i, part] of sorted.entries()) {
    const before = sorted[i - 1];
    if (before === undefined || part.first <= before.last) continue;
    const { previous } = part.edges;
    if (part.first > before.last + 1) {
      const [sequence, last] = [before.last + 1, part.first - 1];
      findings.add('missing', `${entriesShown(sequence, last)}: missing between two parts`, { sequence, last });
    } else if (previous !== undefined && before.edges.lastHash !== undefined && previous !== before.edges.lastHash) {
      findings.add('changed', `entry ${part.first} follows another entry ${before.last} than the one here`, {
        sequence: before.last,
      });
    }
  }
};

const ends = (parts: readonly SectionReport[], findings: Findings): void => {
  const first = least(parts.map((part) => part.first)) ?? 0;
  const last = most(parts.map((part) => part.last)) ?? 0;
  const removed = most(parts.map(({ edges }) => edges.removedUpTo)) ?? 0;
  if (!parts.some(({ edges }) => edges.since) && first > 1 && first > removed + 1) {
    const to = first - 1;
    findings.add(
      'missing',
      `${entriesShown(removed + 1, to)}: not in the file, and no entry says that they were removed`,
      { sequence: removed + 1, last: to },
    );
  }
  const newest = most(parts.map(({ edges }) => edges.newest)) ?? 0;
  if (!parts.some(({ edges }) => edges.until) && newest > last) {
    const text = `${entriesShown(last + 1, newest)}: the controller had them when it exported, the file has not`;
    findings.add('missing', text, { sequence: last + 1, last: newest });
  }
};

const better = ['outside', 'beyond', 'agrees', 'differs'] as const;

/** An anchor is outside of most parts; what counts is the part that it is in. */
const joinedAnchors = (parts: readonly SectionReport[], last: number, findings: Findings): SectionReport['anchors'] => {
  const found = new Map<string, SectionReport['anchors'][number]>();
  for (const anchor of parts.flatMap(({ anchors }) => anchors)) {
    const key = `${anchor.source} ${anchor.sequence} ${anchor.hash}`;
    const known = found.get(key);
    if (known === undefined || better.indexOf(anchor.outcome) > better.indexOf(known.outcome)) found.set(key, anchor);
  }
  const until = parts.some(({ edges }) => edges.until);
  return [...found.values()].map((anchor) => {
    if (anchor.outcome !== 'outside' || anchor.sequence <= last || until) return anchor;
    const { sequence, source } = anchor;
    const text = `${entriesShown(last + 1, sequence)}: missing at the end, for ${source} holds the hash of entry ${sequence}`;
    findings.add('missing', text, { sequence: last + 1, last: sequence });
    return { ...anchor, outcome: 'beyond' as const };
  });
};

const joinedSection = (parts: readonly SectionReport[], findings: Findings): SectionReport => {
  const [one] = parts;
  follows(parts, findings);
  ends(parts, findings);
  const [first, last] = [least(parts.map((p) => p.first)) ?? 0, most(parts.map((p) => p.last)) ?? 0];
  const { edges } = parts.at(-1)!;
  const filtered = parts.some(({ edges: { since, until } }) => since || until);
  const notes = filtered
    ? [`only ${entriesShown(first, last)} were asked for; what came before and after is not in the file`]
    : [];
  return {
    ...one!,
    first,
    last,
    entries: parts.reduce((sum, part) => sum + part.entries, 0),
    fromWallMs: least(parts.map((part) => part.fromWallMs)),
    toWallMs: most(parts.map((part) => part.toWallMs)),
    filtered,
    edges: { ...edges, previous: one!.edges.previous },
    anchors: joinedAnchors(parts, last, findings),
    notes: [...new Set([...notes, ...parts.flatMap((part) => part.notes)])],
  };
};

/** @param anchors - what was asked for besides; those of chains that are in no part are shown as absent */
export const joinParts = (verified: readonly Verification[], anchors: readonly Anchor[] = []): Verification => {
  const chains = Map.groupBy(
    verified.flatMap(({ sections }) => sections),
    ({ chain, publicKey }) => `${chain} ${publicKey}`,
  );
  const joined = [...chains.values()].map((parts) => {
    const findings = new Findings(parts[0]!.chain);
    if (!parts.some(({ edges }) => edges.part)) return { sections: parts, findings };
    return { sections: [joinedSection(parts, findings)], findings };
  });
  const findings = [...verified.flatMap((one) => one.findings), ...joined.flatMap(({ findings: { found } }) => found)];
  const more = [...verified.map((one) => one.more), ...joined.map(({ findings: f }) => f.count - f.found.length)];
  const known = new Set(joined.flatMap(({ sections }) => sections.map(({ chain }) => chain)));
  return {
    holds: findings.length === 0,
    sections: joined.flatMap(({ sections }) => sections),
    absent: anchors.filter(({ chain }) => !known.has(chain)),
    findings,
    more: more.reduce((sum, count) => sum + count, 0),
  };
};
