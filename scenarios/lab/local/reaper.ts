/**
 * Outlives the owner of a run and cleans when it dies, by whatever signal.
 *
 * A shell waits for the end of a pipe that only the owner holds, at no cost, and starts node when it comes. A death signal
 * on each child was passed over: it does not reach grandchildren, and leaves the namespaces.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { cleanRun, findRun, type Run } from './run.ts';

export interface Reaper {
  /** Lets the reaper go, after the run was cleaned. */
  release(): void;
}

export function startReaper(run: Run): Reaper {
  const log = openSync(`${run.dir}/logs/reaper.log`, 'a');
  const script = 'trap "" INT TERM HUP; cat >/dev/null; [ -d "$3" ] && exec "$0" "$1" "$2"';
  const args = ['-c', script, process.execPath, fileURLToPath(import.meta.url), run.id, run.dir];
  // Detached: a Ctrl-C goes to the whole foreground group, and must not reach it.
  const child = spawn('sh', args, { detached: true, stdio: ['pipe', log, log], cwd: '/' });
  closeSync(log);
  child.unref();
  const pipe = child.stdin!;
  (pipe as unknown as { unref?: () => void }).unref?.();
  pipe.on('error', () => {});
  return { release: () => pipe.destroy() };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const id = process.argv[2] ?? '';
  cleanRun(findRun(id)).catch((error: Error) => {
    process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
  });
}
