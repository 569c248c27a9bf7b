/** A member that changes its records without a pause: frozen at its last good state, followed again when it is calm, alone. */
import { beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import type { StoreSnapshot } from '../../../src/core/store.ts';
import type { Federation } from '../../../src/federation/federation.ts';
import { testMember } from '../trust/certificates.ts';
import { Author, federation, keys, membershipOf, Shelf, serviceBytes, times } from './author.ts';

const noisy = await testMember('us-west');
const other = await testMember('eu-central');
const quota = { changesPerSecond: 100, ticksPerSecond: 10 };

let reader: Federation;
let shelf: Shelf;
let west: Author;
let central: Author;
let nowMs: number;

const services = (name: string) => [...(reader.members.get(name)?.services.keys() ?? [])].sort();
const codes = (name: string) => reader.members.get(name)?.problems.map(({ code }) => code);
const send = (author: Author, changes: Record<string, Uint8Array | undefined>) =>
  reader.events(shelf.write(author.tick(changes)), times(nowMs));
/** Ticks as fast as they come, until the reader has enough. */
const flood = (most = 2_000): number => {
  for (let i = 0; i < most; i++) {
    send(west, serviceBytes(`flood-${i % 7}`));
    if (reader.members.get('us-west')?.frozen === true) return i;
  }
  return most;
};
const under = (prefix: string): StoreSnapshot => ({
  clusterId: 1n,
  revision: shelf.revision,
  entries: [...shelf.content.values()].filter(({ key }) => key.startsWith(prefix)),
});
const relist = () =>
  reader.relisted(
    'us-west',
    { everybodys: under(keys.memberPrefix('us-west')), ours: under(keys.partPrefix('us-east', 'us-west')) },
    times(nowMs),
  );

beforeEach(() => {
  nowMs = 0;
  reader = federation({ quota });
  shelf = new Shelf();
  [west, central] = [new Author(noisy), new Author(other)];
  shelf.write({ ...membershipOf(noisy), ...membershipOf(other) });
  shelf.write(west.tick(serviceBytes('a')));
  shelf.write(central.tick(serviceBytes('a')));
  reader.snapshot(shelf.snapshot(), times());
});

describe('a noisy member', () => {
  it('is frozen at its last good state, with an alarm, and nobody else is', () => {
    const ticks = flood();
    expect(ticks).toBeLessThan(limits.noiseBurstS * quota.ticksPerSecond + 2);
    const before = services('us-west');
    send(west, { 'services/shop/a': undefined });
    send(west, serviceBytes('late'));
    expect(services('us-west')).toEqual(before);
    nowMs = 500;
    reader.tick(times(nowMs));
    expect(codes('us-west')).toContain('member/noisy');
    expect(reader.members.get('us-west')?.problems.at(-1)?.message).toMatch(/passed over/);
    send(central, serviceBytes('b'));
    expect([services('eu-central'), codes('eu-central')]).toEqual([['shop/a', 'shop/b'], []]);
    expect(reader.members.get('eu-central')?.frozen).toBe(false);
  });

  it('is not followed while it goes on, and is when it has calmed down, with what it wrote meanwhile', () => {
    flood();
    for (let s = 1; s <= 30; s++) {
      nowMs = s * 1_000;
      // A little more than it may.
      for (let i = 0; i < 12; i++) send(west, serviceBytes('x'));
      expect(reader.wanted(times(nowMs))).toEqual([]);
    }
    send(west, { ...serviceBytes('late'), 'services/shop/a': undefined });
    nowMs += (limits.noiseBurstS / 2) * 1_000;
    expect(reader.wanted(times(nowMs))).toEqual(['us-west']);
    // Once: the list is under way.
    expect(reader.wanted(times(nowMs))).toEqual([]);
    const list = under(keys.memberPrefix('us-west'));
    send(west, serviceBytes('meanwhile'));
    expect(services('us-west')).not.toContain('shop/late');
    reader.relisted('us-west', { everybodys: list, ours: under(keys.partPrefix('us-east', 'us-west')) }, times(nowMs));
    expect(services('us-west')).toEqual(expect.arrayContaining(['shop/late', 'shop/meanwhile']));
    expect(services('us-west')).not.toContain('shop/a');
    reader.tick(times(nowMs));
    expect([codes('us-west'), reader.members.get('us-west')?.frozen]).toEqual([[], false]);
    send(west, serviceBytes('after'));
    expect(services('us-west')).toContain('shop/after');
  });

  it('stays frozen when its list fails, and is listed again', () => {
    flood();
    nowMs = 60_000;
    expect(reader.wanted(times(nowMs))).toEqual(['us-west']);
    reader.relisted('us-west', undefined, times(nowMs));
    expect(reader.members.get('us-west')?.frozen).toBe(true);
    expect(reader.wanted(times(nowMs))).toEqual(['us-west']);
    relist();
    expect(reader.members.get('us-west')?.frozen).toBe(false);
  });

  it('is not let out by a list of the whole store', () => {
    flood();
    const before = services('us-west');
    shelf.write(west.tick(serviceBytes('late')));
    reader.snapshot(shelf.snapshot(), times(nowMs));
    expect(services('us-west')).toEqual(before);
    expect(reader.members.get('us-west')?.frozen).toBe(true);
  });

  it('by keys alone is noisy too, and may write all that it has at once', () => {
    const many = (from: number, count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [west.key(`x/${from + i}`), new Uint8Array([i])]));
    const most = limits.recordsPerMemberMax + limits.noiseBurstS * quota.changesPerSecond;
    reader.events(shelf.write(many(0, most - 10)), times());
    expect(reader.members.get('us-west')?.frozen).toBe(false);
    reader.events(shelf.write(many(0, 20)), times());
    expect(reader.members.get('us-west')?.frozen).toBe(true);
  });

  it('is not us', () => {
    const own = federation({ self: 'us-west', quota });
    own.snapshot(shelf.snapshot(), times());
    for (let i = 0; i < 1_000; i++) own.events(shelf.write(west.tick(serviceBytes('x'))), times());
    expect(own.members.get('us-west')?.frozen).toBe(false);
  });
});
