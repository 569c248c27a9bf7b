/** Choices from a seed. Each purpose has a stream of its own, so that leaving out one fault does not redraw all that follows. */
import { seededRng } from '../clock.ts';

const hash = (text: string): number => {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
};

export class Draw {
  readonly #seed: number;
  readonly #rng: () => number;

  constructor(seed: number) {
    this.#seed = seed;
    this.#rng = seededRng(seed);
  }

  /** Uniform in [0, 1). */
  readonly next = (): number => this.#rng();
  /** A stream of its own for `purpose`. */
  fork(purpose: string): Draw {
    return new Draw(hash(`${this.#seed}/${purpose}`));
  }
  /** Whole, both ends included. */
  int(from: number, to: number): number {
    return from + Math.floor(this.#rng() * (to - from + 1));
  }
  chance(p: number): boolean {
    return this.#rng() < p;
  }
  pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#rng() * from.length)]!;
  }
  /** An index, each with its share. */
  weighted(weights: readonly number[]): number {
    let left = this.#rng() * weights.reduce((a, b) => a + b, 0);
    for (let i = 0; i < weights.length; i++) {
      left -= weights[i]!;
      if (left < 0) return i;
    }
    return weights.length - 1;
  }
}
