/**
 * Callers as a ztunnel makes them: CONNECT over TLS with a mesh certificate, up to 100 streams on a connection, ended with
 * RST_STREAM, never tried again. New tunnels come at a fixed rate; long ones ask ten times a second and count what breaks.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import { connect as connectTls } from 'node:tls';

export interface CallerTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly servername?: string;
}

export interface LoadSpec {
  readonly address: string;
  readonly port: number;
  readonly tls: CallerTls;
  readonly authority: string;
  /** New tunnels a second. */
  readonly rate: number;
  /** Tunnels that stay open. */
  readonly long: number;
  /** A new tunnel gives up after this, with a reset. */
  readonly giveUpMs?: number;
  readonly streamsMax?: number;
}

export interface LoadResult {
  readonly sent: number;
  readonly ok: number;
  /** What failed: words and milliseconds since the start of the load. */
  readonly failures: readonly string[];
  readonly slow: number;
  readonly maxMs: number;
  readonly p50Ms: number;
  /** Who answered new tunnels. */
  readonly servedBy: Readonly<Record<string, number>>;
  readonly long: {
    readonly opened: number;
    /** Ended without our asking. */
    readonly broken: number;
    readonly maxMs: number;
    /** Tunnels open at the end. */
    readonly open: number;
  };
  /** Connections that were closed or told to go away while in use. */
  readonly connectionsLost: number;
  /** The longest that the callers' own clock stood still: far above 0 means that the machine had no time for the test. */
  readonly lagMaxMs: number;
}

interface Outer {
  readonly session: ClientHttp2Session;
  streams: number;
}

const callTimeoutMs = 10_000;

export class Load {
  readonly #spec: LoadSpec;
  readonly #outers = new Set<Outer>();
  #stopped = false;
  #timer: NodeJS.Timeout | undefined;
  readonly #pending = new Set<Promise<unknown>>();
  readonly #startMs = performance.now();
  readonly #times: number[] = [];
  readonly #failures: string[] = [];
  readonly #servedBy: Record<string, number> = {};
  #sent = 0;
  #connectionsLost = 0;
  #lagMaxMs = 0;
  readonly #long = { opened: 0, broken: 0, maxMs: 0, open: 0 };

  constructor(spec: LoadSpec) {
    this.#spec = spec;
  }

  #outer(): Outer {
    const max = this.#spec.streamsMax ?? 100;
    for (const outer of this.#outers) {
      if (outer.streams < max && !outer.session.closed && !outer.session.destroyed) return outer;
    }
    const { address, port, tls } = this.#spec;
    const session = connect(`https://${address}:${port}`, {
      settings: { enablePush: false, initialWindowSize: 1 << 20 },
      createConnection: () =>
        connectTls({
          host: address,
          port,
          ca: tls.ca,
          cert: tls.cert,
          key: tls.key,
          minVersion: 'TLSv1.3',
          ALPNProtocols: ['h2'],
          checkServerIdentity: () => undefined,
          ...(tls.servername === undefined ? {} : { servername: tls.servername }),
        }),
    });
    const outer = { session, streams: 0 };
    this.#outers.add(outer);
    const lost = () => {
      if (!this.#outers.delete(outer) || this.#stopped) return;
      this.#connectionsLost++;
    };
    session.on('error', lost).on('goaway', lost).on('close', lost);
    return outer;
  }

  /** Opens a tunnel; resolves with its stream once the answer is 200. Rejects with what went wrong. */
  #open(timeoutMs: number): Promise<ClientHttp2Stream> {
    const outer = this.#outer();
    outer.streams++;
    const stream = outer.session.request({ ':method': 'CONNECT', ':authority': this.#spec.authority });
    stream.on('close', () => outer.streams--);
    return new Promise((resolve, reject) => {
      const fail = (why: string) => {
        clearTimeout(timer);
        stream.close(constants.NGHTTP2_CANCEL);
        reject(new Error(why));
      };
      const timer = setTimeout(() => fail('timeout'), timeoutMs);
      stream.once('response', (headers) => {
        clearTimeout(timer);
        if (headers[':status'] === 200) resolve(stream);
        else fail(`status ${headers[':status']} ${String(headers['x-isthmus-hop'] ?? '')}`);
      });
      stream.on('error', (error) => fail(`before 200: ${error.message}`));
      stream.once('close', () => fail(`closed before 200 (${stream.rstCode})`));
    });
  }

  /** Sends a line, waits for the pod's name. */
  #ask(stream: ClientHttp2Stream, timeoutMs: number): Promise<string> {
    return new Promise((resolve, reject) => {
      const done = (f: () => void) => {
        clearTimeout(timer);
        stream.off('data', onData).off('close', onClose);
        f();
      };
      const onData = (data: Buffer) => done(() => resolve(data.toString().trim()));
      const onClose = () => done(() => reject(new Error(`after 200: closed (${stream.rstCode})`)));
      const timer = setTimeout(() => done(() => reject(new Error('after 200: timeout'))), timeoutMs);
      stream.once('data', onData).once('close', onClose);
      if (stream.destroyed || stream.closed) onClose();
      else stream.write('hello\n');
    });
  }

