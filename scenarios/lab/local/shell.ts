/** Runs one short command of the system (ip, nft) and says what it said when it fails. */
import { spawn } from 'node:child_process';

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs to the end, whatever the exit code. Rejects only when the command cannot be started. */
export const capture = (argv: readonly string[], input = '', timeoutMs = 60_000): Promise<Output> =>
  new Promise((resolve, reject) => {
    const [command, ...args] = argv;
    const child = spawn(command!, args, { stdio: ['pipe', 'pipe', 'pipe'], timeout: timeoutMs, killSignal: 'SIGKILL' });
    const chunks: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
    child.stdout.on('data', (chunk: Buffer) => chunks.stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => chunks.stderr.push(chunk));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const text = (name: 'stdout' | 'stderr') => Buffer.concat(chunks[name]).toString();
      const note = signal === null ? '' : `\nended by ${signal}`;
      resolve({ code: code ?? 128, stdout: text('stdout'), stderr: text('stderr') + note });
    });
    // A command that ends without reading its input is no error of ours.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });

/** Runs to the end and returns what it printed. Throws unless it exits with 0. */
export async function shell(argv: readonly string[], input = ''): Promise<string> {
  const { code, stdout, stderr } = await capture(argv, input);
  if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}: ${stderr.trim()}`);
  return stdout;
}

/** Many `ip` commands in one process, in a namespace or (undefined) in that of the caller. */
export const ipBatch = (namespace: string | undefined, lines: readonly string[]): Promise<string> =>
  shell(['ip', ...(namespace === undefined ? [] : ['-n', namespace]), '-batch', '-'], `${lines.join('\n')}\n`);

/** Loads an nft ruleset in a namespace, all of it or nothing. */
export const nftLoad = (namespace: string, ruleset: string): Promise<string> =>
  shell(['ip', 'netns', 'exec', namespace, 'nft', '-f', '-'], ruleset);
