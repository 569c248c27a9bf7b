/**
 * Keeps one session at a time and moves it between endpoints.
 *
 * Endpoints are tried in the order of their last failure, those without one first in the order configured, so a dark
 * endpoint is not first for ever. Attempts start one after another without waiting for the one before to time out (as
 * "happy eyeballs" does), and the first that passes the check wins: an endpoint that swallows packets costs a second.
 */
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type EtcdOptions, openSession, parseEndpoint, type Session } from './session.ts';

/** The failure that a person can act on comes first when endpoints fail in different ways. */
const weight = (error: IsthmusError): number =>
  ['store/too-old', 'store/denied', 'store/tls'].indexOf(error.code) === -1 ? 1 : 0;

const summary = (errors: readonly IsthmusError[]): IsthmusError => {
  const first = [...errors].sort((a, b) => weight(a) - weight(b))[0]!;
  const others = [...new Set(errors.map((e) => e.message))].filter((m) => m !== first.message);
  if (others.length === 0) return first;
  return new IsthmusError(first.code, `${first.message}; also: ${others.join('; ')}`, {
    ...(first.hint === undefined ? {} : { hint: first.hint }),
    subject: first.subject,
    cause: first,
  });
};

export class Connection {
  private readonly options: EtcdOptions;
  private readonly endpoints: readonly string[];
  private readonly failedAtMs = new Map<string, number>();
  private readonly listeners = new Set<(session: Session) => void>();
  private current: Session | undefined;
  private pending: Promise<Session> | undefined;
  private lastFailure: { readonly error: IsthmusError; readonly atMs: number } | undefined;
  private closed = false;

  /** Throws `config/invalid` for endpoints that are no https URLs; never because etcd is down. */
  constructor(options: EtcdOptions) {
    if (options.endpoints.length === 0) {
      throw new IsthmusError('config/invalid', 'store.endpoints is empty', {
        hint: 'name at least one as https://host:port',
      });
    }
    this.endpoints = [...new Set(options.endpoints.map((e) => parseEndpoint(e).url))];
    this.options = options;
  }

  get session(): Session | undefined {
    return this.current?.open === true ? this.current : undefined;
  }

  /** Why there is no session; empty while there is one, and before the first attempt. */
  get reason(): string {
    if (this.session !== undefined) return '';
    return this.lastFailure?.error.message ?? this.current?.endReason ?? '';
  }

  onSession(fn: (session: Session) => void): void {
    this.listeners.add(fn);
  }

  /**
   * The open session, or a new one. Rejects with an `IsthmusError` once every endpoint has failed. Right after such a
   * round the same error comes again without a new one, so that a caller in a loop does not hammer a dead etcd.
   */
  acquire(): Promise<Session> {
    if (this.closed) return Promise.reject(closedError());
    const open = this.session;
    if (open !== undefined) return Promise.resolve(open);
    const now = this.options.clock.monotonicMs();
    if (this.lastFailure !== undefined && now - this.lastFailure.atMs < limits.storeRetryMinMs) {
      return Promise.reject(this.lastFailure.error);
    }
    this.pending ??= this.round().finally(() => {
      this.pending = undefined;
    });
    return this.pending;
  }

  close(): void {
    this.closed = true;
    this.current?.end('closed');
  }

  private async round(): Promise<Session> {
    try {
      const session = await this.race();
      if (this.closed) {
        session.end('closed');
        throw closedError();
      }
      this.adopt(session);
      return session;
    } catch (error) {
      const failure = error as IsthmusError;
      this.lastFailure = { error: failure, atMs: this.options.clock.monotonicMs() };
      throw failure;
    }
  }

  private adopt(session: Session): void {
    this.current = session;
    this.lastFailure = undefined;
    session.onEnd((reason) => {
      this.failedAtMs.set(session.endpoint, this.options.clock.monotonicMs());
      if (!this.closed) this.options.log('warn', 'etcd connection ended', { endpoint: session.endpoint, reason });
    });
    this.options.log('info', 'etcd connected', { endpoint: session.endpoint, version: session.version ?? 'unknown' });
    for (const listener of this.listeners) listener(session);
  }

  private order(): string[] {
    const failed = (e: string): number => this.failedAtMs.get(e) ?? Number.NEGATIVE_INFINITY;
    return [...this.endpoints].sort((a, b) => (failed(a) === failed(b) ? 0 : failed(a) - failed(b)));
  }

  private race(): Promise<Session> {
    const waiting = this.order();
    const errors: IsthmusError[] = [];
    const running = new Map<string, AbortController>();
    const { clock } = this.options;
    return new Promise((resolve, reject) => {
      let won = false;
      const win = (endpoint: string, session: Session): void => {
        won = true;
        let earlier = true;
        for (const [other, attempt] of running) {
          if (other === endpoint) {
            earlier = false;
            continue;
          }
          // One that began earlier and is still silent is dark, as far as the next choice is concerned.
          if (earlier) this.failedAtMs.set(other, clock.monotonicMs());
          attempt.abort();
        }
        resolve(session);
      };
      const next = (): void => {
        const endpoint = waiting.shift();
        if (won || endpoint === undefined) return;
        const attempt = new AbortController();
        running.set(endpoint, attempt);
        const stagger = clock.after(limits.storeAttemptStaggerMs, next);
        openSession(endpoint, this.options, limits.storeConnectTimeoutMs, attempt.signal).then(
          (session) => {
            stagger.cancel();
            if (won) session.end('another endpoint was faster');
            else win(endpoint, session);
          },
          (error: IsthmusError) => {
            stagger.cancel();
            if (won) return;
            running.delete(endpoint);
            errors.push(error);
            this.failedAtMs.set(endpoint, clock.monotonicMs());
            next();
            if (running.size === 0) reject(summary(errors));
          },
        );
      };
      next();
    });
  }
}

export const closedError = (): IsthmusError => new IsthmusError('store/unavailable', 'the store client is closed');
