/** Real processes that journal: killed in the middle of it, and on a disk that takes no more. Whatever was said to be durable is there. */
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { seededRng } from '../../../src/core/rng.ts';
import { exportChain } from '../../../src/journal/export.ts';
import { Journal } from '../../../src/journal/journal.ts';
import { JournalReader } from '../../../src/journal/reading.ts';
import { verifyExport } from '../../../src/journal/verify.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { DiskJournalFiles } from '../../../src/store/journal_files.ts';
import { pause } from './rig.ts';

const { privateKey } = generateKeyPairSync('ed25519');
const writerScript = join(import.meta.dirname, 'journal_writer.ts');
let dir: string;
let keyFile: string;
let child: ChildProcess | undefined;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'isthmus-journal-real-'));
  keyFile = join(dir, 'key.pem');
  await writeFile(keyFile, privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
});
afterEach(async () => {
  child?.kill('SIGKILL');
  await rm(dir, { recursive: true, force: true });
});

/** @param fileBlocks - the largest file that the process may write, in KiB */
const start = (count: number, fileBlocks?: number): { child: ChildProcess; said: () => string[] } => {
  const args = [writerScript, join(dir, 'journal'), keyFile, String(count)];
  const limit = fileBlocks === undefined ? '' : `trap '' XFSZ; ulimit -f ${fileBlocks}; `;
  const made = spawn('bash', ['-c', `${limit}exec "$0" "$@"`, process.execPath, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child = made;
  let out = '';
  made.stdout!.on('data', (part: Buffer) => {
    out += part.toString();
  });
  return { child: made, said: () => out.split('\n').slice(0, -1) };
};

const look = async () => {
  const files = new DiskJournalFiles({ dir: join(dir, 'journal'), clock: realClock });
  const writer = { member: 'us-east', replica: 'r0', key: privateKey };
  const common = { ...writer, files, clock: realClock, rng: seededRng(1), version: '0', epoch: () => 1n };
  const journal = new Journal({ ...common, whenUnwritable: 'refuse', onEvent: () => {} });
  await journal.open();
  const reader = new JournalReader(files, journal.disk);
  const verified = async () => {
    const options = { filter: {}, inputs: true, anchors: [], wallMs: 0, version: '0', chain: journal.disk.chain! };
    const file = await exportChain(writer, journal.disk, reader, options);
    if (!file.ok) throw file.error;
    return verifyExport(file.value);
  };
  return { journal, reader, verified };
};

describe('a process that journals', () => {
  it('and is killed again and again loses nothing that it called durable', async () => {
    let durable = 0;
    for (let round = 0; round < 6; round++) {
      const { child: writer, said } = start(100_000);
      while (said().length < 20 + round * 7) await pause(5);
      writer.kill('SIGKILL');
      await once(writer, 'close');
      durable = Math.max(durable, ...said().map(Number));
      const { journal, verified } = await look();
      expect(journal.head()!.sequence).toBeGreaterThanOrEqual(durable);
      const result = await verified();
      expect(result.findings).toEqual([]);
      expect(result.sections[0]).toMatchObject({ first: 1, last: journal.head()!.sequence });
    }
    expect((await readdir(join(dir, 'journal'))).filter((name) => name.endsWith('.entries'))).toHaveLength(1);
  });

  it('and may write no more says so, keeps what it had, and goes on where there is room', async () => {
    const { child: writer, said } = start(150, 64);
    await once(writer, 'close');
    const numbers = said().filter((line) => line !== 'spooled');
    expect(said()).toHaveLength(150);
    expect(said().at(-1)).toBe('spooled');
    const { journal, reader, verified } = await look();
    expect(journal.head()!.sequence).toBe(Math.max(...numbers.map(Number)));
    await journal.append([{ author: 'controller' }]);
    expect((await verified()).findings).toEqual([]);
    const kinds = (await reader.entries({})).map(({ entry }) => entry.kind);
    expect(kinds[0]).toBe('begin');
    expect(kinds.filter((kind) => kind === 'decision')).toHaveLength(numbers.length + 1);
  });
});
