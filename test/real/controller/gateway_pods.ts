/**
 * What stands where gateway pods would: addresses on loopback that answer on the gateway's ports. The controllers probe them,
 * so nothing may leave the machine, and nothing may be said to be dead that is only missing.
 */
import { execFile } from 'node:child_process';
import { createServer as createHttp } from 'node:http';
import { createServer, type Server } from 'node:net';
import { promisify } from 'node:util';

const run = promisify(execFile);
const added = new Set<string>();

/** Gives loopback an address of a pod range. Needs root. */
const addAddress = async (address: string): Promise<void> => {
  await run('ip', ['addr', 'replace', `${address}/32`, 'dev', 'lo']);
  added.add(address);
};

const removeAddress = async (address: string): Promise<void> => {
  if (!added.delete(address)) return;
  await run('ip', ['addr', 'del', `${address}/32`, 'dev', 'lo']).catch(() => {});
};

const listen = (server: Server, port: number, host: string): Promise<Server> =>
  new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => resolve(server));
  });

export class FakeGatewayPod {
  readonly address: string;
  #servers: Server[] = [];

  constructor(address: string) {
    this.address = address;
  }

  /** Answers on the ports of egress, federation and direct mode, and says that it is ready. */
  async start(): Promise<void> {
    await addAddress(this.address);
    const accept = () => createServer((socket) => void socket.on('error', () => {}).resume());
    const runner = createHttp((_request, response) => void response.end('ok'));
    this.#servers = await Promise.all([
      listen(accept(), 15_018, this.address),
      listen(accept(), 15_028, this.address),
      listen(accept(), 15_008, this.address),
      listen(runner, 15_021, this.address),
    ]);
  }

  async stop(): Promise<void> {
    for (const server of this.#servers) server.close();
    this.#servers = [];
    await removeAddress(this.address);
  }
}
