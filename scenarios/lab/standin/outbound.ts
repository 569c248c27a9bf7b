/**
 * Calls from the pod: a listener on every virtual address and port that discovery names, so the original destination is
 * simply the local end of the socket.
 *
 * The pod's namespace routes the whole service range to itself (see ../redirect.ts), which lets a plain process bind
 * any virtual address. Reading the original destination behind a NAT redirect was passed over: Node has no getsockopt.
 * Calls to virtual addresses that discovery does not know are refused, and calls to pod addresses are not captured.
 */
import { randomBytes } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import type { Clock, Rng } from '../../../src/core/clock.ts';
import type { Workload } from '../../../src/gen/istio/workload/workload_pb.ts';
import { cancelTunnel, connectHbone, dial, type HboneConnection, nest, openTunnel } from '../../../src/hbone/client.ts';
import type { Credentials } from '../../../src/hbone/credentials.ts';
import { HbonePool, ztunnelPool } from '../../../src/hbone/pool.ts';
import { type SpliceResult, splice } from '../../../src/hbone/splice.ts';
import { accessLine } from './accesslog.ts';
import { baggageOf } from './baggage.ts';
import { type Route, routeTo } from './route.ts';
import { identityOfWorkload, ipText, type MeshState } from './state.ts';

export interface OutboundOptions {
  readonly state: MeshState;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly network: string;
  readonly streamsMax: number;
  readonly self: () => Workload | undefined;
  readonly credentials: () => Credentials | undefined;
  readonly log: (line: string) => void;
}

const connectTimeoutMs = 10_000;

interface Call {
  readonly app: Socket;
  readonly source: Workload;
  readonly credentials: Credentials;
  readonly route: Route;
  readonly headers: Readonly<Record<string, string>>;
  readonly started: number;
}

export class Outbound {
  readonly #options: OutboundOptions;
  readonly #pool: HbonePool;
  readonly #listeners = new Map<string, Server>();
  #keySerial = 0;
  readonly #keys = new WeakMap<Credentials, number>();

  constructor(options: OutboundOptions) {
    this.#options = options;
    this.#pool = new HbonePool({ clock: options.clock, ...ztunnelPool, streamsMax: options.streamsMax });
  }

  /** Makes the listeners those that discovery wants now. */
  reconcile(): void {
    const wanted = new Map<string, { host: string; port: number }>();
    for (const service of this.#options.state.services()) {
      for (const { network, address } of service.addresses) {
        if (network !== this.#options.network) continue;
        const host = ipText(address);
        for (const { servicePort } of service.ports) wanted.set(`${host} ${servicePort}`, { host, port: servicePort });
      }
    }
    for (const [key, server] of this.#listeners) {
      if (wanted.has(key)) continue;
      this.#listeners.delete(key);
      server.close();
    }
    for (const [key, { host, port }] of wanted) if (!this.#listeners.has(key)) this.#listen(key, host, port);
  }

  #listen(key: string, host: string, port: number): void {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (app) => void this.#call(app, host, port));
    this.#listeners.set(key, server);
    server.on('error', (error) => {
      this.#options.log(`error cannot capture ${host}:${port} error="${error.message}"`);
      // Removed, so that the next change of the world, or the timer, tries again.
      if (this.#listeners.get(key) === server) this.#listeners.delete(key);
      this.#options.clock.after(1_000, () => this.reconcile());
    });
    server.listen(port, host);
  }

  async #call(app: Socket, vip: string, port: number): Promise<void> {
    const { state, clock, rng, log } = this.#options;
    const started = clock.monotonicMs();
    app.on('error', () => {});
    const source = this.#options.self();
    const credentials = this.#options.credentials();
    let call: Call | undefined;
    try {
      if (source === undefined || credentials === undefined) throw new Error('no identity yet');
      const route = routeTo(state, source, vip, port, rng);
      const headers = headersOf(app, source, route);
      call = { app, source, credentials, route, headers, started };
      await (route.kind === 'tcp'
        ? this.#plain(call)
        : route.kind === 'hbone'
          ? this.#single(call)
          : this.#double(call));
    } catch (cause) {
      const error = (cause as Error).message;
      if (call !== undefined) this.#record(call, { sent: 0, received: 0, error: undefined }, undefined, error);
      else
        log(
          `${new Date().toISOString()}\terror\taccess\tconnection failed\tdst.addr=${vip}:${port}\tdirection="outbound"\terror=${JSON.stringify(error)}`,
        );
      app.resetAndDestroy();
    }
  }

  async #plain(call: Call): Promise<void> {
    const { host, port } = call.route;
    const address = { host, port };
    const upstream = await dial({
      address,
      hop: 'upstream',
      tcpTimeoutMs: connectTimeoutMs,
      clock: this.#options.clock,
    });
    splice(call.app, upstream, (result) => this.#record(call, result, undefined, result.error?.message));
  }

  #connect(call: Call): Promise<HboneConnection> {
    const { route, credentials } = call;
    return connectHbone({
      hop: route.kind === 'double' ? 'gateway' : 'upstream',
      clock: this.#options.clock,
      credentials,
      accept: route.accept,
      address: { host: route.host, port: route.port },
      tcpTimeoutMs: connectTimeoutMs,
    });
  }

  #tunnel(call: Call): ReturnType<HbonePool['tunnel']> {
    const { route, headers } = call;
    const key = `${route.host} ${route.port} ${this.#keyOf(call.credentials)} ${route.accept.join(' ')}`;
    return this.#pool.tunnel(key, () => this.#connect(call), { authority: route.authority, headers });
  }

