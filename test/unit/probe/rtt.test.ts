import { once } from 'node:events';
import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { type Connect, type PeerAddress, type PeerRoundTrip, RttProber } from '../../../src/probe/rtt.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';

const gateway = (address: string): PeerAddress => ({ address, port: 15_028 });

const rig = (connect: Connect, intervalMs = 5_000) => {
  const clock = new SimClock();
  const changes: [string, PeerRoundTrip][] = [];
  const prober = new RttProber({
    clock,
    rng: seededRng(7),
    intervalMs,
    connect,
    changed: (members) => changes.push(...members),
  });
  return { clock, changes, prober };
};

describe('the prober', () => {
  it('reports a member once, and again only when its class changes', async () => {
    let rttMs = 20;
    const { clock, changes, prober } = rig(async () => rttMs);
    prober.setPeers(new Map([['west', [gateway('192.0.2.1')]]]));
    await clock.advance(300_000);
    const first = changes.length;
    expect(prober.known.get('west')).toMatchObject({ reachable: true, published: { rttMs: 25, varMs: 50 } });
    expect(first).toBe(1);
    await clock.advance(300_000);
    expect(changes.length).toBe(first);
    rttMs = 90;
    await clock.advance(600_000);
    expect(prober.known.get('west')?.published?.rttMs).toBe(100);
    // Each class on the way, no more.
    expect(changes.length).toBeLessThan(first + 8);
    prober.close();
  });

  it('asks every gateway before it calls a member unreachable, and keeps what it measured', async () => {
    let down = new Set<string>();
    const { clock, prober } = rig(async (peer) => (down.has(peer.address) ? undefined : 10));
    prober.setPeers(new Map([['west', ['192.0.2.1', '192.0.2.2', '192.0.2.3', '192.0.2.4'].map(gateway)]]));
    await clock.advance(60_000);
    down = new Set(['192.0.2.1', '192.0.2.2', '192.0.2.3']);
    await clock.advance(120_000);
    expect(prober.known.get('west')?.reachable).toBe(true);
    down.add('192.0.2.4');
    await clock.advance(60_000);
    expect(prober.known.get('west')).toMatchObject({ reachable: false, published: { rttMs: 10 } });
    prober.close();
  });

  it('takes the median of a round: one late packet moves nothing', async () => {
    let calls = 0;
    const { clock, prober } = rig(async () => (calls++ % 3 === 0 ? 1_000 : 10));
    prober.setPeers(new Map([['west', [gateway('192.0.2.1')]]]));
    await clock.advance(120_000);
    expect(prober.known.get('west')?.estimate?.srttMs).toBeCloseTo(10);
    prober.close();
  });

  it('bounds its rate however many members there are', async () => {
    let calls = 0;
    const { clock, prober } = rig(async () => {
      calls += 1;
      return 5;
    });
    prober.setPeers(new Map(Array.from({ length: 400 }, (_, i) => [`m${i}`, [gateway(`192.0.2.${i % 250}`)]])));
    await clock.advance(100_000);
    // Twenty rounds a second of three connections each, and some jitter.
    expect(calls).toBeLessThan(100 * 20 * 3 * 1.5);
    expect(prober.known.size).toBe(400);
    prober.close();
  });

  it('forgets members that left and says nothing of those without gateways', async () => {
    const { clock, prober } = rig(async () => 5);
    prober.setPeers(
      new Map([
        ['west', [gateway('192.0.2.1')]],
        ['none', []],
      ]),
    );
    await clock.advance(20_000);
    expect([...prober.known.keys()]).toEqual(['west']);
    prober.setPeers(new Map());
    await clock.advance(20_000);
    expect(prober.known.size).toBe(0);
    prober.close();
  });

  it('measures a real connection, and a refused one as unreachable', async () => {
    const server = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const clock = {
      monotonicMs: () => performance.now(),
      wallMs: () => Date.now(),
      after: (ms: number, fn: () => void) => {
        const timer = setTimeout(fn, ms);
        return { cancel: () => clearTimeout(timer) };
      },
    };
    const seen = new Map<string, PeerRoundTrip>();
    await new Promise<void>((resolve) => {
      const prober = new RttProber({
        clock,
        rng: () => 0,
        changed: (members) => {
          for (const [name, known] of members) seen.set(name, known);
          if (seen.size === 2) {
            prober.close();
            resolve();
          }
        },
      });
      prober.setPeers(
        new Map([
          ['up', [{ address: '127.0.0.1', port }]],
          ['down', [{ address: '127.0.0.1', port: 1 }]],
        ]),
      );
    });
    server.close();
    expect(seen.get('up')).toMatchObject({ reachable: true });
    expect(seen.get('up')!.estimate!.srttMs).toBeGreaterThan(0);
    expect(seen.get('down')).toMatchObject({ reachable: false, estimate: undefined });
  });
});
