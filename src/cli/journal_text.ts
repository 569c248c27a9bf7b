/** The journal in words: a line an entry, and one entry as a page for somebody who was not there. */

import { decisionReport } from '../controller/decisions.ts';
import { placementText } from '../controller/explaining_past.ts';
import type { DecisionReport } from '../core/failover_report.ts';
import type { JournalEntryReport, JournalListReport } from '../core/journal_report.ts';
import { authorKind } from '../journal/author.ts';
import { entriesShown, type Finding, type Verification } from '../journal/finding.ts';
import { aligned, paint, table, wrap } from './output.ts';

/** The decision in an entry, if it is one. */
export const decisionIn = (entry: JournalEntryReport): DecisionReport | undefined =>
  decisionReport({
    kind: entry.kind,
    body: entry.body,
    wallMs: Date.parse(entry.at),
    sequence: entry.sequence,
  } as Parameters<typeof decisionReport>[0]);

/** What an entry that is no decision says. */
export const noteText = ({ kind, body }: Pick<JournalEntryReport, 'kind' | 'body'>): string => {
  const said = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  const text = (key: string): string => String(said[key] ?? '?');
  switch (kind) {
    case 'begin':
      return `a chain begins: ${text('reason')}`;
    case 'gap':
      return `${text('entries')} entries were lost here: the journal could not be written, and memory was full`;
    case 'cut':
      return `older files were removed: ${text('reason')}`;
    case 'torn':
      return `${text('bytes')} bytes of a write that was cut short were set aside as ${text('kept')}`;
    case 'lost':
      return 'a manifest named a newer entry than the disk had: entries were lost here';
    case 'void':
      return `${entriesShown(Number(said['first']), Number(said['last']))} did not take effect: ${text('reason')}`;
    default:
      return JSON.stringify(body);
  }
};

const movement = ({ before, after }: DecisionReport, self: string): string => {
  const text = (value: DecisionReport['after']): string => (value === null ? '' : placementText(value, self));
  if (before === null || after === null) return text(after ?? before);
  return text(before) === text(after) ? '' : `${text(before)} → ${text(after)}`;
};

const brokenMark = 'NOT INTACT';

const row = (entry: JournalEntryReport, wide: boolean): readonly string[] => {
  const decision = decisionIn(entry);
  const time = wide ? entry.at.replace('T', ' ') : entry.at.replace('T', ' ').replace(/\.\d+Z$/, 'Z');
  const place = wide ? [entry.replica, entry.chain, entry.hash.slice(0, 12)] : [];
  const mark = entry.intact ? '' : `${brokenMark}; `;
  if (decision === undefined) {
    return [String(entry.sequence), time, entry.kind, '', '', '', '', ...place, `${mark}${noteText(entry)}`];
  }
  const { kind, observed, service, member, rule, author, detail, guards } = decision;
  const moved = movement(decision, entry.member);
  const held = guards.map(({ guard }) => guard).join(', ');
  const said = [moved, detail, held === '' || kind === 'hold' ? '' : `held by ${held}`]
    .filter((part) => part !== '')
    .join('; ');
  const what = observed ? `${kind} (observed)` : kind;
  return [String(entry.sequence), time, what, service ?? '', member ?? '', rule, author, ...place, `${mark}${said}`];
};

export const renderList = (lists: readonly JournalListReport[], wide: boolean): string => {
  const entries = lists.flatMap((list) => list.entries);
  const several = wide || new Set(entries.map(({ replica }) => replica)).size > 1;
  const sorted = entries.toSorted((a, b) => (a.at === b.at ? a.sequence - b.sequence : a.at < b.at ? -1 : 1));
  const head = ['SEQ', 'TIME', 'KIND', 'SERVICE', 'MEMBER', 'RULE', 'AUTHOR'];
  const more = several ? ['REPLICA', 'CHAIN', 'HASH'] : [];
  const lines =
    sorted.length === 0
      ? ['no entries']
      : [
          table(
            [...head, ...more, 'DETAIL'],
            sorted.map((e) => row(e, several)),
          ),
        ];
  for (const { replica, failure, spooled, lost, problems } of lists) {
    if (failure !== null) {
      const waiting = `${spooled} entries wait in memory${lost > 0 ? `, ${lost} are lost` : ''}`;
      lines.push(`${replica}: the journal cannot be written (${failure.message}); ${waiting}`);
    }
    for (const { message } of problems) lines.push(`${replica}: ${message}`);
  }
  return lines.join('\n');
};

const authorText = (author: string): string => {
  switch (authorKind(author)) {
    case 'controller':
      return 'the controller itself';
    case 'proxy':
      return 'Envoy; journalled afterwards';
    case 'drill':
      return `a drill: ${author}`;
    default:
      return author;
  }
};

const what = ({ kind, service, member }: DecisionReport): string => {
  const whose = service ?? member ?? 'this cluster';
  const at = service !== null && member !== null ? `${service} at ${member}` : whose;
  const because = service !== null && member !== null ? `, because of ${member}` : '';
  switch (kind) {
    case 'shift':
      return `Traffic of ${whose} moved${because}`;
    case 'failback':
      return `Traffic of ${at} begins to come back`;
    case 'ramp':
      return `Traffic of ${at} took its next step`;
    case 'state':
      return `The state of ${at} changed`;
    case 'hold':
      return `A move of ${whose} was held back${because}`;
    case 'drain':
      return `A drain was asked for: ${at}`;
    case 'undrain':
      return `A drain was ended: ${at}`;
    case 'freeze':
      return 'Deciding was frozen: what is served stays';
    case 'thaw':
      return 'Deciding goes on, after a freeze';
    case 'region':
      return `The verdict on a region changed: ${whose}`;
    case 'grant':
      return `What is offered to others of ${whose} changed`;
    default:
      return `${kind}: ${at}`;
  }
};