  #keyOf(credentials: Credentials): number {
    let key = this.#keys.get(credentials);
    if (key === undefined) {
      this.#keySerial += 1;
      key = this.#keySerial;
      this.#keys.set(credentials, key);
    }
    return key;
  }

  async #single(call: Call): Promise<void> {
    const { stream, connection } = await this.#tunnel(call);
    splice(call.app, stream, (result) => this.#record(call, result, connection.identity, result.error?.message));
  }

  async #double(call: Call): Promise<void> {
    const { route, credentials, headers } = call;
    const outer = await this.#tunnel(call);
    let inner: HboneConnection | undefined;
    const over = (): void => {
      cancelTunnel(outer.stream);
      inner?.session.destroy();
    };
    try {
      // Somebody who has hung up while he waited must not cost a handshake: on a busy machine the line would never end.
      if (call.app.destroyed) throw new Error('the application closed the connection');
      const address = `${route.host}:${route.port}`;
      const { clock, network } = this.#options;
      inner = await nest(outer.stream, address, { hop: 'destination', clock, credentials, accept: route.acceptInner });
      const request = { authority: route.authority, headers: { ...headers, 'x-forwarded-network': network } };
      const { stream } = await openTunnel(inner, request);
      const { identity } = inner;
      splice(call.app, stream, (result) => {
        over();
        this.#record(call, result, identity, result.error?.message);
      });
    } catch (cause) {
      over();
      throw cause;
    }
  }

  #record(call: Call, result: SpliceResult, identity: string | undefined, error: string | undefined): void {
    const { app, source, route, started } = call;
    const { clock, log } = this.#options;
    log(
      accessLine(new Date(), {
        direction: 'outbound',
        source: {
          address: `${app.remoteAddress}:${app.remotePort}`,
          identity: identityOfWorkload(source),
          workload: source,
        },
        destination: {
          address: `${route.host}:${route.port}`,
          authority: route.kind === 'tcp' ? undefined : route.authority,
          service: route.service?.hostname,
          identity,
          workload: route.workload,
        },
        sent: result.sent,
        received: result.received,
        durationMs: clock.monotonicMs() - started,
        error,
      }),
    );
  }

  close(): void {
    for (const server of this.#listeners.values()) server.close();
    this.#pool.close();
  }
}

const headersOf = (app: Socket, source: Workload, route: Route): Record<string, string> => {
  const host = route.service === undefined ? '' : `;host=${route.service.hostname}`;
  const id = randomBytes(24).toString('hex');
  return {
    baggage: baggageOf(source),
    forwarded: `for="${app.remoteAddress}:${app.remotePort}"${host}`,
    traceparent: `00-${id.slice(0, 32)}-${id.slice(32)}-00`,
  };
};
