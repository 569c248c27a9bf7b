/**
 * The lines between clusters, and between clusters and etcd: how far, how lossy, and cut or not in each direction.
 *
 * Faults overlap, so cuts are counted. TCP needs both directions: one that is cut one way carries nothing, but it fails silently.
 */
import type { Draw } from './draw.ts';

export const etcdNode = 'etcd';

interface Line {
  cut: number;
  addMs: number;
  loss: number;
}

const key = (from: string, to: string): string => `${from}>${to}`;

export class Network {
  readonly #regionOf: ReadonlyMap<string, string>;
  readonly #base = new Map<string, number>();
  readonly #lines = new Map<string, Line>();
  readonly #draw: Draw;

  constructor(regionOf: ReadonlyMap<string, string>, draw: Draw) {
    this.#regionOf = regionOf;
    this.#draw = draw;
  }

  region(node: string): string {
    return this.#regionOf.get(node) ?? '';
  }

  line(from: string, to: string): Line {
    const k = key(from, to);
    let line = this.#lines.get(k);
    if (line === undefined) {
      line = { cut: 0, addMs: 0, loss: 0 };
      this.#lines.set(k, line);
    }
    return line;
  }

  cut(from: string, to: string, by: 1 | -1): void {
    this.line(from, to).cut += by;
  }
  cutBoth(a: string, b: string, by: 1 | -1): void {
    this.cut(a, b, by);
    this.cut(b, a, by);
  }

  /** Both directions carry packets. */
  up(a: string, b: string): boolean {
    if (a === b) return true;
    return (this.#lines.get(key(a, b))?.cut ?? 0) === 0 && (this.#lines.get(key(b, a))?.cut ?? 0) === 0;
  }
  rttMs(a: string, b: string): number {
    if (a === b) return 0.5;
    return this.#far(a, b) + (this.#lines.get(key(a, b))?.addMs ?? 0) + (this.#lines.get(key(b, a))?.addMs ?? 0);
  }
  /** Of a packet and its answer together. */
  loss(a: string, b: string): number {
    const one = this.#lines.get(key(a, b))?.loss ?? 0;
    const other = this.#lines.get(key(b, a))?.loss ?? 0;
    return 1 - (1 - one) * (1 - other);
  }

  /** How long `flights` round trips take just now, lost packets sent again as TCP does; infinite when nothing comes through. */
  exchangeMs(a: string, b: string, flights: number): number {
    if (!this.up(a, b)) return Number.POSITIVE_INFINITY;
    const rtt = this.rttMs(a, b);
    const loss = this.loss(a, b);
    let ms = 0;
    for (let i = 0; i < flights; i++) {
      ms += rtt * (1 + 0.1 * this.#draw.next());
      for (let again = rtt + Math.max(200, rtt / 2); loss > 0 && this.#draw.chance(loss); again *= 2) ms += again;
    }
    return ms;
  }

  #far(a: string, b: string): number {
    const k = a < b ? key(a, b) : key(b, a);
    let ms = this.#base.get(k);
    if (ms === undefined) {
      const share = this.#draw.fork(k).next();
      ms = this.region(a) === this.region(b) ? 1 + 3 * share : 20 + 130 * share;
      this.#base.set(k, ms);
    }
    return ms;
  }
}
