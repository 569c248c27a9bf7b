import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { run } from '../../../src/cli/program.ts';
import type { HeldAnchor } from '../../../src/controller/journaling.ts';
import { type HttpListener, json, listenHttp, type Route } from '../../../src/ops/http.ts';
import { auditRig } from '../audit/rig.ts';

// 03:12, as ever.
const startMs = Date.UTC(2026, 10, 20, 3, 12);
const replicas = ['isthmus-controller-0', 'isthmus-controller-1'];
const rigs = replicas.map((replica, i) =>
  auditRig({ replica, seed: i + 1, wallMs: startMs, bounds: { segmentBytesMax: 8_000 } }),
);
const anchors: HeldAnchor[] = [];
let listeners: HttpListener[] = [];
let dir: string;
let stdout = '';
let stderr = '';

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'isthmus-audit-cli-'));
  const [first, second] = rigs;
  for (const { audit } of rigs) await audit.open();
  first!.audit.source('isthmus-gateway-0~0', true);
  for (let i = 0; i < 40; i++) {
    first!.ended({ startMs: startMs + i * 1_000, from: `10.1.0.7:${i}` });
    await first!.clock.advance(1_000);
  }
  first!.ended({
    startMs: startMs + 41_000,
    result: 'denied',
    reason: 'not-exported',
    detail: 'route_not_found',
    status: 404,
    authority: 'nobody.shop.svc.cluster.local:80',
    service: undefined as never,
    member: undefined as never,
  });
  second!.ended({
    side: 'ingress',
    startMs: startMs + 42_000,
    source: 'us-west',
    claim: 'spiffe://cluster.local/ns/shop/sa/other\u001b[2J',
    result: 'denied',
    reason: 'grant',
    status: 429,
    count: 12,
  });
  for (const { audit, clock } of rigs) {
    await clock.advance(2_000);
    anchors.push({ ...audit.journal.head()!, of: 'us-east', source: 'own manifest', log: 'audit' });
  }
  const withAnchors =
    (own: Route): Route =>
    (path, ...rest) =>
      path === '/v1/journal/anchors'
        ? json({ apiVersion: 'isthmus.dev/v1', kind: 'JournalAnchors', member: 'us-east', anchors })
        : own(path, ...rest);
  listeners = await Promise.all(rigs.map(({ audit }) => listenHttp('127.0.0.1:0', withAnchors(audit.route))));
});
afterAll(async () => {
  await Promise.all(listeners.map((listener) => listener.close()));
  await rm(dir, { recursive: true, force: true });
});
beforeEach(() => {
  stdout = '';
  stderr = '';
  vi.useFakeTimers({ toFake: ['Date'], now: startMs + 3_600_000 });
  const written = (text: unknown, done?: unknown): boolean => {
    stdout += Buffer.isBuffer(text) ? text.toString() : String(text);
    if (typeof done === 'function') done();
    return true;
  };
  vi.spyOn(process.stdout, 'write').mockImplementation(written as typeof process.stdout.write);
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
  process.exitCode = undefined;
});

const isthmus = (...args: string[]): Promise<number> => {
  process.exitCode = undefined;
  stdout = '';
  const reach = listeners.flatMap(({ port }) => ['--controller', `http://127.0.0.1:${port}`]);
  return run(['node', 'isthmus', 'audit', ...args, ...(args.includes('--file') ? [] : reach)]);
};
const saved = async (text: string): Promise<string> => {
  const path = join(dir, 'export.jsonl');
  await writeFile(path, text);
  return path;
};

