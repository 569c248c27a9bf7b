import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { types } from '../../../src/xds/resource.ts';
import { ResourceTable } from '../../../src/xds/table.ts';
import { resource } from './client.ts';

const t = types.address;
const other = types.authorization;

describe('the table', () => {
  test('an upsert of what is there already changes nothing', () => {
    const table = new ResourceTable([t]);
    expect(table.apply({ upserts: [resource(t, 'a', '1')] })).toMatchObject({ revision: 1, upserted: 1 });
    expect(table.apply({ upserts: [resource(t, 'a', '1')] })).toEqual({
      revision: 1,
      upserted: 0,
      removed: 0,
      suppressed: 1,
    });
    expect(table.apply({ removes: [{ typeUrl: t, name: 'nobody' }] }).revision).toBe(1);
  });

  test('a name that is removed and added in one batch is present, and unchanged if it comes back as it was', () => {
    const table = new ResourceTable([t]);
    table.apply({ upserts: [resource(t, 'a', '1')] });
    table.apply({ upserts: [resource(t, 'a', '1')], removes: [{ typeUrl: t, name: 'a' }] });
    expect(table.get(t, 'a')).toBeDefined();
    expect(table.since(t, 1)).toMatchObject({ removed: [], upserted: [] });
  });

  test('the delta since any revision turns the table of then into the table of now', () => {
    const step = fc.record({
      type: fc.constantFrom(t, other),
      names: fc.array(
        fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.option(fc.constantFrom('1', '2'), { nil: undefined })),
      ),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const table = new ResourceTable([t, other]);
        const past: { revision: number; held: Map<string, string> }[] = [];
        const snapshot = () => new Map([...table.names(t)].map((name) => [name, table.get(t, name)!.version]));
        past.push({ revision: 0, held: snapshot() });
        for (const { type, names } of steps) {
          table.apply({
            removes: names.filter(([, content]) => content === undefined).map(([name]) => ({ typeUrl: type, name })),
            upserts: names.flatMap(([name, content]) => (content === undefined ? [] : [resource(type, name, content)])),
          });
          past.push({ revision: table.revision, held: snapshot() });
        }
        for (const { revision, held } of past) {
          const delta = table.since(t, revision)!;
          for (const change of delta.removed) {
            expect(held.get(change.name)).toBe(change.before);
            expect(held.delete(change.name)).toBe(true);
          }
          for (const change of delta.upserted) {
            expect(held.get(change.name)).toBe(change.before);
            expect(change.before).not.toBe(change.now!.version);
            held.set(change.name, change.now!.version);
          }
          expect(held).toEqual(snapshot());
        }
      }),
    );
  });

  test('the digest depends on the content alone', () => {
    const one = new ResourceTable([t]);
    const two = new ResourceTable([t]);
    one.apply({ upserts: [resource(t, 'a', '1'), resource(t, 'b', '1')] });
    two.apply({ upserts: [resource(t, 'b', '0')] });
    expect(two.digest(t)).not.toBe(one.digest(t));
    two.apply({ upserts: [resource(t, 'b', '1')] });
    two.apply({ upserts: [resource(t, 'a', '1')] });
    expect(two.digest(t)).toBe(one.digest(t));
    expect(one.counts()).toMatchObject([{ resources: 2, digest: one.digest(t) }]);
    one.apply({
      removes: [
        { typeUrl: t, name: 'a' },
        { typeUrl: t, name: 'b' },
      ],
    });
    expect(one.counts()).toMatchObject([{ resources: 0, bytes: 0, digest: '0000000000000000' }]);
  });

  test('replace removes what is not in the new set', () => {
    const table = new ResourceTable([t, other]);
    table.apply({ upserts: [resource(t, 'a', '1'), resource(t, 'b', '1'), resource(other, 'p', '1')] });
    expect(table.replace([resource(t, 'b', '1'), resource(t, 'c', '1')], [t])).toMatchObject({
      upserted: 1,
      removed: 1,
      suppressed: 1,
    });
    expect([...table.names(t)].sort()).toEqual(['b', 'c']);
    expect(table.get(other, 'p')).toBeDefined();
  });

  test('the log is bounded, and says so when it no longer reaches back', () => {
    const table = new ResourceTable([t]);
    table.apply({ upserts: [resource(t, 'still', '1')] });
    const rounds = limits.changeLogEntriesMax + 10;
    const flip = [resource(t, 'a', '1'), resource(t, 'a', '2')];
    for (let i = 0; i < rounds; i++) table.apply({ upserts: [flip[i % 2]!] });
    expect(table.since(t, 1)).toBeUndefined();
    expect(table.since(t, table.revision - 1)!.upserted).toHaveLength(1);
    expect(table.since(t, table.revision)!.upserted).toHaveLength(0);
  });
});
