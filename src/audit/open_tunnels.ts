/**
 * Which tunnels are told of while they stand: those that have lasted for a while.
 *
 * One that ends sooner is one entry, its end, which says everything. Two entries for each were passed over: most tunnels are short,
 * and the room on the disk is what limits how far back an audit reaches. Once told, a tunnel is forgotten here, however long it lasts.
 */
import type { Connection } from './connection.ts';

interface Waiting {
  readonly connection: Connection;
  readonly sinceMs: number;
}

export class OpenTunnels {
  readonly #afterMs: number;
  readonly #max: number;
  readonly #waiting = new Map<string, Waiting>();

  /** @param afterMs - how long a tunnel stands before it is told of @param max - at most so many wait; then the oldest are told of sooner */
  constructor(afterMs: number, max: number) {
    this.#afterMs = afterMs;
    this.#max = max;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** @returns what must be told now, for want of room */
  opened(key: string, connection: Connection, nowMs: number): Connection | undefined {
    this.#waiting.set(key, { connection, sinceMs: nowMs });
    if (this.#waiting.size <= this.#max) return undefined;
    const [oldest, { connection: told }] = this.#waiting.entries().next().value!;
    this.#waiting.delete(oldest);
    return told;
  }

  ended(key: string): void {
    this.#waiting.delete(key);
  }

  /** Those that have stood for long enough; all of them when nothing is said of the time. */
  due(nowMs = Number.POSITIVE_INFINITY): Connection[] {
    const told: Connection[] = [];
    for (const [key, { connection, sinceMs }] of this.#waiting) {
      if (nowMs - sinceMs < this.#afterMs) break;
      told.push(connection);
      this.#waiting.delete(key);
    }
    return told;
  }
}
