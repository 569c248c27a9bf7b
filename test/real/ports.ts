/**
 * Ports for processes that want to be told theirs. Below the range from which the kernel serves outgoing connections: a port that was
 * free a moment ago is otherwise somebody's source port by the time the process starts.
 */
import { createServer, type Server } from 'node:net';

const from = 12_000;
const until = 32_000;

const tryPort = (port: number): Promise<Server | undefined> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen(port, '127.0.0.1', () => resolve(server));
  });

/** Free on 127.0.0.1 a moment ago, all different. */
export const freePorts = async (count: number): Promise<number[]> => {
  const held: { readonly port: number; readonly server: Server }[] = [];
  while (held.length < count) {
    const port = from + Math.floor(Math.random() * (until - from));
    const server = await tryPort(port);
    if (server !== undefined) held.push({ port, server });
  }
  await Promise.all(held.map(({ server }) => new Promise((resolve) => server.close(resolve))));
  return held.map(({ port }) => port);
};
