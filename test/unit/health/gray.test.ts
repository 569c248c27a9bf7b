import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addGray, type Gray, needed } from '../../../src/health/gray.ts';
import { defaultThresholds } from '../../../src/health/thresholds.ts';

const feed = (outcomes: readonly boolean[]): { gray: Gray | undefined; turns: number; outFor: number } => {
  let gray: Gray | undefined;
  let turns = 0;
  let outFor = 0;
  for (const [i, good] of outcomes.entries()) {
    const out = gray?.out ?? false;
    gray = addGray(gray, good, good ? '' : 'slow', i, defaultThresholds);
    if ((gray?.out ?? false) !== out) turns++;
    if (gray?.out === true) outFor++;
  }
  return { gray, turns, outFor };
};

/** Uniform numbers of a seed: the same on every run. */
const mixed = (seed: number, share: number, length: number): boolean[] => {
  let x = seed;
  return Array.from({ length }, () => {
    x = (Math.imul(x, 1_664_525) + 1_013_904_223) >>> 0;
    return x / 2 ** 32 >= share;
  });
};

const seeds = Array.from({ length: 50 }, (_, i) => i * 7_919 + 1);

describe('gray probes', () => {
  it('condemn after three failures in a row, and leave no trace of successes', () => {
    expect(feed([false, false]).gray?.out).toBe(false);
    expect(feed([false, false, false]).gray?.out).toBe(true);
    expect(feed([true, true, true]).gray).toBeUndefined();
  });

  it('condemn what never fails three times in a row', () => {
    const everyThird = Array.from({ length: 30 }, (_, i) => i % 3 !== 0);
    expect(feed(everyThird).gray?.out).toBe(true);
    const everyTenth = Array.from({ length: 300 }, (_, i) => i % 10 !== 0);
    expect(feed(everyTenth).outFor).toBe(0);
  });

  it('find thirty per cent of failures within a few minutes', () => {
    const within = seeds.map((seed) => {
      const outcomes = mixed(seed, 0.3, 200);
      return outcomes.findIndex((_, i) => feed(outcomes.slice(0, i + 1)).gray?.out === true);
    });
    expect(within.every((i) => i >= 0)).toBe(true);
    expect(within.sort((a, b) => a - b)[25]).toBeLessThan(30);
  });

  it('and then hold it out most of the time, without flapping', () => {
    for (const seed of seeds) {
      const { turns, outFor } = feed(mixed(seed, 0.3, 600));
      expect(turns).toBeLessThanOrEqual(9);
      expect(outFor).toBeGreaterThan(350);
    }
  });

  it('bear two failures in a hundred, but for the rare row of three', () => {
    const out = seeds.filter((seed) => feed(mixed(seed, 0.02, 1_000)).outFor > 0);
    expect(out.length).toBeLessThanOrEqual(3);
  });

  it('take it back after five good ones in a row, more when such rows broke', () => {
    const bad = [false, false, false, false];
    const good = (n: number) => new Array<boolean>(n).fill(true);
    expect(feed([...bad, ...good(4)]).gray?.out).toBe(true);
    expect(feed([...bad, ...good(5)]).gray?.out).toBe(false);
    expect(feed([...bad, ...good(4), false, ...good(5)]).gray?.out).toBe(true);
    expect(feed([...bad, ...good(4), false, ...good(10)]).gray?.out).toBe(false);
  });

  it('do not lengthen the row for a good one or two between bad ones, nor beyond forty', () => {
    const t = { ...defaultThresholds, graySuccesses: 10 };
    const fed = (outcomes: readonly boolean[]) => {
      let gray: Gray | undefined;
      for (const [i, good] of outcomes.entries()) gray = addGray(gray, good, '', i, t);
      return gray;
    };
    const bad = [false, false, false];
    const good = (n: number) => new Array<boolean>(n).fill(true);
    expect(fed([...bad, ...good(2), false, ...good(10)])?.out).toBe(false);
    expect(fed([...bad, ...good(3), false, ...good(10)])?.out).toBe(true);
    const thrice = [...bad, ...good(9), false, ...good(19), false, ...good(39), false];
    expect(fed([...thrice, ...good(39)])?.out).toBe(true);
    expect(fed([...thrice, ...good(40)])?.out).toBe(false);
    expect(needed({ broken: 3 }, { ...defaultThresholds, graySuccesses: 60 })).toBe(60);
  });

  it('come back from anything', () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 60 }), (outcomes) => {
        expect(feed([...outcomes, ...new Array<boolean>(40).fill(true)]).gray?.out ?? false).toBe(false);
      }),
    );
  });

  it('are counted once', () => {
    const once = addGray(undefined, false, 'slow', 7, defaultThresholds);
    expect(addGray(once, false, 'slow', 7, defaultThresholds)).toBe(once);
    expect(addGray(once, false, 'slow', 6, defaultThresholds)).toBe(once);
  });
});
