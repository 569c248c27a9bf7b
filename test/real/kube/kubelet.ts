/**
 * The one thing of a kubelet that port-forwarding needs: a TLS server that takes the API server's upgraded WebSocket and carries
 * its data channel to a local port. Channel 0 is data, channel 1 errors; each begins with the port number.
 */
import { createHash } from 'node:crypto';
import { createServer } from 'node:https';
import { connect, type Socket } from 'node:net';

const frame = (channel: number, payload: Buffer): Buffer => {
  const body = Buffer.concat([Buffer.from([channel]), payload]);
  const head =
    body.length < 126
      ? Buffer.from([0x82, body.length])
      : Buffer.from([0x82, 126, body.length >> 8, body.length & 255]);
  return Buffer.concat([head, body]);
};

/** Cuts masked client frames out of the stream. Undefined: not whole yet. */
const takeFrame = (held: Buffer): { opcode: number; payload: Buffer; rest: Buffer } | undefined => {
  if (held.length < 6) return undefined;
  const short = (held[1] ?? 0) & 127;
  const long = short === 126;
  const length = long ? held.readUInt16BE(2) : short;
  const start = (long ? 4 : 2) + 4;
  if (held.length < start + length) return undefined;
  const mask = held.subarray(start - 4, start);
  const payload = Buffer.from(held.subarray(start, start + length)).map((byte, index) => byte ^ (mask[index % 4] ?? 0));
  return { opcode: (held[0] ?? 0) & 15, payload: Buffer.from(payload), rest: held.subarray(start + length) };
};

const serve = (socket: Socket, port: number): void => {
  const prefix = Buffer.alloc(2);
  prefix.writeUInt16LE(port);
  socket.write(frame(0, prefix));
  socket.write(frame(1, prefix));
  const upstream = connect(port, '127.0.0.1');
  upstream.on('data', (chunk) => {
    for (let at = 0; at < chunk.length; at += 32_000) socket.write(frame(0, chunk.subarray(at, at + 32_000)));
  });
  upstream.on('end', () => socket.end(Buffer.from([0x88, 0])));
  upstream.on('error', (error) => socket.write(frame(1, Buffer.from(error.message))));
  let held: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    held = Buffer.concat([held, chunk]);
    for (let next = takeFrame(held); next !== undefined; next = takeFrame(held)) {
      held = next.rest;
      if (next.opcode === 8) socket.end(Buffer.from([0x88, 0]));
      else if (next.payload[0] === 0) upstream.write(next.payload.subarray(1));
    }
  });
  socket.on('error', () => upstream.destroy());
  socket.on('close', () => upstream.destroy());
};

export const startKubelet = async (tls: { key: string; cert: string }): Promise<{ port: number; close(): void }> => {
  const sockets = new Set<Socket>();
  const server = createServer(tls);
  server.on('upgrade', (request, socket: Socket) => {
    sockets.add(socket);
    const url = new URL(request.url ?? '/', 'https://kubelet');
    const accept = createHash('sha1')
      .update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n`,
    );
    serve(socket, Number(url.searchParams.get('ports') ?? url.searchParams.get('port')));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
};
