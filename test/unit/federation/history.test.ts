/**
 * The first invariant against histories made at random: whatever of a store's history reaches a reader, in whatever order and
 * however often, what the reader uses is a state that the member signed, and never an older one than it used before.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { StoreEvent } from '../../../src/core/store.ts';
import { testMember } from '../trust/certificates.ts';
import { Author, federation, membershipOf, Shelf, serviceBytes, times } from './author.ts';

const identity = await testMember('us-west');

/** A tick: which services it sets to which capacity, or withdraws. */
const tick = fc.array(
  fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.option(fc.integer({ min: 0, max: 9 }), { nil: undefined })),
  {
    maxLength: 3,
  },
);

/** What reaches the reader: single events of the history, by place, or the snapshot after some revision. */
const delivery = fc.oneof(
  { weight: 6, arbitrary: fc.record({ event: fc.nat(60), restart: fc.constant(false) }) },
  { weight: 1, arbitrary: fc.record({ snapshot: fc.nat(20), restart: fc.boolean() }) },
);

const signed = (author: Author): string =>
  [...author.records]
    .map(([key, bytes]) => `${key}=${Buffer.from(bytes).toString('hex')}`)
    .sort()
    .join();

describe('any history', () => {
  it('leads only to states that were signed, and only forward', () => {
    fc.assert(
      fc.property(
        fc.array(tick, { minLength: 1, maxLength: 8 }),
        fc.array(delivery, { maxLength: 40 }),
        (ticks, deliveries) => {
          const shelf = new Shelf();
          const author = new Author(identity);
          const membership = shelf.write(membershipOf(identity));
          const history: StoreEvent[] = [];
          const snapshots = [shelf.snapshot()];
          const states = [''];
          for (const changes of ticks) {
            const bytes = changes.map(([name, ready]) =>
              ready === undefined
                ? { [`services/shop/${name}`]: undefined }
                : serviceBytes(name, { capacity: [{ $typeName: 'isthmus.v1.Capacity', ready, total: 9 }] }),
            );
            history.push(...shelf.write(author.tick(Object.assign({}, ...bytes))));
            snapshots.push(shelf.snapshot());
            states.push(signed(author));
          }

          let reader = federation();
          reader.events(membership, times());
          let newest = 0;
          for (const step of deliveries) {
            if (step.restart) {
              const saved = Buffer.concat([...reader.save(times())]);
              reader = federation();
              expect(reader.restore(saved, times()).ok).toBe(true);
            }
            if ('event' in step) reader.events([history[step.event % history.length]!], times());
            else reader.snapshot(snapshots[step.snapshot % snapshots.length]!, times());
            const view = reader.members.get('us-west')!;
            const at = Number(view.head?.sequence ?? 0n);
            expect(at).toBeGreaterThanOrEqual(newest);
            newest = at;
            const used = [...view.services].map(([key, record]) => `${key}=${record.capacity[0]?.ready}`).sort();
            const expected = reuse(states[at]!);
            expect(used).toEqual(expected);
          }
          // And whatever went before, the last snapshot brings the last state.
          reader.snapshot(shelf.snapshot(), times());
          expect(reader.members.get('us-west')!.head?.sequence).toBe(author.sequence);
        },
      ),
      { numRuns: 150 },
    );
  });
});

/** The services of a signed state, read again through another reader. */
const reuse = (state: string): string[] => {
  if (state === '') return [];
  const shelf = new Shelf();
  const author = new Author(identity);
  const changes = Object.fromEntries(
    state.split(',').map((entry) => {
      const [key, hex] = entry.split('=');
      return [key!, new Uint8Array(Buffer.from(hex!, 'hex'))];
    }),
  );
  shelf.write({ ...membershipOf(identity), ...author.tick(changes) });
  const reader = federation();
  reader.snapshot(shelf.snapshot(), times());
  return [...reader.members.get('us-west')!.services]
    .map(([key, record]) => `${key}=${record.capacity[0]?.ready}`)
    .sort();
};
