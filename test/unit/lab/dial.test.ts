/** A request to an address in the lab must leave by the portal alone: the same address may be somebody's outside. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { ask } from '../../../scenarios/lab/local/dial.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

it('asks through the portal, never from the machine itself', async () => {
  let outside = 0;
  const decoy = createHttp((_, response) => {
    outside++;
    response.end('outside');
  });
  await new Promise<void>((resolve) => decoy.listen(0, '127.0.0.1', resolve));
  const { port } = decoy.address() as AddressInfo;
  const dir = mkdtempSync(join(tmpdir(), 'isthmus-dial-'));
  const asked: string[] = [];
  const portal = createServer((socket) => {
    socket.once('data', (data) => {
      asked.push(data.toString().split('\n')[0]!);
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\ninside');
    });
    socket.on('error', () => {});
  });
  const path = join(dir, 'portal');
  await new Promise<void>((resolve) => portal.listen(path, resolve));
  closers.push(
    () => decoy.close(),
    () => portal.close(),
    () => rmSync(dir, { recursive: true, force: true }),
  );
  for (const method of ['GET', 'POST']) {
    const answer = await ask(path, '127.0.0.1', port, '/', { method, body: method === 'POST' ? 'x' : '' });
    expect(answer).toEqual({ status: 200, body: 'inside' });
  }
  expect(asked).toEqual([`127.0.0.1:${port}`, `127.0.0.1:${port}`]);
  expect(outside).toBe(0);
});
