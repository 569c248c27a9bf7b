/** Stand-ins for pods: TCP servers that answer every chunk with their own name, as a ztunnel's port would carry bytes. */
import { createServer, type Server, type Socket } from 'node:net';

export class Pods {
  readonly #servers = new Map<string, { readonly server: Server; readonly sockets: Set<Socket> }>();

  start(name: string, address: string, port: number): Promise<void> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('data', () => socket.write(`${name}\n`));
      socket.on('error', () => {}).on('close', () => sockets.delete(socket));
    });
    this.#servers.set(name, { server, sockets });
    return new Promise((resolve, reject) => {
      server.once('error', reject).listen(port, address, 1_024, resolve);
    });
  }

  open(name: string): number {
    return this.#servers.get(name)?.sockets.size ?? 0;
  }

  /** Dies: refuses connections, and resets those it has. */
  async kill(name: string): Promise<void> {
    const pod = this.#servers.get(name);
    if (pod === undefined) return;
    this.#servers.delete(name);
    const closed = new Promise<void>((resolve) => pod.server.close(() => resolve()));
    for (const socket of pod.sockets) socket.resetAndDestroy();
    await closed;
  }

  async close(): Promise<void> {
    for (const name of [...this.#servers.keys()]) await this.kill(name);
  }
}
