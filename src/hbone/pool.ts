/**
 * Outer connections shared by tunnels, as ztunnel shares them: one at a time per key, up to 100 streams on each, replaced
 * when full, dead or told to go away. Whoever needs a new one connects while the others of that key wait in line, so a
 * dead gateway costs each of them a connect timeout in turn. That is what ztunnel does, and what the rest must live with.
 */
import type { Clock, Timer } from '../core/clock.ts';
import { type ConnectAnswer, type ConnectRequest, type HboneConnection, keepAlive, openTunnel } from './client.ts';

export interface PoolOptions {
  readonly clock: Clock;
  readonly streamsMax: number;
  /** An unused connection leaves the pool after this. */
  readonly idleMs: number;
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
}

/** ztunnel's own numbers. */
export const ztunnelPool = { streamsMax: 100, idleMs: 300_000, pingIntervalMs: 10_000, pingTimeoutMs: 20_000 } as const;

interface Pooled {
  readonly connection: HboneConnection;
  streams: number;
  /** No longer handed out; ends with its last stream. */
  retired: boolean;
  idle: Timer | undefined;
}

interface Slot {
  /** The end of the line of those who want a connection. */
  line: Promise<unknown>;
  current: Pooled | undefined;
}

export class HbonePool {
  readonly #options: PoolOptions;
  readonly #slots = new Map<string, Slot>();
  readonly #all = new Set<Pooled>();

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  get connections(): number {
    return this.#all.size;
  }

  /**
   * A tunnel on a pooled connection for `key`, which must name everything that makes connections differ (address,
   * identities, certificate). `connect` makes a new one. Rejects as `connect` and `openTunnel` do; nothing is retried.
   */
  async tunnel(
    key: string,
    connect: () => Promise<HboneConnection>,
    request: ConnectRequest,
  ): Promise<ConnectAnswer & { readonly connection: HboneConnection }> {
    const pooled = await this.#take(key, connect);
    const { connection } = pooled;
    try {
      const answer = await openTunnel(connection, request);
      if (answer.stream.closed) this.#left(pooled);
      else answer.stream.once('close', () => this.#left(pooled));
      return { ...answer, connection };
    } catch (cause) {
      this.#left(pooled);
      throw cause;
    }
  }

  #take(key: string, connect: () => Promise<HboneConnection>): Promise<Pooled> {
    let slot = this.#slots.get(key);
    if (slot === undefined) {
      slot = { line: Promise.resolve(), current: undefined };
      this.#slots.set(key, slot);
    }
    const mine = slot;
    const turn = slot.line.then(() => this.#checkout(mine, connect));
    slot.line = turn.catch(() => undefined);
    return turn;
  }

  async #checkout(slot: Slot, connect: () => Promise<HboneConnection>): Promise<Pooled> {
    const before = slot.current;
    // A session that is told to go away is closed; one whose socket broke is destroyed, and not always both.
    const usable = before !== undefined && !before.connection.session.closed && !before.connection.session.destroyed;
    const pooled = usable ? before : this.#adopt(await connect());
    slot.current = pooled;
    pooled.streams += 1;
    const most = pooled.connection.session.remoteSettings?.maxConcurrentStreams ?? this.#options.streamsMax;
    if (pooled.streams >= Math.min(this.#options.streamsMax, most)) {
      pooled.retired = true;
      slot.current = undefined;
    }
    pooled.idle?.cancel();
    pooled.idle = this.#options.clock.after(this.#options.idleMs, () => {
      pooled.retired = true;
      if (slot.current === pooled) slot.current = undefined;
      if (pooled.streams === 0) pooled.connection.session.close();
    });
    return pooled;
  }

  #adopt(connection: HboneConnection): Pooled {
    const pooled: Pooled = { connection, streams: 0, retired: false, idle: undefined };
    this.#all.add(pooled);
    connection.session.once('close', () => {
      pooled.idle?.cancel();
      this.#all.delete(pooled);
    });
    keepAlive(connection, this.#options.pingIntervalMs, this.#options.pingTimeoutMs);
    return pooled;
  }

  #left(pooled: Pooled): void {
    pooled.streams -= 1;
    if (pooled.retired && pooled.streams === 0) pooled.connection.session.close();
  }

  /** Ends every connection at once. */
  close(): void {
    for (const pooled of this.#all) pooled.connection.session.destroy();
    this.#slots.clear();
  }
}