const headline = (decision: DecisionReport): string =>
  decision.observed ? `${what(decision)}: only on paper, for its policy observes` : what(decision);

const whereRows = ({ before, after }: DecisionReport, self: string): string[][] => {
  const text = (value: DecisionReport['after']): string => (value === null ? '' : placementText(value, self));
  const [from, to] = [text(before), text(after)];
  if (from === '' && to === '') return [];
  if (from === to) return [['where', `${to}, as before`]];
  return [
    ['from', from === '' ? 'nothing' : from],
    ['to', to === '' ? 'nothing' : to],
  ];
};

const inputsText = ({ inputs, sequence }: JournalEntryReport): string => {
  if (inputs === null) return 'none';
  return inputs.left ?? `kept (${inputs.bytes} bytes): isthmus journal replay ${sequence}`;
};

/** @param step - the other entries of its step */
export const renderEntry = (entry: JournalEntryReport, step: readonly JournalEntryReport[]): string => {
  const decision = decisionIn(entry);
  const time = `${entry.at.slice(0, 10)} ${entry.at.slice(11, 23)}Z`;
  const others = step.filter(({ sequence }) => sequence !== entry.sequence);
  const place = [
    [
      'entry',
      `${entry.sequence} of chain ${entry.chain}, by ${entry.replica} of ${entry.member} in term ${entry.epoch}`,
    ],
    ['hash', `${entry.hash}${entry.intact ? '' : `  ${brokenMark}: run isthmus journal verify`}`],
  ];
  if (decision === undefined) {
    return [
      paint('bold', `${time}  ${noteText(entry)}`),
      aligned([...place, ['body', JSON.stringify(entry.body)]]),
    ].join('\n');
  }
  const { rule, detail, guards, author, policy } = decision;
  const held = guards.map(({ guard, member, detail: why }) => [
    '',
    `${guard}${member === null ? '' : ` (${member})`}: ${why}`,
  ]);
  if (held[0] !== undefined) held[0][0] = 'guards';
  const rows = [
    ...whereRows(decision, entry.member),
    ['why', `${rule}${detail === '' ? '' : `: ${detail}`}`],
    ...(held.length === 0 ? [['guards', 'none held anything back']] : held),
    ['by', authorText(author)],
    ['policy', policy === '' ? 'default' : policy],
    ...(others.length === 0
      ? []
      : [['with', `${entriesShown(entry.step.first, entry.step.first + entry.step.count - 1)}, of the same step`]]),
    ['inputs', inputsText(entry)],
    ...place,
  ];
  return [paint('bold', wrap(`${time}  ${headline(decision)}`, '  ')), aligned(rows)].join('\n');
};

const findingLine = ({ kind, message, chain }: Finding): string[] => [
  kind.toUpperCase(),
  chain === '' ? '' : chain,
  message,
];

/** What was checked, how far that reaches, and what was found. */
export const renderVerification = (result: Verification, what: 'journal' | 'audit' = 'journal'): string => {
  const parts = result.sections.map((section) => {
    const { member, replica, chain, entries, first, last, fromWallMs, toWallMs, fingerprint, anchors, inputs, notes } =
      section;
    const time = (ms: number | undefined): string => (ms === undefined ? '?' : new Date(ms).toISOString());
    const agreeing = anchors
      .filter(({ outcome }) => outcome === 'agrees')
      .map(({ source, sequence }) => `${source} (${sequence})`);
    const range =
      entries === 0 ? 'no entries' : `${entriesShown(first, last)}, ${time(fromWallMs)} to ${time(toWallMs)}`;
    return [
      paint('bold', `${member} ${replica}, chain ${chain}`),
      aligned([
        ['covers', `${range}${section.filtered ? ' (a part of the chain)' : ''}`],
        ['holds', `${entries} of ${last === 0 ? 0 : last - first + 1} entries`],
        ['signed by', fingerprint],
        ['anchors', agreeing.length === 0 ? 'none in this range' : `agrees with ${agreeing.join(', ')}`],
        ...(what === 'audit' ? [] : [['inputs', `${inputs.kept} steps can be replayed, ${inputs.left} cannot`]]),
        ...notes.map((note) => ['note', note]),
      ]),
    ].join('\n');
  });
  const absent = result.absent.map(({ chain, sequence, source }) =>
    wrap(
      `note: chain ${chain}, whose entry ${sequence} ${source} holds the hash of, is not here: it is of another replica, or its disk was lost`,
      '  ',
    ),
  );
  const more = result.more > 0 ? [`and ${result.more} more`] : [];
  const found =
    result.findings.length === 0 ? [] : [table(['FINDING', 'CHAIN', 'WHAT'], result.findings.map(findingLine))];
  return [
    ...parts,
    ...absent,
    ...found,
    ...more,
    result.holds ? `the ${what} holds` : `the ${what} does NOT hold`,
  ].join('\n\n');
};
