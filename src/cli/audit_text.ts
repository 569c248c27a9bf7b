/** The border audit in words: a line a connection. */
import { type Connection, isConnection } from '../audit/connection.ts';
import type { AuditReport } from '../core/audit_report.ts';
import type { Found } from '../journal/segment.ts';
import { noteText } from './journal_text.ts';
import { age, table } from './output.ts';

/** An entry; times are UTC, ISO 8601. */
export interface AuditEntryReport {
  readonly sequence: number;
  /** connection | source | begin | gap | cut | torn | lost */
  readonly kind: string;
  readonly chain: string;
  readonly member: string;
  readonly replica: string;
  /** Of a connection when it ended, or was told of. */
  readonly at: string;
  readonly hash: string;
  /** False: it is not the entry that was signed. */
  readonly intact: boolean;
  /** Null: it tells of the audit itself. */
  readonly connection: Connection | null;
  /** Null: it is the connection. */
  readonly body: unknown;
}

/** What an export holds is not trusted to make sense. */
const dateOf = (ms: number): string => {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? '' : date.toISOString();
};

export const auditEntry = ({ entry, hash, intact }: Found): AuditEntryReport => {
  const { sequence, kind, chain, member, replica, wallMs, body } = entry;
  const connection = kind === 'connection' && isConnection(body) ? body : null;
  const ms = connection === null ? wallMs : connection.startMs + connection.durationMs;
  return {
    sequence,
    kind,
    chain,
    member,
    replica,
    at: dateOf(ms),
    hash,
    intact,
    connection,
    body: connection === null ? body : null,
  };
};

const bytesText = (bytes: number): string => {
  if (!(bytes >= 1_000)) return `${bytes}`;
  const power = Math.min(4, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1_000 ** power).toPrecision(3)}${['', 'k', 'M', 'G', 'T'][power]}`;
};

/** What callers choose must not move the cursor of whoever reads it. */
const plain = (text: string): string => text.replace(/\p{C}/gu, '\u{FFFD}');

/** `ns/sa` of a workload of the mesh: whose trust domain it is shows in wide lists. */
const sourceText = (source: string, wide: boolean): string =>
  wide ? source : source.replace(/^spiffe:\/\/[^/]+\/ns\/([^/]+)\/sa\/([^/]+)$/, '$1/$2');

const brokenMark = 'NOT INTACT';

const outcomeText = ({ result, reason, count }: Connection): string => {
  const times = count === undefined ? '' : ` ×${count}`;
  return `${reason === undefined || reason === result ? result : `${result}: ${reason}`}${times}`;
};

const detailText = ({ intact, connection }: AuditEntryReport, wide: boolean): string => {
  const { claim, rule, attempts, probe, detail, from, to, gateway } = connection!;
  const claimed = claim === undefined || claim === '' ? [] : [`claims ${sourceText(claim, wide)}`];
  return [
    ...(intact ? [] : [brokenMark]),
    ...claimed,
    ...(probe === true ? ['probe'] : []),
    ...(attempts === undefined ? [] : [`${attempts} tries`]),
    ...(rule === undefined ? [] : [rule === 'none' ? 'no rule allows it' : `by ${rule}`]),
    ...(detail === undefined || !wide ? [] : [detail]),
    ...(wide ? [`from ${from}`, ...(to === undefined ? [] : [`to ${to}`]), `by ${gateway}`] : []),
  ].join('; ');
};

const row = (entry: AuditEntryReport, wide: boolean): readonly string[] => {
  const time = wide ? entry.at.replace('T', ' ') : entry.at.replace('T', ' ').replace(/\.\d+Z$/, 'Z');
  const place = wide ? [entry.replica, String(entry.sequence)] : [];
  const { connection } = entry;
  if (connection === null) {
    const mark = entry.intact ? '' : `${brokenMark}; `;
    return [time, entry.kind, '', '', '', '', '', '', '', ...place, `${mark}${sourceNote(entry)}`];
  }
  const { side, source, service, authority, member = '', status, durationMs, sent, received } = connection;
  const port = authority.replace(/^.*:/, ':');
  return [
    time,
    side,
    outcomeText(connection),
    status === 0 ? '' : String(status),
    sourceText(source, wide),
    service === undefined || wide ? authority : `${service}${port}`,
    member,
    age(durationMs / 1_000),
    `${bytesText(sent)}/${bytesText(received)}`,
    ...place,
    detailText(entry, wide),
  ];
};

const sourceNote = (entry: AuditEntryReport): string => {
  if (entry.kind !== 'source') return noteText(entry);
  const { envoy, begins } = (entry.body ?? {}) as { envoy?: unknown; begins?: unknown };
  if (begins === true) return `${envoy} begins to tell of its connections here`;
  return `${envoy} tells of its connections here no more`;
};

export const renderAudit = (
  entries: readonly AuditEntryReport[],
  reports: readonly AuditReport[],
  wide: boolean,
): string => {
  const head = ['TIME', 'SIDE', 'RESULT', 'STATUS', 'SOURCE', 'TO', 'MEMBER', 'FOR', 'SENT/RECEIVED'];
  const more = wide ? ['REPLICA', 'SEQ'] : [];
  const rows = entries.map((entry) => row(entry, wide).map(plain));
  const lines = [entries.length === 0 ? 'no entries' : table([...head, ...more, 'DETAIL'], rows)];
  for (const { replica, enabled, problems } of reports) {
    if (!enabled) lines.push(`${replica}: the audit is switched off (audit.enabled)`);
    for (const { message } of problems) lines.push(`${replica}: ${message}`);
  }
  return lines.join('\n');
};
