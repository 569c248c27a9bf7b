/**
 * The first hop of every probe: a connection to each of our own gateway pods, kept, and used in turn.
 *
 * In turn, because calls are spread over all of them: what one pod cannot reach, some callers cannot. A failure of this hop is not a
 * failure of the peer; the next pod is taken, and nothing is concluded when none is left.
 */
import type { Clock, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import type { TunnelConnection, TunnelDialer } from '../core/tunnel.ts';

export interface LocalGateway {
  readonly name: string;
  readonly address: string;
  readonly port: number;
}

export interface LocalGatewaysOptions {
  readonly dialer: TunnelDialer;
  readonly clock: Clock;
  /** Those that are believed to be alive; asked each time. */
  readonly pods: () => readonly LocalGateway[];
  /** The mesh identity of our gateways. */
  readonly identity: string;
  /** SNI by which the egress listener takes probes. */
  readonly servername: string;
}

const dialTimeoutMs = 500;
/** A pod that took no connection is left alone for so long. */
const pauseMs = 1_000;
/** A connection is made anew after so long: two Envoys share a port, and one connection knows only one of them. */
const lifeMs = 30_000;
/** And the old one ends when its probes are over. */
const finishMs = 10_000;

interface Kept {
  readonly address: string;
  readonly connection: Promise<TunnelConnection>;
  readonly madeMs: number;
}

export class LocalGateways {
  readonly #o: LocalGatewaysOptions;
  readonly #kept = new Map<string, Kept>();
  readonly #pausedUntil = new Map<string, number>();
  /** Still there for the probes that run over them. */
  readonly #retired = new Map<Kept, Timer>();
  #turn = 0;
  #closed = false;

  constructor(options: LocalGatewaysOptions) {
    this.#o = options;
  }

  /**
   * A connection to the pod whose turn it is, or to the next one that takes one.
   * @throws IsthmusError when there is none
   */
  async next(): Promise<TunnelConnection> {
    const pods = this.#o.pods();
    this.#forget(pods);
    const from = this.#turn++;
    let failure: unknown;
    for (let i = 0; i < pods.length && !this.#closed; i++) {
      const pod = pods[(from + i) % pods.length]!;
      if ((this.#pausedUntil.get(pod.name) ?? 0) > this.#o.clock.monotonicMs()) continue;
      try {
        return await this.#to(pod);
      } catch (error) {
        failure = error;
        this.#pausedUntil.set(pod.name, this.#o.clock.monotonicMs() + pauseMs);
      }
    }
    if (failure instanceof IsthmusError) throw failure;
    throw new IsthmusError('path/tcp', `none of ${pods.length} local gateway pods takes a connection`, {
      hint: 'check that gateway pods run: isthmus status',
    });
  }

  close(): void {
    this.#closed = true;
    for (const kept of this.#kept.values()) close(kept);
    for (const [kept, timer] of this.#retired) {
      timer.cancel();
      close(kept);
    }
    this.#kept.clear();
    this.#retired.clear();
  }

  async #to(pod: LocalGateway): Promise<TunnelConnection> {
    const { dialer, clock, identity, servername } = this.#o;
    const nowMs = clock.monotonicMs();
    const kept = this.#kept.get(pod.name);
    if (kept !== undefined && kept.address === pod.address && nowMs - kept.madeMs < lifeMs) {
      const connection = await kept.connection;
      if (connection.usable) return connection;
    }
    // Probes that still run over the old one may finish.
    if (this.#kept.get(pod.name) === kept) this.#retire(pod.name);
    const again = this.#kept.get(pod.name);
    if (again !== undefined) return again.connection;
    const connection = dialer.dial({
      host: pod.address,
      port: pod.port,
      hop: `local gateway ${pod.name}`,
      accept: [identity],
      servername,
      timeoutMs: dialTimeoutMs,
    });
    const made: Kept = { address: pod.address, connection, madeMs: nowMs };
    this.#kept.set(pod.name, made);
    try {
      const open = await connection;
      if (this.#closed) open.close();
      return open;
    } catch (error) {
      if (this.#kept.get(pod.name) === made) this.#kept.delete(pod.name);
      throw error;
    }
  }

  #forget(pods: readonly LocalGateway[]): void {
    const names = new Set(pods.map(({ name }) => name));
    for (const name of [...this.#kept.keys()]) if (!names.has(name)) this.#retire(name);
    for (const name of [...this.#pausedUntil.keys()]) if (!names.has(name)) this.#pausedUntil.delete(name);
  }

  #retire(name: string): void {
    const kept = this.#kept.get(name);
    if (kept === undefined) return;
    this.#kept.delete(name);
    this.#retired.set(
      kept,
      this.#o.clock.after(finishMs, () => {
        this.#retired.delete(kept);
        close(kept);
      }),
    );
  }
}

const close = (kept: Kept): void => {
  kept.connection.then(
    (connection) => connection.close(),
    () => {},
  );
};
