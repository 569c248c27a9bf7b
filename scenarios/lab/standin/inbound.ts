/**
 * Calls to the pod: HBONE on :15008. The authority is a service's host name (from a gateway) or the pod's own address;
 * either way the bytes go to the pod's own address, on the port that discovery names.
 */
import { connect } from 'node:net';
import type { Clock } from '../../../src/core/clock.ts';
import type { Workload } from '../../../src/gen/istio/workload/workload_pb.ts';
import type { Credentials } from '../../../src/hbone/credentials.ts';
import { trustDomainOf } from '../../../src/hbone/identity.ts';
import { type HboneRequest, type HboneServer, serveHbone } from '../../../src/hbone/server.ts';
import { splice } from '../../../src/hbone/splice.ts';
import { accessLine } from './accesslog.ts';
import { baggageOf } from './baggage.ts';
import { identityOfWorkload, type MeshState, targetPortOf } from './state.ts';

export interface InboundOptions {
  /** The pod's own address: the wildcard would collide with virtual addresses that have a port 15008. */
  readonly host: string;
  readonly state: MeshState;
  readonly clock: Clock;
  readonly self: () => Workload | undefined;
  readonly credentials: () => Credentials;
  readonly log: (line: string) => void;
}

const port = 15_008;
const ownPorts = new Set([15_001, 15_006, port]);
const connectTimeoutMs = 10_000;

class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const splitAuthority = (authority: string): { host: string; port: number } => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(authority);
  const number = Number(match?.[3]);
  if (match === null || number < 1 || number > 65_535) throw new Refusal(400, `no such authority: ${authority}`);
  return { host: (match[1] ?? match[2]) as string, port: number };
};

const isAddress = (host: string): boolean => /^[\d.]+$/.test(host) || host.includes(':');

/** The local port behind an authority. Throws a `Refusal`. */
const targetOf = (state: MeshState, self: Workload, localHost: string, authority: string): number => {
  const { host, port: wanted } = splitAuthority(authority);
  if (isAddress(host)) {
    if (host !== localHost) throw new Refusal(400, `ip mismatch: ${localHost} != ${host}`);
    return wanted;
  }
  const service = state.serviceByHost(host, self.namespace);
  if (service === undefined) throw new Refusal(503, `failed to find hostname ${host}`);
  const target = targetPortOf(service, self, wanted);
  if (target === 0) throw new Refusal(503, `no port for service ${host}:${wanted}`);
  return target;
};

export const startInbound = (options: InboundOptions): Promise<HboneServer> => {
  const { state, clock, log, self } = options;

  const handle = (request: HboneRequest): void => {
    const started = clock.monotonicMs();
    const workload = self();
    const record = (sent: number, received: number, error: string | undefined): void =>
      log(
        accessLine(new Date(), {
          direction: 'inbound',
          source: { address: `${request.remote.host}:${request.remote.port}`, identity: request.identity },
          destination: {
            address: `${request.local.host}:${request.local.port}`,
            authority: request.authority,
            service: isAddress(request.authority.split(':')[0] ?? '')
              ? undefined
              : request.authority.replace(/:\d+$/, ''),
            identity: workload === undefined ? undefined : identityOfWorkload(workload),
            workload,
          },
          sent,
          received,
          durationMs: clock.monotonicMs() - started,
          error,
        }),
      );
    const refuse = (status: number, reason: string): void => {
      record(0, 0, `${reason} (answered ${status})`);
      request.refuse(status);
    };
    let target: number;
    try {
      if (workload === undefined) throw new Refusal(503, 'the own workload is not known yet');
      if (state.guarded) throw new Refusal(401, 'an authorization policy exists that is not evaluated here');
      target = targetOf(state, workload, request.local.host, request.authority);
      if (ownPorts.has(target)) throw new Refusal(503, 'a call to the proxy itself');
    } catch (cause) {
      if (!(cause instanceof Refusal)) throw cause;
      refuse(cause.status, cause.message);
      return;
    }
    const app = connect({ host: request.local.host, port: target, noDelay: true, allowHalfOpen: true });
    const timer = clock.after(connectTimeoutMs, () => app.destroy(new Error('connect timeout')));
    const failed = (cause: Error): void => {
      timer.cancel();
      refuse(503, `connection failed: ${cause.message}`);
    };
    app.once('error', failed);
    request.onAbort(() => {
      if (app.connecting) app.destroy();
    });
    app.once('connect', () => {
      timer.cancel();
      app.off('error', failed);
      app.on('error', () => {});
      const baggage = baggageOf(workload);
      splice(request.accept(baggage === '' ? {} : { baggage }), app, ({ sent, received, error }) => {
        app.destroy();
        record(received, sent, error?.message);
      });
    });
  };

  return serveHbone({
    host: options.host,
    port,
    credentials: options.credentials,
    handler: handle,
    // As ztunnel: many roots in one trust domain, never another trust domain.
    admit: (identity) => {
      const workload = self();
      return workload !== undefined && trustDomainOf(identity) === trustDomainOf(identityOfWorkload(workload));
    },
    refused: (remote, error) =>
      log(
        `${new Date().toISOString()}\terror\taccess\tconnection failed\tsrc.addr=${remote}\tdst.addr=:${port}\tdirection="inbound"\terror=${JSON.stringify(error.message)}`,
      ),
  });
};
