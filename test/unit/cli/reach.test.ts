/** A controller that loses connections, over real sockets. */
import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { askOne, askOneWith } from '../../../src/cli/reach.ts';

let server: Server | undefined;
afterEach(() => server?.close());

/** Answers every connection after the first `lost` ones, which it resets when the request is there. */
const controller = async (lost: number): Promise<{ url: string; asked: () => number }> => {
  let asked = 0;
  const made = createServer((socket) => {
    socket.once('data', () => {
      asked++;
      const body = '{"kind":"Status"}';
      if (asked <= lost) socket.resetAndDestroy();
      else socket.end(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`);
    });
    socket.on('error', () => {});
  });
  server = made;
  await new Promise<void>((resolve) => made.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(made.address() as { port: number }).port}`, asked: () => asked };
};

describe('a controller whose connection is lost', () => {
  it('is asked once more, where asking changes nothing', async () => {
    const { url } = await controller(1);
    const options = { controller: [url], namespace: 'isthmus-system' };
    expect(await askOne(options, '/v1/status', 5_000)).toEqual({ kind: 'Status' });
  });

  it('is not asked for ever, and not twice with a body', async () => {
    const { url, asked } = await controller(99);
    const options = { controller: [url], namespace: 'isthmus-system' };
    await expect(askOne(options, '/v1/status', 5_000)).rejects.toThrow(/does not answer: ECONNRESET/);
    expect(asked()).toBe(2);
    await expect(askOneWith(options, '/v1/trace', {}, 5_000)).rejects.toThrow(/ECONNRESET/);
    expect(asked()).toBe(3);
  });
});
