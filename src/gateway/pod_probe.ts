/**
 * The two probes of one gateway pod: a connection to its egress port, and a question to its runner over a connection that is
 * kept. The kept one tells of a death at once, for the kernel ends it; the other shows what callers would meet.
 *
 * A deadline that we notice late is not the pod's fault: its answer may be waiting in our own socket. So a late timer gives
 * the probe its full time again, and even a timely one looks a moment later, after the sockets had their turn.
 */
import { connect, type Socket } from 'node:net';
import type { Clock, Timer } from '../core/clock.ts';

export interface PodTarget {
  readonly name: string;
  readonly address: string;
  readonly egressPort: number;
  readonly healthPort: number;
}

export interface PodSignals {
  readonly connected: (ok: boolean) => void;
  readonly runner: (answer: 'ready' | 'unready' | 'silent') => void;
}

/** A timer that fires later than this came late. */
const lateMs = 20;
const secondLookMs = 1;

/** Calls `expired` after `ms` of time in which we could have heard an answer. */
class Deadline {
  readonly #clock: Clock;
  readonly #ms: number;
  readonly #expired: () => void;
  #timer: Timer | undefined;

  constructor(clock: Clock, ms: number, expired: () => void) {
    this.#clock = clock;
    this.#ms = ms;
    this.#expired = expired;
    this.#arm();
  }

  cancel(): void {
    this.#timer?.cancel();
  }

  #arm(): void {
    const dueMs = this.#clock.monotonicMs() + this.#ms;
    this.#timer = this.#clock.after(this.#ms, () => {
      if (this.#clock.monotonicMs() - dueMs > lateMs) this.#arm();
      else this.#timer = this.#clock.after(secondLookMs, this.#expired);
    });
  }
}

const status = (head: string): 'ready' | 'unready' | undefined => {
  const code = /^HTTP\/1\.1 (\d{3})/.exec(head)?.[1];
  return code === undefined ? undefined : code === '200' ? 'ready' : 'unready';
};

export class PodProbe {
  readonly #target: PodTarget;
  readonly #clock: Clock;
  readonly #deadlineMs: number;
  readonly #signals: PodSignals;
  readonly #attempts = new Set<Socket>();
  #runner: Socket | undefined;
  #asked: Deadline | undefined;
  #closed = false;

  constructor(target: PodTarget, clock: Clock, deadlineMs: number, signals: PodSignals) {
    this.#target = target;
    this.#clock = clock;
    this.#deadlineMs = deadlineMs;
    this.#signals = signals;
  }

  /** One round. Rounds may overlap. */
  round(): void {
    if (this.#closed) return;
    this.#tryConnect();
    this.#askRunner();
  }

  close(): void {
    this.#closed = true;
    this.#asked?.cancel();
    this.#runner?.destroy();
    for (const socket of this.#attempts) socket.destroy();
  }

  #tryConnect(): void {
    const socket = connect({ host: this.#target.address, port: this.#target.egressPort });
    this.#attempts.add(socket);
    const end = (ok: boolean) => {
      if (!this.#attempts.delete(socket)) return;
      deadline.cancel();
      // A reset leaves nothing behind; a proper end would leave thousands of sockets in TIME_WAIT.
      if (ok) socket.resetAndDestroy();
      else socket.destroy();
      if (!this.#closed) this.#signals.connected(ok);
    };
    const deadline = new Deadline(this.#clock, this.#deadlineMs, () => end(false));
    socket.on('connect', () => end(true));
    socket.on('error', () => end(false));
  }

  #askRunner(): void {
    if (this.#asked !== undefined) return;
    this.#runner ??= this.#connectRunner();
    const socket = this.#runner;
    socket.write(`GET /readyz HTTP/1.1\r\nhost: ${this.#target.name}\r\n\r\n`);
    this.#asked = new Deadline(this.#clock, this.#deadlineMs, () => {
      this.#dropRunner(socket);
    });
  }

  #connectRunner(): Socket {
    const socket = connect({ host: this.#target.address, port: this.#target.healthPort, noDelay: true });
    socket.on('data', (bytes) => {
      const answer = status(bytes.toString('latin1', 0, 16));
      if (this.#runner !== socket || answer === undefined) return;
      this.#asked?.cancel();
      this.#asked = undefined;
      this.#signals.runner(answer);
    });
    socket.on('error', () => {});
    socket.on('close', () => this.#dropRunner(socket));
    return socket;
  }

  /** The connection ended, or an answer is overdue: silent either way. The next round opens another one. */
  #dropRunner(socket: Socket): void {
    if (this.#runner !== socket || this.#closed) return;
    this.#runner = undefined;
    this.#asked?.cancel();
    this.#asked = undefined;
    socket.destroy();
    this.#signals.runner('silent');
    // Do not wait for the next round to hear what connections say.
    this.#tryConnect();
  }
}
