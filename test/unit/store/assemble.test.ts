import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { StoreEvent, StoreSnapshot } from '../../../src/core/store.ts';
import { Assembler } from '../../../src/store/assemble.ts';
import { fold } from '../../../src/store/resync.ts';

const event = (modRevision: bigint, key: string): StoreEvent => ({
  type: 'put',
  key,
  value: Buffer.from(`${modRevision}`),
  modRevision,
});

/** Revisions of 1 to 5 keys each, flat, and where the answer is cut into fragments. */
const fragmented = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 20 }).chain((sizes) => {
  const events = sizes.flatMap((size, r) => Array.from({ length: size }, (_, i) => event(BigInt(r + 1), `k${i}`)));
  return fc.tuple(fc.constant(events), fc.uniqueArray(fc.nat(events.length), { maxLength: 8 }));
});

describe('fragments', () => {
  it('give whole revisions, all of them, in order, however they are cut', () => {
    fc.assert(
      fc.property(fragmented, ([events, cuts]) => {
        const assembler = new Assembler();
        const ends = [...cuts.sort((a, b) => a - b), events.length];
        const out: StoreEvent[] = [];
        let start = 0;
        for (const [i, end] of ends.entries()) {
          const piece = assembler.push(events.slice(start, end), i < ends.length - 1);
          const next = events[out.length + piece.length];
          // No revision is handed out in two pieces.
          if (piece.length > 0) expect(next?.modRevision).not.toBe(piece.at(-1)?.modRevision);
          out.push(...piece);
          start = end;
        }
        expect(out).toEqual(events);
      }),
    );
  });

  it('hand out early what is whole', () => {
    const assembler = new Assembler();
    expect(assembler.push([event(1n, 'a'), event(2n, 'a')], true)).toEqual([event(1n, 'a')]);
    expect(assembler.push([event(2n, 'b')], true)).toEqual([]);
    expect(assembler.push([], false)).toEqual([event(2n, 'a'), event(2n, 'b')]);
  });
});

describe('a periodic list', () => {
  it('taken at any revision and folded with the events since is the state at the end', () => {
    const changes = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.boolean()), { maxLength: 30 });
    fc.assert(
      fc.property(changes, fc.nat(30), fc.nat(30), (ops, at, from) => {
        const events: StoreEvent[] = ops.map(([key, put], i) =>
          put ? event(BigInt(i + 1), key) : { type: 'delete', key, modRevision: BigInt(i + 1) },
        );
        const stateAt = (count: number): StoreSnapshot => {
          const entries = new Map<string, Extract<StoreEvent, { type: 'put' }>>();
          for (const e of events.slice(0, count)) {
            if (e.type === 'put') entries.set(e.key, e);
            else entries.delete(e.key);
          }
          return {
            clusterId: 1n,
            revision: BigInt(Math.min(count, events.length)),
            entries: [...entries.values()].map(({ key, value, modRevision }) => ({ key, value, modRevision })),
          };
        };
        // The list may be ahead of the first noted event, or behind it never: noting starts before the list.
        const listAt = Math.min(at, events.length);
        const noted = events.slice(Math.min(from, listAt));
        const folded = fold(stateAt(listAt), noted);
        const sorted = (s: StoreSnapshot) => [...s.entries].sort((x, y) => (x.key < y.key ? -1 : 1));
        expect(sorted(folded)).toEqual(sorted(stateAt(events.length)));
        expect(folded.revision).toBe(BigInt(events.length));
      }),
    );
  });
});
