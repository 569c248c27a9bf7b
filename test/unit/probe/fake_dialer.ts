/** A dialer whose gateways and workloads answer as a test says, in simulated time. */
import { Duplex } from 'node:stream';
import type { Clock } from '../../../src/core/clock.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import { hopHeader } from '../../../src/core/hop.ts';
import { probeGatewayHeader, probeHeader } from '../../../src/core/probing.ts';
import type { Tunnel, TunnelConnection, TunnelDialer, TunnelRequest } from '../../../src/core/tunnel.ts';

export interface Answer {
  readonly status: number;
  readonly hops?: string;
  readonly head?: string;
  /** Undefined: the handshake succeeds. */
  readonly handshake?: 'path/tls' | 'path/identity' | 'path/timeout';
  readonly afterMs?: number;
}

export interface Asked {
  readonly via: string;
  readonly member: string;
  readonly gateway: string;
  readonly authority: string;
  readonly atMs: number;
}

const far = 'federation;member=x;flags=-;details=via_upstream,egress;member=us-east;flags=-;details=via_upstream';
export const answered = (status = 200, rest: Partial<Answer> = {}): Answer => ({
  status,
  hops: far,
  head: '5.7',
  ...rest,
});
export const refusedNear = (flags: string, details: string): Answer => ({
  status: 503,
  hops: `egress;member=us-east;flags=${flags};details=${details}`,
});

export class FakeDialer implements TunnelDialer {
  readonly asked: Asked[] = [];
  readonly dialled: string[] = [];
  readonly #clock: Clock;
  /** Undefined: silence until the timeout. */
  answer: (asked: Asked) => Answer | undefined = () => answered();
  /** Local gateways that take no connection. */
  readonly down = new Set<string>();
  /** Local gateways that hang: no answers, no pings. */
  readonly hung = new Set<string>();
  inFlight = 0;
  inFlightMax = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async dial({ host }: { readonly host: string }): Promise<TunnelConnection> {
    this.dialled.push(host);
    if (this.down.has(host)) throw new IsthmusError('path/tcp', `${host} refuses`);
    let usable = true;
    return {
      get usable() {
        return usable;
      },
      connect: (request) => this.#connect(host, request),
      ping: async () => !this.hung.has(host),
      close: () => {
        usable = false;
      },
    };
  }

  async #connect(via: string, { authority, headers, timeoutMs }: TunnelRequest): Promise<Tunnel> {
    const asked: Asked = {
      via,
      member: headers?.[probeHeader] ?? '',
      gateway: headers?.[probeGatewayHeader] ?? '',
      authority,
      atMs: this.#clock.monotonicMs(),
    };
    this.asked.push(asked);
    this.inFlight++;
    this.inFlightMax = Math.max(this.inFlightMax, this.inFlight);
    const answer = this.hung.has(via) ? undefined : this.answer(asked);
    await new Promise<void>((resolve) =>
      this.#clock.after(answer === undefined ? timeoutMs : (answer.afterMs ?? 1), resolve),
    );
    this.inFlight--;
    if (answer === undefined) throw new IsthmusError('path/timeout', `no answer within ${timeoutMs} ms`);
    return {
      status: answer.status,
      headers: { [hopHeader]: answer.hops, 'x-isthmus-head': answer.head },
      ms: answer.afterMs ?? 1,
      stream: new Duplex(),
      handshake: async ({ accept }) => {
        if (answer.handshake !== undefined) throw new IsthmusError(answer.handshake, 'no handshake');
        return accept[0] ?? '';
      },
      nest: () => Promise.reject(new Error('not here')),
      end: () => {},
    };
  }
}
