/**
 * An operator's desk: runs `isthmus` with the controllers of its cluster at hand, on loopback ports that lead to their admin
 * sockets, as a port-forward would.
 *
 *   node desk.ts <socket>… -- <isthmus arguments>
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

const isthmusProgram = fileURLToPath(new URL('../../../src/main.ts', import.meta.url));
const at = process.argv.indexOf('--');
const sockets = process.argv.slice(2, at);
const args = process.argv.slice(at + 1);

const forward = async (path: string): Promise<string> => {
  const server = createServer((outside) => {
    const inside = connect(path);
    outside.on('error', () => inside.destroy());
    inside.on('error', () => outside.destroy());
    outside.on('close', () => inside.destroy());
    inside.on('close', () => outside.destroy());
    outside.pipe(inside).pipe(outside);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
};

const urls = await Promise.all(sockets.map(forward));
const controllers = urls.length === 0 ? [] : ['--controller', urls.join(',')];
const child = spawn(process.execPath, [isthmusProgram, ...args, ...controllers], { stdio: 'inherit' });
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => child.kill(signal));
const [code] = (await once(child, 'exit')) as [number | null];
process.exit(code ?? 1);
