/**
 * What our gateways' Envoys hold out of use, read from the runner of each gateway pod as a stream of lines.
 *
 * The numbers of pods are put together by the larger share: one Envoy that has ejected a gateway has a reason, and what must not
 * happen is that a controller acts a second time on the same evidence. A pod whose stream ends counts no more.
 */
import { type ClientRequest, get } from 'node:http';
import type { Clock, Timer } from '../core/clock.ts';
import type { ServiceKey } from '../core/names.ts';
import type { Ejected } from './windows.ts';

export interface GatewayPodAddress {
  readonly name: string;
  readonly address: string;
}

export interface EjectionWatchOptions {
  readonly clock: Clock;
  /** Of the runners. */
  readonly port?: number;
}

/** By member, and by service and member. */
interface Summary {
  readonly members: ReadonlyMap<string, Ejected>;
  readonly services: ReadonlyMap<ServiceKey, ReadonlyMap<string, Ejected>>;
}

const portDefault = 15_021;
const againMs = 1_000;
/** The runner speaks at least every five seconds. */
const silentMaxMs = 15_000;
const lineLengthMax = 1024 * 1024;

const table = (value: unknown): readonly (readonly [string, unknown])[] =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value) : [];

const counts = (value: unknown): Map<string, Ejected> => {
  const map = new Map<string, Ejected>();
  for (const [member, held] of table(value)) {
    const [ejected, gateways] = Array.isArray(held) ? held : [];
    if (Number.isSafeInteger(ejected) && Number.isSafeInteger(gateways) && ejected >= 0 && ejected <= gateways) {
      map.set(member, { ejected, gateways });
    }
  }
  return map;
};

/** Undefined for what is not a summary. */
export const readSummary = (line: string): Summary | undefined => {
  try {
    const { members, services } = JSON.parse(line) as { members?: unknown; services?: unknown };
    return { members: counts(members), services: new Map(table(services).map(([key, of]) => [key, counts(of)])) };
  } catch {
    return undefined;
  }
};

class Reader {
  readonly address: string;
  summary: Summary | undefined;
  readonly #o: Required<EjectionWatchOptions>;
  #request: ClientRequest | undefined;
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: Required<EjectionWatchOptions>, address: string) {
    this.#o = options;
    this.address = address;
    this.#read();
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#request?.destroy();
  }

  #read(): void {
    const { port } = this.#o;
    let rest = '';
    const request = get({ host: this.address, port, path: '/v1/ejections', agent: false }, (answer) => {
      if (answer.statusCode !== 200) {
        answer.resume();
        request.destroy();
        return;
      }
      answer.setEncoding('utf8');
      answer.on('error', () => {});
      answer.on('data', (text: string) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        if (rest.length > lineLengthMax) request.destroy();
        const last = lines.at(-1);
        if (last !== undefined) this.summary = readSummary(last) ?? this.summary;
        this.#expect(request);
      });
    });
    this.#request = request;
    request.on('error', () => {});
    request.once('close', () => this.#ended(request));
    this.#expect(request);
  }

  #expect(request: ClientRequest): void {
    this.#timer?.cancel();
    if (!this.#closed) this.#timer = this.#o.clock.after(silentMaxMs, () => request.destroy());
  }

  #ended(request: ClientRequest): void {
    if (this.#closed || this.#request !== request) return;
    this.summary = undefined;
    this.#timer?.cancel();
    this.#timer = this.#o.clock.after(againMs, () => this.#read());
  }
}

export class EjectionWatch {
  readonly #o: Required<EjectionWatchOptions>;
  readonly #readers = new Map<string, Reader>();

  constructor(options: EjectionWatchOptions) {
    this.#o = { port: portDefault, ...options };
  }

  /** The gateway pods that exist now. */
  setPods(pods: readonly GatewayPodAddress[]): void {
    const wanted = new Map(pods.map(({ name, address }) => [name, address]));
    for (const [name, reader] of this.#readers) {
      if (wanted.get(name) === reader.address) continue;
      reader.close();
      this.#readers.delete(name);
    }
    for (const [name, address] of wanted)
      if (!this.#readers.has(name)) this.#readers.set(name, new Reader(this.#o, address));
  }

  /** Of a member; of a service there only where it has ejections of its own. Undefined: no Envoy has said anything of it. */
  ejected(member: string, service?: ServiceKey): Ejected | undefined {
    let worst: Ejected | undefined;
    for (const { summary } of this.#readers.values()) {
      const said = service === undefined ? summary?.members.get(member) : summary?.services.get(service)?.get(member);
      if (said !== undefined && (worst === undefined || share(said) > share(worst))) worst = said;
    }
    return worst;
  }

  /** Members with a gateway out of use. */
  ejecting(): Set<string> {
    const members = new Set<string>();
    for (const { summary } of this.#readers.values())
      for (const [member, { ejected }] of summary?.members ?? []) if (ejected > 0) members.add(member);
    return members;
  }

  close(): void {
    for (const reader of this.#readers.values()) reader.close();
    this.#readers.clear();
  }
}

const share = ({ ejected, gateways }: Ejected): number => (gateways === 0 ? 0 : ejected / gateways);
