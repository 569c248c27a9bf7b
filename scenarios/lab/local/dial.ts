/** Connections and HTTP requests from the lab to an address behind a node, through that node's portal. */
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';

/** Opens a connection as if from the node itself: as its kubelet would, and past every fault of the path. */
export function dial(portal: string, address: string, port: number): Socket {
  const socket = connect(portal);
  socket.write(`${address}:${port}\n`);
  return socket;
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

/** One HTTP request. Rejects when it is not answered within `timeoutMs`. */
export const ask = (
  portal: string,
  address: string,
  port: number,
  path: string,
  { method = 'GET', body = '', timeoutMs = 1_000 }: { method?: string; body?: string; timeoutMs?: number } = {},
): Promise<HttpAnswer> =>
  new Promise((resolve, reject) => {
    const headers: Record<string, string | number> = { connection: 'close' };
    if (body !== '') headers['content-length'] = Buffer.byteLength(body);
    const call = request(
      // No `agent`, not even false: with one, node makes the connection itself, and from the host's network.
      { method, path, headers, host: address, port, createConnection: () => dial(portal, address, port) },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          clearTimeout(timer);
          resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') });
        });
      },
    );
    const timer = setTimeout(() => call.destroy(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    call.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    call.end(body);
  });
