/**
 * Bounds what connections that came to nothing take of the audit: of each source some a second are entries of their own, the
 * others are counted in one entry for each reason.
 *
 * Else a member that knocks two thousand times a second would push everything out that the disk has room for, and with it what
 * somebody wants to be forgotten. Tunnels are never folded: each of them is a connection that somebody had.
 */
import { type Connection, withoutTunnel } from './connection.ts';

interface Fold {
  readonly first: Connection;
  last: Connection;
  count: number;
  sent: number;
  received: number;
  readonly authorities: Set<string>;
}

const authoritiesMax = 8;

export class Folding {
  readonly #perSource: number;
  readonly #sourcesMax: number;
  #seen = new Map<string, number>();
  #folds = new Map<string, Fold>();

  /** @param perSource - entries of their own between two `take` @param sourcesMax - sources told apart; all others count as one */
  constructor(perSource: number, sourcesMax: number) {
    this.#perSource = perSource;
    this.#sourcesMax = sourcesMax;
  }

  /** @returns the connection, when it is an entry of its own */
  add(connection: Connection): Connection | undefined {
    if (!withoutTunnel(connection)) return connection;
    const { side, source } = connection;
    const own = `${side} ${source}`;
    const known = this.#seen.has(own) || this.#seen.size < this.#sourcesMax;
    const key = known ? own : side;
    const seen = this.#seen.get(key) ?? 0;
    this.#seen.set(key, seen + 1);
    if (seen < this.#perSource) return connection;
    this.#fold(known ? connection : { ...connection, source: '*' });
    return undefined;
  }

  /** What was folded since the last time. */
  take(): Connection[] {
    const told = [...this.#folds.values()].map(entryOf);
    this.#folds = new Map();
    this.#seen = new Map();
    return told;
  }

  #fold(connection: Connection): void {
    const { side, source, result, reason, rule, sent, received, authority } = connection;
    const key = `${side} ${source} ${result} ${reason} ${rule}`;
    let fold = this.#folds.get(key);
    if (fold === undefined) {
      fold = { first: connection, last: connection, count: 0, sent: 0, received: 0, authorities: new Set() };
      this.#folds.set(key, fold);
    }
    fold.last = connection;
    fold.count++;
    fold.sent += sent;
    fold.received += received;
    if (fold.authorities.size <= authoritiesMax) fold.authorities.add(authority);
  }
}

const entryOf = ({ first, last, count, sent, received, authorities }: Fold): Connection => {
  if (count === 1) return first;
  const { service, to, attempts, from, claim, probe, member, authority, ...rest } = first;
  const shown = [...authorities].slice(0, authoritiesMax);
  return {
    ...rest,
    // The port differs from one to the next.
    from: from.replace(/:\d+$/, ''),
    authority: authorities.size > shown.length ? `${shown.join(',')},…` : shown.join(','),
    ...(service !== undefined && authorities.size === 1 ? { service } : {}),
    ...(member === undefined ? {} : { member }),
    durationMs: Math.max(0, last.startMs + last.durationMs - first.startMs),
    sent,
    received,
    count,
  };
};
