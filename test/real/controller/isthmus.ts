/** The program as a user runs it: a child process, its exit code and what it printed. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const program = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));

export interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The environment of a child: nothing of ours that configures Isthmus or Kubernetes. */
export const cleanEnvironment = (): Record<string, string> => {
  const { PATH = '', HOME = '/root', LANG = 'C.UTF-8', NODE_COMPILE_CACHE } = process.env;
  return { PATH, HOME, LANG, ...(NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE }) };
};

const deadlineMs = 60_000;

/** Runs one command to its end, whatever that is. */
export const isthmus = (args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ran> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...args], {
      env: { ...cleanEnvironment(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (part: string) => {
      stdout += part;
    });
    child.stderr.setEncoding('utf8').on('data', (part: string) => {
      stderr += part;
    });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`isthmus ${args.join(' ')} did not end in ${deadlineMs} ms:\n${stdout}\n${stderr}`));
    }, deadlineMs);
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
  });

/** Runs one command that must succeed. */
export const mustRun = async (args: readonly string[]): Promise<Ran> => {
  const ran = await isthmus(args);
  if (ran.code !== 0) throw new Error(`isthmus ${args.join(' ')}: exit ${ran.code}\n${ran.stdout}\n${ran.stderr}`);
  return ran;
};
