/** An operator's desk for tests: a real etcd with authentication on, an authority made by `isthmus init`, and the command line. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { vi } from 'vitest';
import { run } from '../../../src/cli/program.ts';
import { startEtcd, type TestEtcd } from '../etcd.ts';

export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Commands that run side by side write through one mock, and share what they wrote. */
const shared = { running: 0, out: '', err: '' };

const capture = (stream: NodeJS.WriteStream, into: 'out' | 'err'): void => {
  vi.spyOn(stream, 'write').mockImplementation((text) => {
    shared[into] += String(text);
    return true;
  });
};

export const isthmus = async (...argv: readonly string[]): Promise<Ran> => {
  if (shared.running++ === 0) {
    Object.assign(shared, { out: '', err: '' });
    capture(process.stdout, 'out');
    capture(process.stderr, 'err');
  }
  try {
    const code = await run(['node', 'isthmus', ...argv]);
    return { code, out: shared.out, err: shared.err };
  } finally {
    process.exitCode = undefined;
    if (--shared.running === 0) vi.restoreAllMocks();
  }
};

export interface TestDesk {
  readonly etcd: TestEtcd;
  readonly dir: string;
  /** The authority's directory. */
  readonly authority: string;
  audit(): readonly Readonly<Record<string, string>>[];
  stop(): Promise<void>;
}

export const passphrase = 'four words nobody says';

export const startDesk = async (members: readonly string[] = [], etcdMembers: 1 | 3 = 1): Promise<TestDesk> => {
  const etcd = await startEtcd({ members: etcdMembers });
  const dir = await mkdtemp(join(tmpdir(), 'isthmus-desk-'));
  const root = await etcd.client('root');
  const file = async (name: string, content: string | Buffer): Promise<string> => {
    await writeFile(join(dir, name), content, { mode: 0o600 });
    return join(dir, name);
  };
  const words = await file('words', `${passphrase}\n`);
  const authority = join(dir, 'authority');
  const args = [
    ...['init', '--clusterset', 'demo', '--out', authority, '--passphrase-file', words, '--etcd', ...etcd.endpoints],
    ...['--etcd-ca', await file('ca.pem', etcd.ca.cert), '--etcd-ca-key', await file('ca-key.pem', etcd.ca.key)],
    ...['--etcd-cert', await file('root.pem', root.cert), '--etcd-key', await file('root-key.pem', root.key)],
    ...members.flatMap((name, i) => [
      '--member',
      `${name},region=${name},network=${name},range=10.${i + 1}.0.0/16,namespaces=shop`,
    ]),
  ];
  const stop = async (): Promise<void> => {
    await etcd.stop();
    await rm(dir, { recursive: true, force: true });
  };
  const made = await isthmus(...args);
  if (made.code !== 0) {
    await stop();
    throw new Error(`isthmus init: ${made.err}`);
  }
  process.env['ISTHMUS_AUTHORITY_PASSPHRASE'] = passphrase;
  return {
    etcd,
    dir,
    authority,
    audit: () =>
      readFileSync(join(authority, 'audit.jsonl'), 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Record<string, string>),
    stop,
  };
};
