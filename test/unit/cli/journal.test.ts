import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { run } from '../../../src/cli/program.ts';
import { type HeldAnchor, Journaling } from '../../../src/controller/journaling.ts';
import { seededRng } from '../../../src/core/rng.ts';
import { type HttpListener, listenHttp } from '../../../src/ops/http.ts';
import { openMetrics } from '../../../src/ops/metrics.ts';
import { SimClock } from '../../sim/clock.ts';
import { decideFor } from '../controller/decided.ts';

const { privateKey } = generateKeyPairSync('ed25519');
const steps = decideFor(45);
const anchors: HeldAnchor[] = [];
let dir: string;
let journaling: Journaling;
let listener: HttpListener;
let base: string;
let stdout = '';
let stderr = '';

const entriesOf = (kind: string): number[] => {
  const all = steps.flatMap(({ decisions }) => decisions);
  return all.flatMap((decision, i) => (decision.kind === kind ? [i + 2] : []));
};

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'isthmus-journal-cli-'));
  // 03:12, as ever.
  const clock = new SimClock(Date.UTC(2026, 10, 20, 3, 12));
  journaling = new Journaling({
    member: 'us-east-1',
    replica: 'isthmus-controller-0',
    recordKey: privateKey,
    dir: join(dir, 'journal'),
    version: '0.1.0',
    epoch: () => 7n,
    whenUnwritable: 'refuse',
    anchors: () => anchors,
    clock,
    rng: seededRng(1),
    log: () => {},
    metrics: openMetrics('0.1.0'),
  });
  await journaling.open();
  for (const { inputs, decisions } of steps) {
    await clock.advance(1_000);
    expect(await journaling.append(decisions, inputs)).toMatchObject({ durable: true });
  }
  const head = journaling.journal.head()!;
  anchors.push({ ...head, of: 'us-east-1', source: 'own manifest' });
  listener = await listenHttp('127.0.0.1:0', journaling.route);
  base = `http://127.0.0.1:${listener.port}`;
});
afterAll(async () => {
  await listener.close();
  await rm(dir, { recursive: true, force: true });
});
beforeEach(() => {
  stdout = '';
  stderr = '';
  process.exitCode = undefined;
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

const isthmus = (...args: string[]): Promise<number> => {
  process.exitCode = undefined;
  return run(['node', 'isthmus', 'journal', ...args, ...(args.includes('--file') ? [] : ['--controller', base])]);
};
const exported = async (...args: string[]): Promise<string> => {
  expect(await isthmus('export', ...args)).toBe(0);
  const text = stdout;
  stdout = '';
  return text;
};
const saved = async (text: string): Promise<string> => {
  const path = join(dir, 'export.jsonl');
  await writeFile(path, text);
  return path;
};

describe('isthmus journal list', () => {
  it('shows one line an entry', async () => {
    expect(await isthmus('list')).toBe(0);
    const [head, first, ...rows] = stdout.trimEnd().split('\n');
    expect(head).toMatch(/^SEQ\s+TIME\s+KIND\s+SERVICE\s+MEMBER\s+RULE\s+AUTHOR\s+DETAIL$/);
    expect(first).toMatch(/^1\s+2026-11-20 03:12:\d\dZ\s+begin\s.*a chain begins: this disk had no journal/);
    const shift = rows.find((row) => / shift /.test(row));
    expect(shift).toMatch(/^\d+\s+2026-11-20 03:12:\d\dZ\s+shift\s+shop\/checkout\s+\S+\s+ProbeFailed\s+controller\s+/);
    expect(rows.some((row) => /\sdrain\s.*\skim\s/.test(row))).toBe(true);
  });
  it('shows what was asked for', async () => {
    expect(await isthmus('list', '--kind', 'drain', '-o', 'json')).toBe(0);
    const report = JSON.parse(stdout) as { kind: string; entries: { sequence: number; body: { kind: string } }[] };
    expect(report.kind).toBe('JournalList');
    expect(report.entries.map(({ sequence }) => sequence)).toEqual(entriesOf('drain'));
    stdout = '';
    expect(await isthmus('list', '--author', 'kim', '--limit', '1', '-o', 'json')).toBe(0);
    expect((JSON.parse(stdout) as typeof report).entries).toHaveLength(1);
    stdout = '';
    expect(await isthmus('list', '--until', '2026-11-20T03:11:00Z')).toBe(0);
    expect(stdout).toBe('no entries\n');
  });
  it('refuses what makes no sense, by name', async () => {
    expect(await isthmus('list', '--limit', '0')).toBe(64);
    expect(stderr).toContain('--limit "0"');
    expect(await isthmus('list', '--since', '3 moons')).toBe(64);
    expect(await isthmus('list', '--since', '2026-11-20T04:00:00Z', '--until', '2026-11-20T03:00:00Z')).toBe(64);
  });
});

describe('isthmus journal show', () => {
  it('says what moved, from where to where, why, what held and who, to somebody who was not there', async () => {
    const [shift] = entriesOf('shift');
    expect(await isthmus('show', String(shift))).toBe(0);
    expect(stdout).toMatch(/^2026-11-20 03:12:\d\d\.000Z {2}Traffic of shop\/checkout moved, because of eu$/m);
    for (const field of ['from', 'to', 'why', 'guards', 'by', 'policy', 'inputs', 'entry', 'hash']) {
      expect(stdout).toMatch(new RegExp(`^ {2}${field} `, 'm'));
    }
    expect(stdout).toMatch(/^ {2}from\s+eu/m);
    expect(stdout).toMatch(/^ {2}to\s+eu 50 % and us-west 50 %/m);
    expect(stdout).toMatch(/^ {2}why\s+ProbeFailed: /m);
    expect(stdout).toMatch(/^ {2}by\s+the controller itself/m);
    expect(stdout).toContain(`isthmus journal replay ${shift}`);
  });
  it('names the person', async () => {
    const [drain] = entriesOf('drain');
    expect(await isthmus('show', String(drain))).toBe(0);
    expect(stdout).toMatch(/^ {2}by\s+kim/m);
  });
  it('of an entry that is not there says so', async () => {
    expect(await isthmus('show', '9999')).toBe(65);
    expect(stderr).toContain('journal/not-found');
    expect(await isthmus('show', 'first')).toBe(64);
  });
});

describe('isthmus journal verify', () => {
  it('holds a journal against what was published, and says how far that reaches', async () => {
    expect(await isthmus('verify')).toBe(0);
    expect(stdout).toContain('the journal holds');
    expect(stdout).toMatch(/covers\s+entries 1 to \d+, 2026-11-20T03:12/);
    expect(stdout).toMatch(/anchors\s+agrees with own manifest/);
    expect(stdout).toMatch(/signed by\s+sha256:[0-9a-f]{64}/);
  });
  it('checks a file alone, and names the entry that was changed, with exit code 79', async () => {
    const text = await exported();
    expect(await isthmus('verify', '--file', await saved(text))).toBe(0);
    const [shift] = entriesOf('shift');
    const forged = text.replace(new RegExp(`("sequence":${shift},.*?)"us-west"`), '$1"us-wast"');
    expect(forged).not.toBe(text);
    stdout = '';
    expect(await isthmus('verify', '--file', await saved(forged))).toBe(79);
    expect(stdout).toContain(`entry ${shift} is not the one that was signed`);
    expect(stdout).toContain('the journal does NOT hold');
    stdout = '';
    const cut = text.split('\n').filter((line) => !line.startsWith(`{"type":"entry","sequence":${shift},`));
    expect(await isthmus('verify', '--file', await saved(cut.join('\n')), '-o', 'json')).toBe(79);
    expect(JSON.parse(stdout)).toMatchObject({ holds: false, findings: [{ kind: 'missing', sequence: shift }] });
  });
  it('finds what is missing at the end by what a peer remembers', async () => {
    const text = await exported('--until', '2026-11-20T03:12:05Z');
    expect(await isthmus('verify', '--file', await saved(text))).toBe(0);
    expect(stdout).toMatch(/note\s+only entries 1 to \d+ were asked for/);
    stdout = '';
    const last = { ...anchors[0]!, source: 'eu' };
    const path = join(dir, 'anchors.json');
    await writeFile(path, JSON.stringify({ anchors: [{ ...last, sequence: last.sequence + 3 }] }));
    expect(await isthmus('verify', '--file', await saved(await exported()), '--anchors', path)).toBe(79);
    expect(stdout).toContain('missing at the end, for eu holds the hash');
  });
  it('refuses another key than the one expected', async () => {
    const file = await saved(await exported());
    expect(await isthmus('verify', '--file', file, '--key', `sha256:${'0'.repeat(64)}`)).toBe(79);
    expect(stdout).toContain('KEY');
  });
  it('finds what somebody changed on the controller’s own disk', async () => {
    const journalDir = join(dir, 'journal');
    const name = (await readdir(journalDir)).find((n) => n.endsWith('.entries'))!;
    const whole = await readFile(join(journalDir, name), 'utf8');
    const [drain] = entriesOf('drain');
    await writeFile(join(journalDir, name), whole.replace(new RegExp(`("sequence":${drain},.*?)"kim"`), '$1"ann"'));
    try {
      expect(await isthmus('verify')).toBe(79);
      expect(stdout).toContain(`entry ${drain} is not the one that was signed`);
      stdout = '';
      expect(await isthmus('list')).toBe(0);
      expect(stdout).toMatch(new RegExp(`^${drain}\\s.*NOT INTACT`, 'm'));
    } finally {
      await writeFile(join(journalDir, name), whole);
    }
  });
  it('of no journal at all says so', async () => {
    expect(await isthmus('verify', '--file', await saved('hello\n'))).toBe(79);
    expect(await isthmus('verify', '--file', join(dir, 'nothing'))).toBe(65);
  });
});

describe('isthmus journal replay', () => {
  it('shows the same decision, from the controller and from a file', async () => {
    const file = await saved(await exported());
    for (const kind of ['shift', 'drain', 'ramp', 'state']) {
      const [sequence] = entriesOf(kind);
      expect(await isthmus('replay', String(sequence))).toBe(0);
      expect(stdout).toMatch(new RegExp(`same decision: entry ${sequence}`));
      stdout = '';
      expect(await isthmus('replay', String(sequence), '--file', file)).toBe(0);
      expect(stdout).toMatch(new RegExp(`same decision: entry ${sequence}`));
      stdout = '';
    }
  });
  it('shows the difference when the decision is another one, with exit code 79', async () => {
    const own = await mkdtemp(join(tmpdir(), 'isthmus-journal-other-'));
    const clock = new SimClock();
    const options = { member: 'us-east-1', replica: 'r0', recordKey: privateKey, dir: own, version: '0.0.9', clock };
    const other = new Journaling({
      ...options,
      epoch: () => 1n,
      whenUnwritable: 'refuse',
      anchors: () => [],
      rng: seededRng(2),
      log: () => {},
      metrics: openMetrics('0.0.9'),
    });
    const { inputs, decisions } = steps.find((step) => step.decisions.some(({ kind }) => kind === 'shift'))!;
    await other.append(
      decisions.map((d) => ({ ...d, detail: `${d.detail}, perhaps` })),
      inputs,
    );
    const at = await listenHttp('127.0.0.1:0', other.route);
    expect(
      await run(['node', 'isthmus', 'journal', 'replay', '2', '--controller', `http://127.0.0.1:${at.port}`]),
    ).toBe(79);
    expect(stdout).toMatch(/another decision than entry 2 has/);
    expect(stdout).toMatch(/^2\s+detail\s.*perhaps/m);
    expect(stdout).toContain('decided by version 0.0.9');
    await at.close();
    await rm(own, { recursive: true, force: true });
  });
  it('says why an entry cannot be replayed', async () => {
    expect(await isthmus('replay', '1')).toBe(65);
    expect(stderr).toContain('it has no inputs');
    const [shift] = entriesOf('shift');
    const file = await saved(await exported('--no-inputs'));
    expect(await isthmus('replay', String(shift), '--file', file)).toBe(65);
    expect(stderr).toContain('no longer here');
  });
});

describe('isthmus journal anchors', () => {
  it('gives what a peer can testify', async () => {
    expect(await isthmus('anchors')).toBe(0);
    expect(stdout).toMatch(
      new RegExp(`us-east-1\\s+journal\\s+${anchors[0]!.chain}\\s+${anchors[0]!.sequence}\\s+own manifest`),
    );
    stdout = '';
    expect(await isthmus('anchors', '-o', 'json')).toBe(0);
    const path = join(dir, 'anchors.json');
    await writeFile(path, stdout);
    stdout = '';
    expect(await isthmus('verify', '--file', await saved(await exported()), '--anchors', path)).toBe(0);
  });
});
