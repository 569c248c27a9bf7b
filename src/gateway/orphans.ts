/**
 * No Envoy outlives its runner: an orphan would hold the shared ports with nobody to watch it.
 *
 * The kernel sees to it: `setpriv --pdeathsig KILL` has a child killed when its parent dies, however it dies. Where setpriv is
 * missing, and for the moment before it took effect, a file names each Envoy's process, and the next runner ends what it finds.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';

let available: boolean | undefined;

/** Whether children can be bound to our life here. Asked once. */
export const canBindToLife = (): boolean => {
  available ??= spawnSync('setpriv', ['--pdeathsig', 'KILL', 'true'], { timeout: 2_000 }).status === 0;
  return available;
};

/** The command line that runs `command` bound to our life, where that is possible. */
export const boundToLife = (command: string, args: readonly string[]): { command: string; args: string[] } =>
  canBindToLife()
    ? { command: 'setpriv', args: ['--pdeathsig', 'KILL', '--', command, ...args] }
    : { command, args: [...args] };

export const notePid = (file: string, pid: number): void => writeFileSync(file, `${pid}\n`);

/** Ends what an earlier runner left behind, if the noted process still runs with `mark` in its command line. True if so. */
export const endOrphan = (file: string, mark: string): boolean => {
  let ended = false;
  try {
    const pid = Number(readFileSync(file, 'utf8').trim());
    if (Number.isInteger(pid) && pid > 1 && readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(mark)) {
      process.kill(pid, 'SIGKILL');
      ended = true;
    }
  } catch {
    // No file, no process: nothing to end.
  }
  rmSync(file, { force: true });
  return ended;
};
