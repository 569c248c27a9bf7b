/**
 * The commands that the operating system brings. Where we are root on Debian a missing one is installed; anywhere else
 * one line names all that are missing, so that nobody meets them one by one.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import type { Report } from './tools.ts';

/** Command to Debian package. */
const packages: Readonly<Record<string, string>> = {
  ip: 'iproute2',
  nft: 'nftables',
  openssl: 'openssl',
  setpriv: 'util-linux',
  flock: 'util-linux',
};

export type SystemCommand = 'ip' | 'nft' | 'openssl' | 'setpriv' | 'flock';

const searchPath = () => [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];

async function has(command: string): Promise<boolean> {
  for (const dir of searchPath()) {
    const there = await access(join(dir, command), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (there) return true;
  }
  return false;
}

const apt = (args: readonly string[]): Promise<void> =>
  new Promise((resolve, reject) => {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const child = spawn('apt-get', ['-q', '-y', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let tail = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        tail = (tail + chunk.toString()).slice(-2_000);
      });
    }
    child.on('error', reject);
    child.on('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`apt-get ${args.join(' ')} ended with ${code}:\n${tail.trim()}`)),
    );
  });

/** Makes sure that the commands are there. Throws one line that names every missing package otherwise. */
export async function ensureCommands(commands: readonly SystemCommand[], report: Report): Promise<void> {
  const missing = new Set<string>();
  for (const command of commands) if (!(await has(command))) missing.add(packages[command] ?? command);
  if (missing.size === 0) return;
  const names = [...missing].join(' ');
  if (process.getuid?.() !== 0 || !(await has('apt-get'))) {
    throw new Error(`missing system packages: ${names} (on Debian: sudo apt-get install ${names})`);
  }
  report(`installing the system packages ${names} (some seconds)`);
  await apt(['update']);
  await apt(['install', '--no-install-recommends', ...missing]);
}