  async #call(): Promise<void> {
    const at = performance.now();
    this.#sent++;
    try {
      const stream = await this.#open(this.#spec.giveUpMs ?? callTimeoutMs);
      const name = await this.#ask(stream, callTimeoutMs);
      this.#servedBy[name] = (this.#servedBy[name] ?? 0) + 1;
      stream.close(constants.NGHTTP2_CANCEL);
      this.#times.push(performance.now() - at);
    } catch (error) {
      this.#failures.push(`${(error as Error).message} (${Math.round(at - this.#startMs)} ms)`);
    }
  }

  async #holdOne(): Promise<void> {
    let stream: ClientHttp2Stream | undefined;
    while (!this.#stopped) {
      try {
        stream = await this.#open(callTimeoutMs);
        this.#long.opened++;
        this.#long.open++;
        while (!this.#stopped) {
          const at = performance.now();
          await this.#ask(stream, 60_000);
          this.#long.maxMs = Math.max(this.#long.maxMs, performance.now() - at);
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      } catch {
        if (this.#stopped) break;
        if (stream !== undefined) {
          this.#long.broken++;
          this.#long.open--;
        }
        stream = undefined;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
    stream?.close(constants.NGHTTP2_CANCEL);
  }

  #track(work: Promise<unknown>): void {
    this.#pending.add(work);
    void work.finally(() => this.#pending.delete(work));
  }

  start(): void {
    for (let i = 0; i < this.#spec.long; i++) this.#track(this.#holdOne());
    if (this.#spec.rate === 0) return;
    let due = 0;
    const from = performance.now();
    let last = from;
    this.#timer = setInterval(() => {
      const now = performance.now();
      this.#lagMaxMs = Math.max(this.#lagMaxMs, now - last);
      last = now;
      const target = ((now - from) / 1000) * this.#spec.rate;
      for (; due < target; due++) this.#track(this.#call());
    }, 5);
  }

  /** What was counted since the start, or since the last mark. */
  result(): LoadResult {
    const sorted = this.#times.toSorted((a, b) => a - b);
    return {
      sent: this.#sent,
      ok: sorted.length,
      failures: [...this.#failures],
      slow: sorted.filter((ms) => ms > 100).length,
      maxMs: Math.round(sorted.at(-1) ?? 0),
      p50Ms: sorted[Math.floor(sorted.length / 2)] ?? 0,
      servedBy: { ...this.#servedBy },
      long: { ...this.#long, maxMs: Math.round(this.#long.maxMs) },
      connectionsLost: this.#connectionsLost,
      lagMaxMs: Math.round(this.#lagMaxMs),
    };
  }

  /** Forgets what was counted, to look at a time of its own. */
  mark(): void {
    this.#times.length = 0;
    this.#failures.length = 0;
    for (const name of Object.keys(this.#servedBy)) delete this.#servedBy[name];
    this.#sent = 0;
    this.#connectionsLost = 0;
    this.#lagMaxMs = 0;
    this.#long.maxMs = 0;
    this.#long.broken = 0;
  }

  /** Starts no more, waits for what is under way. */
  async stop(): Promise<LoadResult> {
    clearInterval(this.#timer);
    while (this.#spec.rate > 0 && this.#pending.size > this.#spec.long) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const result = this.result();
    this.#stopped = true;
    for (const { session } of this.#outers) session.destroy();
    return result;
  }
}
