/**
 * A traceroute for double HBONE: does once what ztunnel does for a connection, one step at a time, and says of each hop who
 * it proved to be, how long it took, and, of the first that failed, what to look at next.
 *
 * Hops beyond the first gateway are seen through the marks that gateways put on their answer (core/hop.ts): no access
 * to them is needed. Asking each gateway's admin port was passed over, since it shows what it would do, not what it did.
 */
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { type HopMark, hopHeader, parseHops, traceHeader } from '../core/hop.ts';
import type { TraceHop } from '../core/report.ts';
import {
  type Address,
  type ConnectAnswer,
  cancelTunnel,
  dial,
  type HboneConnection,
  nest,
  sendConnect,
} from './client.ts';
import type { Credentials } from './credentials.ts';
import { type Explanation, explainMark, explainStatus } from './explain.ts';

export interface TraceOptions {
  /** A certificate of the calling workload. */
  readonly credentials: Credentials;
  /** The first hops: the local gateways (gateway mode), the far ones (direct mode) or the pod (one network). */
  readonly outer: { readonly name: string; readonly addresses: readonly Address[]; readonly accept: readonly string[] };
  /** The workloads behind the gateways; undefined: single HBONE, the first hop is the workload's own ztunnel. */
  readonly inner?: { readonly name: string; readonly accept: readonly string[] };
  /** `hostname:port` of the service; `ip:port` for single HBONE. */
  readonly authority: string;
  /** Sent into the finished tunnel; the trace then waits for a first byte. */
  readonly payload?: Uint8Array;
  /** For the whole of it. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

export interface TraceResult {
  readonly ok: boolean;
  readonly hops: readonly TraceHop[];
  readonly verdict: string;
}

/** Thrown inside to end the trace at a hop that is already on the list. */
class Broken extends Error {}

class Trace {
  readonly hops: TraceHop[] = [];
  readonly #options: TraceOptions;
  readonly #started: number;
  next = '';

  constructor(options: TraceOptions) {
    this.#options = options;
    this.#started = options.clock.monotonicMs();
  }

  get #left(): number {
    return Math.max(1, this.#options.timeoutMs - (this.#options.clock.monotonicMs() - this.#started));
  }

  add(name: string, address: string, hop: Partial<Omit<TraceHop, 'name' | 'address'>>): void {
    this.hops.push({ name, address, identity: '', ms: null, ok: true, detail: '', ...hop });
  }

  /** Lists a step that threw, and keeps its hint. */
  broke(name: string, address: string, ms: number, cause: unknown): void {
    if (!(cause instanceof IsthmusError)) throw cause;
    const prefix = `${cause.subject.hop} (${cause.subject.address}): `;
    const detail = cause.message.startsWith(prefix) ? cause.message.slice(prefix.length) : cause.message;
    if (this.next === '') this.next = cause.hint ?? '';
    this.add(name, address, { ok: false, ms, detail, identity: String(cause.subject.identity ?? '') });
  }

  async #timed<T>(name: string, address: string, step: () => Promise<T>): Promise<{ value: T; ms: number }> {
    const started = this.#options.clock.monotonicMs();
    try {
      const value = await step();
      return { value, ms: this.#options.clock.monotonicMs() - started };
    } catch (cause) {
      this.broke(name, address, this.#options.clock.monotonicMs() - started, cause);
      throw new Broken();
    }
  }

  /** TCP and TLS to the first gateway that takes us; the others that were tried stay on the list as broken. */
  async first(): Promise<HboneConnection> {
    const { outer, clock, credentials } = this.#options;
    const { name, accept } = outer;
    for (const [i, address] of outer.addresses.entries()) {
      const text = `${address.host}:${address.port}`;
      // One that drops packets must not use up the time of those after it.
      const share = this.#left / (outer.addresses.length - i);
      try {
        const tcp = await this.#timed(`${name}: TCP`, text, () =>
          dial({ address, hop: name, tcpTimeoutMs: Math.ceil(share), clock }),
        );
        this.add(`${name}: TCP`, text, { ms: tcp.ms });
        const tlsTimeoutMs = Math.ceil(Math.max(1, share - tcp.ms));
        const tls = await this.#timed(`${name}: TLS`, text, () =>
          nest(tcp.value, text, { hop: name, clock, credentials, accept, tlsTimeoutMs }),
        );
        this.add(`${name}: TLS`, text, { ms: tls.ms, identity: tls.value.identity });
        return tls.value;
      } catch (cause) {
        if (!(cause instanceof Broken)) throw cause;
      }
    }
    if (outer.addresses.length === 0) {
      this.next = 'check that gateway pods are running and known to the controller: isthmus status';
      this.add(name, '', { ok: false, detail: 'there is no address to try' });
    }
    throw new Broken();
  }

