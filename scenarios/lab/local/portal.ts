/**
 * The lab's way into its own namespaces: listens on unix sockets, which every namespace of the machine shares, and joins each
 * connection to an address inside.
 *
 *   node portal.ts <socket>=<host>:<port>…   each socket leads to one address
 *   node portal.ts <socket>                  the first line of each connection names its address
 */
import { rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';

const firstLineMax = 100;

function join(inside: Socket, target: string): void {
  const at = target.lastIndexOf(':');
  const port = Number(target.slice(at + 1));
  if (at < 1 || !(port > 0 && port < 65_536)) {
    inside.destroy();
    return;
  }
  const outside = connect({ host: target.slice(0, at), port, noDelay: true });
  outside.on('error', () => inside.destroy());
  outside.on('close', () => inside.destroy());
  inside.on('close', () => outside.destroy());
  inside.pipe(outside).pipe(inside);
}

function readTarget(inside: Socket): void {
  let head = Buffer.alloc(0);
  const read = (chunk: Buffer) => {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf('\n');
    if (end < 0 && head.length < firstLineMax) return;
    inside.off('data', read);
    inside.pause();
    if (end + 1 < head.length) inside.unshift(head.subarray(end + 1));
    join(inside, head.subarray(0, Math.max(0, end)).toString('utf8'));
  };
  inside.on('data', read);
}

for (const argument of process.argv.slice(2)) {
  const [path, target] = argument.split('=') as [string, string | undefined];
  // Of a process before this one, in a pod that was started again.
  rmSync(path, { force: true });
  createServer((inside) => {
    inside.on('error', () => inside.destroy());
    if (target === undefined) readTarget(inside);
    else join(inside, target);
  }).listen(path);
}
