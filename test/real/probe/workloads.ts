/** Pods with a ztunnel in front, as one process sees them: HBONE with a certificate, and an application that can misbehave. */
import { createServer } from 'node:http';
import type { Credentials } from '../../../src/hbone/credentials.ts';
import { type HboneServer, serveHbone } from '../../../src/hbone/server.ts';

export interface Behaviour {
  readonly status: number;
  readonly delayMs: number;
  /** Of every ten requests so many are answered with 500. */
  readonly badOfTen: number;
  /** Answer of the ztunnel to the inner CONNECT instead of the application. */
  readonly refuse: number | undefined;
}

interface Workload {
  readonly server: HboneServer;
  behaviour: Behaviour;
  requests: number;
  /** CONNECTs that came inside a tunnel. */
  connects: number;
  readonly paths: Set<string>;
}

const well: Behaviour = { status: 200, delayMs: 0, badOfTen: 0, refuse: undefined };

export class Workloads {
  readonly #running = new Map<string, Workload>();

  async start(name: string, address: string, credentials: Credentials): Promise<void> {
    const app = createServer((request, response) => {
      const { behaviour } = workload;
      workload.paths.add(`${request.method} ${request.headers.host} ${request.url}`);
      const bad = workload.requests++ % 10 < behaviour.badOfTen;
      setTimeout(() => {
        response.writeHead(bad ? 500 : behaviour.status, { connection: 'close' });
        response.end(name);
      }, behaviour.delayMs);
    });
    const server = await serveHbone({
      host: address,
      port: 15_008,
      credentials: () => credentials,
      handler: (call) => {
        workload.connects++;
        const { refuse } = workload.behaviour;
        if (refuse !== undefined) call.refuse(refuse);
        else app.emit('connection', call.accept());
      },
    });
    const workload: Workload = { server, behaviour: well, requests: 0, connects: 0, paths: new Set() };
    this.#running.set(name, workload);
  }

  behave(name: string, behaviour: Partial<Behaviour>): void {
    this.#running.get(name)!.behaviour = { ...well, ...behaviour };
  }

  seen(name: string): { readonly requests: number; readonly connects: number; readonly paths: readonly string[] } {
    const { requests, connects, paths } = this.#running.get(name)!;
    return { requests, connects, paths: [...paths] };
  }

  async stop(name: string): Promise<void> {
    await this.#running.get(name)?.server.close();
    this.#running.delete(name);
  }
}
