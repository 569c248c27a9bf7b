/** A border audit over a disk in memory, with time and keys of its own. */
import { generateKeyPairSync } from 'node:crypto';
import type { Connection } from '../../../src/audit/connection.ts';
import { Auditing, type AuditingOptions } from '../../../src/controller/auditing.ts';
import type { AuditPartAnswer, AuditReport } from '../../../src/core/audit_report.ts';
import { seededRng } from '../../../src/core/rng.ts';
import { readExport } from '../../../src/journal/export_file.ts';
import type { Found } from '../../../src/journal/segment.ts';
import { openMetrics } from '../../../src/ops/metrics.ts';
import { SimClock } from '../../sim/clock.ts';
import { MemoryJournalFiles } from '../../sim/journal_files.ts';

export const keys = generateKeyPairSync('ed25519');

export const connection = (over: Partial<Connection> = {}): Connection => ({
  side: 'egress',
  result: 'closed',
  source: 'spiffe://cluster.local/ns/shop/sa/client',
  from: '10.1.0.7:41000',
  authority: 'checkout.shop.svc.cluster.local:80',
  service: 'shop/checkout',
  member: 'us-west',
  to: '192.0.2.1:15028',
  status: 200,
  startMs: 1_700_000_000_000,
  durationMs: 12,
  sent: 100,
  received: 2_000,
  gateway: 'isthmus-gateway-0',
  ...over,
});

export const auditRig = (
  options: Partial<AuditingOptions> & { disk?: MemoryJournalFiles; seed?: number; wallMs?: number } = {},
) => {
  const disk = options.disk ?? new MemoryJournalFiles();
  const clock = new SimClock(options.wallMs);
  const logged: string[] = [];
  const metrics = openMetrics('0.2.0');
  const audit = new Auditing({
    member: 'us-east',
    replica: 'isthmus-controller-0',
    recordKey: keys.privateKey,
    files: disk,
    enabled: true,
    bytesMax: 1_000_000_000,
    version: '0.2.0',
    epoch: () => 7n,
    clock,
    rng: seededRng(options.seed ?? 1),
    log: (_level, message) => logged.push(message),
    metrics,
    ...options,
  });
  let next = 0;
  /** It ends, having begun or not. */
  const ended = (over: Partial<Connection> = {}): void => {
    audit.connection({ key: `ended ${next++}`, begins: false, connection: connection(over) });
  };
  const get = async (path: string): Promise<unknown> => {
    const url = new URL(path, 'http://localhost');
    const reply = await audit.route(url.pathname, url.searchParams, new AbortController().signal);
    return JSON.parse(reply!.body);
  };
  const report = async (): Promise<AuditReport> => (await get('/v1/audit')) as AuditReport;
  const parts = async (query = ''): Promise<string[]> => {
    const texts: string[] = [];
    for (const { chain, first } of (await report()).parts) {
      const answer = await get(`/v1/audit/part?chain=${chain}&first=${first}${query}`);
      texts.push((answer as AuditPartAnswer).text);
    }
    return texts;
  };
  const entries = async (): Promise<Found[]> =>
    (await parts()).flatMap((text) => [...readExport(Buffer.from(text)).entries]);
  const counter = async (name: string): Promise<number> => {
    const lines = (await metrics.text()).split('\n').filter((line) => line.startsWith(name));
    return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
  };
  return { audit, clock, disk, logged, ended, get, report, parts, entries, counter };
};
