/** What waits, and what is folded. */
import { describe, expect, it } from 'vitest';
import { Folding } from '../../../src/audit/folding.ts';
import { OpenTunnels } from '../../../src/audit/open_tunnels.ts';
import { connection } from './rig.ts';

const denied = (i: number, over = {}) =>
  connection({
    result: 'denied',
    reason: 'not-exported',
    status: 404,
    from: `10.1.0.7:${i}`,
    authority: `s${i}:80`,
    ...over,
  });

describe('tunnels that stand', () => {
  it('are told of once they have stood for long enough, and only then', () => {
    const tunnels = new OpenTunnels(10, 100);
    tunnels.opened('a', connection({ from: 'a' }), 0);
    tunnels.opened('b', connection({ from: 'b' }), 5);
    tunnels.opened('c', connection({ from: 'c' }), 6);
    tunnels.ended('b');
    expect(tunnels.due(9)).toEqual([]);
    expect(tunnels.due(10).map(({ from }) => from)).toEqual(['a']);
    expect(tunnels.due(20).map(({ from }) => from)).toEqual(['c']);
    expect(tunnels.size).toBe(0);
  });

  it('are told of sooner when there are too many, none is forgotten', () => {
    const tunnels = new OpenTunnels(10, 2);
    expect(tunnels.opened('a', connection({ from: 'a' }), 0)).toBeUndefined();
    expect(tunnels.opened('b', connection({ from: 'b' }), 0)).toBeUndefined();
    expect(tunnels.opened('c', connection({ from: 'c' }), 0)?.from).toBe('a');
    expect(tunnels.due().map(({ from }) => from)).toEqual(['b', 'c']);
  });
});

describe('what came to nothing', () => {
  it('is an entry each, up to some of a source, and counted by reason above that', () => {
    const folding = new Folding(3, 10);
    const own = Array.from({ length: 10 }, (_, i) => folding.add(denied(i))).filter((one) => one !== undefined);
    expect(own.map(({ authority }) => authority)).toEqual(['s0:80', 's1:80', 's2:80']);
    folding.add(denied(10, { reason: 'loop', status: 403 }));
    const [notExported, loop] = folding.take();
    expect(notExported).toMatchObject({
      count: 7,
      reason: 'not-exported',
      status: 404,
      from: '10.1.0.7',
      authority: 's3:80,s4:80,s5:80,s6:80,s7:80,s8:80,s9:80',
      sent: 700,
      received: 14_000,
    });
    // One is told as it was.
    expect(loop).toEqual(denied(10, { reason: 'loop', status: 403 }));
    expect(folding.take()).toEqual([]);
    expect(folding.add(denied(11))).toBeDefined();
  });

  it('of one source takes nothing from another, and sources that are too many count as one', () => {
    const folding = new Folding(2, 3);
    for (let i = 0; i < 5; i++) folding.add(denied(i, { source: 'us-west' }));
    expect(folding.add(denied(6, { source: 'eu-central' }))).toBeDefined();
    for (let i = 0; i < 50; i++) folding.add(denied(i, { source: `x${i}` }));
    const folded = folding.take();
    expect(folded.map(({ source, count }) => [source, count])).toEqual([
      ['us-west', 3],
      ['*', 47],
    ]);
    expect(folded[1]!.authority).toMatch(/,…$/);
  });

  it('does not hide a tunnel, however many there are', () => {
    const folding = new Folding(1, 1);
    for (let i = 0; i < 100; i++) expect(folding.add(connection({ result: 'closed' }))).toBeDefined();
    expect(folding.take()).toEqual([]);
  });
});