describe('isthmus audit list', () => {
  it('shows one line a connection, of all replicas, by time', async () => {
    expect(await isthmus('list')).toBe(0);
    const [head, ...rows] = stdout.trimEnd().split('\n');
    expect(head).toMatch(/^TIME\s+SIDE\s+RESULT\s+STATUS\s+SOURCE\s+TO\s+MEMBER\s+FOR\s+SENT\/RECEIVED\s+DETAIL$/);
    expect(rows.find((row) => / egress +closed /.test(row))).toMatch(
      /^2026-11-20 03:12:0\dZ +egress +closed +200 +shop\/client +shop\/checkout:80 +us-west +12ms +100\/2\.00k/,
    );
    expect(rows.at(-2)).toMatch(/denied: not-exported +404 +shop\/client +nobody\.shop\.svc\.cluster\.local:80 /);
    expect(rows.at(-1)).toMatch(/ingress +denied: grant ×12 +429 +us-west .*claims shop\/other\uFFFD\[2J$/);
    expect(stdout).toMatch(/source .*isthmus-gateway-0~0 begins to tell of its connections here/);
  });

  it('shows what was denied, and what else was asked for', async () => {
    expect(await isthmus('list', '--denied', '-o', 'json')).toBe(0);
    type Shown = { kind: string; entries: { connection: { reason: string; source: string } }[] };
    const denied = JSON.parse(stdout) as Shown;
    expect(denied.kind).toBe('AuditList');
    expect(denied.entries.map(({ connection }) => connection.reason)).toEqual(['not-exported', 'grant']);
    const count = async (...args: string[]): Promise<number> => {
      expect(await isthmus('list', '-o', 'json', ...args)).toBe(0);
      return (JSON.parse(stdout) as Shown).entries.length;
    };
    expect(await count('--source', 'sa/client', '--limit', '1000')).toBe(41);
    expect(await count('--source', 'us-west')).toBe(1);
    expect(await count('--member', 'us-west', '--limit', '10')).toBe(10);
    expect(await count('--service', 'shop/cart')).toBe(0);
    expect(await count('--side', 'ingress')).toBe(1);
    expect(await count('--reason', 'grant')).toBe(1);
    expect(await count('--since', '03:12:30', '--result', 'closed')).toBe(10);
    expect(await count('--since', '03:12:10', '--until', '03:12:20', '--result', 'closed')).toBe(10);
    expect(await count('--replica', 'isthmus-controller-1', '--result', 'closed')).toBe(0);
  });

  it('refuses what makes no sense', async () => {
    expect(await isthmus('list', '--side', 'left')).toBe(64);
    expect(await isthmus('list', '--result', 'good')).toBe(64);
    expect(await isthmus('list', '--limit', '0')).toBe(64);
    expect(await isthmus('list', '--replica', 'nobody')).toBe(64);
    expect(stderr).toMatch(/--side "left" is not one of egress, ingress, direct/);
  });
});

describe('isthmus audit verify', () => {
  it('agrees with what was written, by all replicas, and with what peers hold', async () => {
    expect(await isthmus('verify')).toBe(0);
    expect(stdout).toMatch(/us-east isthmus-controller-0, chain [0-9a-f]{16}\n +covers +entries 1 to 43,/);
    expect(stdout).toMatch(/us-east isthmus-controller-1, chain [0-9a-f]{16}\n +covers +entries 1 to 2,/);
    expect(stdout).toMatch(/agrees with own manifest \(43\)/);
    expect(stdout).toMatch(/the audit holds\n$/);
  });

  it('finds what was changed in an export, with nothing but the file', async () => {
    expect(await isthmus('export')).toBe(0);
    const text = stdout;
    const path = await saved(text);
    expect(await isthmus('verify', '--file', path)).toBe(0);
    expect(await isthmus('list', '--file', path, '--denied', '-o', 'json')).toBe(0);
    expect((JSON.parse(stdout) as { entries: unknown[] }).entries).toHaveLength(2);
    const changed = text.replace('"reason":"not-exported"', '"reason":"grant"');
    await saved(changed);
    expect(await isthmus('verify', '--file', path)).toBe(79);
    expect(stdout).toMatch(/CHANGED +[0-9a-f]{16} +entry 43 is not the one that was signed \(line \d+\)/);
    expect(stdout).toMatch(/the audit does NOT hold\n$/);
    expect(await isthmus('list', '--file', path, '--denied')).toBe(0);
    expect(stdout).toMatch(/NOT INTACT/);
    await saved(
      text
        .split('\n')
        .filter((line) => !line.startsWith('{"type":"entry","sequence":20,'))
        .join('\n'),
    );
    expect(await isthmus('verify', '--file', path, '-o', 'json')).toBe(79);
    expect(JSON.parse(stdout)).toMatchObject({ holds: false, findings: [{ kind: 'missing', sequence: 20 }] });
  });

  it('of a time says that it is a part', async () => {
    expect(await isthmus('export', '--since', '03:12:30')).toBe(0);
    const part = stdout;
    expect(part).not.toMatch(/"type":"entry","sequence":5,/);
    expect(await isthmus('verify', '--file', await saved(part))).toBe(0);
    expect(stdout).toMatch(/\(a part of the chain\)/);
  });

  it('says whose key it is, and that a file is none', async () => {
    const wrong = `sha256:${'0'.repeat(64)}`;
    expect(await isthmus('verify', '--key', wrong)).toBe(79);
    expect(await isthmus('verify', '--file', join(dir, 'absent'))).toBe(65);
    expect(stderr).toMatch(/isthmus audit export > audit\.jsonl/);
    expect(await isthmus('verify', '--file', await saved('nonsense\n'))).toBe(79);
    expect(await isthmus('list', '--file', await saved('nonsense\n'))).toBe(0);
  });
});