  /** The CONNECT, and what the gateways on the way say about it. */
  async connect(connection: HboneConnection, name: string, marked: boolean): Promise<ConnectAnswer> {
    const { authority } = this.#options;
    const { address } = connection;
    const headers = { [traceHeader]: '1' };
    const { value: answer } = await this.#timed(`${name}: CONNECT`, address, () =>
      sendConnect(connection, { authority, headers, timeoutMs: Math.ceil(this.#left) }),
    );
    const marks = marked ? parseHops(answer.headers[hopHeader]) : [];
    if (marks.length === 0) this.#bare(name, address, answer);
    else this.#marked(name, address, answer, marks);
    if (answer.status !== 200) throw new Broken();
    return answer;
  }

  #bare(name: string, address: string, { status, ms }: ConnectAnswer): void {
    const why = status === 200 ? undefined : explainStatus(status);
    if (why !== undefined) this.next = why.next;
    this.add(`${name}: CONNECT`, address, { ok: status === 200, ms, detail: why?.what ?? 'answered 200' });
  }

  #marked(name: string, address: string, { status, ms }: ConnectAnswer, marks: readonly HopMark[]): void {
    const failed = status !== 200;
    for (const [i, mark] of marks.entries()) {
      const before = marks[i - 1];
      const last = i === marks.length - 1;
      // The farthest gateway that spoke is the one that knows; those before it passed its answer on.
      const why = failed && last ? (explainMark(mark) ?? explainStatus(status)) : undefined;
      const onward = onwardOf(mark);
      const label =
        i === 0 ? `${name}: CONNECT` : `gateway of ${mark.member ?? before?.to ?? 'another cluster'}: CONNECT`;
      const where = i === 0 ? address : (before?.upstream ?? '');
      const who = { identity: i === 0 ? '' : (before?.peer ?? ''), ms: i === 0 ? ms : null };
      // A gateway that could not connect onward is sound itself: the hop after it is the broken one.
      if (why !== undefined && mark.upstream !== undefined && (mark.flags ?? '').includes('UF')) {
        this.add(label, where, { ...who, detail: onward });
        this.#brokenAt(mark, i === 0, why);
        return;
      }
      if (why !== undefined) this.next = why.next;
      const detail = [why?.what, onward].filter((text) => text !== undefined && text !== '').join(', ');
      this.add(label, where, { ...who, ok: why === undefined, detail });
    }
  }

  #brokenAt(mark: HopMark, own: boolean, why: Explanation): void {
    const gateway = own && mark.role === 'egress';
    const name = gateway
      ? `gateway of ${mark.to ?? 'another cluster'}`
      : `${this.#options.inner?.name ?? 'workload'}: TCP`;
    this.next = gateway ? 'check that its gateway pods run, and the network between the clusters' : why.next;
    this.add(name, mark.upstream ?? '', { ok: false, detail: why.what });
  }

  async inner(tunnel: ConnectAnswer, address: string): Promise<HboneConnection> {
    const { inner, clock, credentials } = this.#options;
    const name = inner?.name ?? '';
    const { value, ms } = await this.#timed(`${name}: TLS`, address, () =>
      nest(tunnel.stream, address, {
        hop: name,
        clock,
        credentials,
        accept: inner?.accept ?? [],
        tlsTimeoutMs: Math.ceil(this.#left),
      }),
    );
    this.add(`${name}: TLS`, address, { ms, identity: value.identity });
    return value;
  }

  /** Sends the payload and waits for the first byte of an answer. */
  async firstByte(tunnel: ConnectAnswer, payload: Uint8Array): Promise<void> {
    const { clock } = this.#options;
    const started = clock.monotonicMs();
    const got = await new Promise<string>((resolve) => {
      const timer = clock.after(this.#left, () => resolve('no first byte in time'));
      const done = (why: string): void => {
        timer.cancel();
        resolve(why);
      };
      tunnel.stream.once('data', () => done(''));
      tunnel.stream.once('end', () => done('the application closed without an answer'));
      tunnel.stream.once('close', () => done('the tunnel was reset'));
      tunnel.stream.write(payload);
    });
    const ms = clock.monotonicMs() - started;
    if (got !== '') this.next = 'look at the log of the application';
    this.add('application: first byte', '', { ms, ok: got === '', detail: got });
    if (got !== '') throw new Broken();
  }
}

const onwardOf = (mark: HopMark): string => {
  if (mark.upstream === undefined && mark.to === undefined) return '';
  const attempts = mark.attempts === undefined || mark.attempts === '1' ? '' : `, ${mark.attempts} attempts`;
  return `to ${[mark.to, mark.upstream].filter((text) => text !== undefined).join(' ')}${attempts}`;
};

const verdictOf = (trace: Trace, authority: string): string => {
  const broken = trace.hops.filter((hop) => !hop.ok);
  const spent = trace.hops.reduce((sum, hop) => sum + (hop.ms ?? 0), 0);
  const [first] = broken;
  if (first === undefined) return `${authority} answers, ${spent.toFixed(1)} ms from the first step to the last`;
  const where = first.address === '' ? first.name : `${first.name} (${first.address})`;
  const rest = trace.hops.at(-1)?.ok === true ? '; another gateway was taken, but calls that choose this one fail' : '';
  const next = trace.next === '' ? '' : `. Next: ${trace.next}`;
  return `broke at ${where}: ${first.detail}${rest}${next}`;
};

/** Never rejects for what it finds on the way; that is its result. Ends every connection that it made. */
export const trace = async (options: TraceOptions): Promise<TraceResult> => {
  const run = new Trace(options);
  const sessions: HboneConnection[] = [];
  const { inner, outer, payload } = options;
  try {
    const first = await run.first();
    sessions.push(first);
    let tunnel = await run.connect(first, outer.name, inner !== undefined);
    if (inner !== undefined) {
      const outerTunnel = tunnel;
      const address = parseHops(tunnel.headers[hopHeader]).at(-1)?.upstream ?? first.address;
      const nested = await run.inner(tunnel, address);
      sessions.push(nested);
      tunnel = await run.connect(nested, inner.name, false);
      outerTunnel.stream.once('close', () => nested.session.destroy());
    }
    if (payload !== undefined) await run.firstByte(tunnel, payload);
    cancelTunnel(tunnel.stream);
  } catch (cause) {
    if (!(cause instanceof Broken)) throw cause;
  } finally {
    for (const { session } of sessions.reverse()) session.destroy();
  }
  return { ok: run.hops.every((hop) => hop.ok), hops: run.hops, verdict: verdictOf(run, options.authority) };
};
