/** How often an application is asked, by what it answers: real HTTP over a stream, in simulated time. */
import { Duplex } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import type { TunnelDialer } from '../../../src/core/tunnel.ts';
import type { GraySignal } from '../../../src/health/signals.ts';
import { GrayProber } from '../../../src/probe/gray.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';

/** What the application says to each request; undefined: nothing, ever. */
const application = (answer: string | undefined): Duplex =>
  new Duplex({
    read() {},
    write(_chunk, _encoding, done) {
      if (answer !== undefined) this.push(`HTTP/1.1 ${answer}\r\ncontent-length: 0\r\n\r\n`);
      done();
    },
  });

let running: GrayProber | undefined;
afterEach(() => running?.stop());

const rig = (answer: string | undefined) => {
  const clock = new SimClock();
  const seen = { asked: 0, signals: [] as GraySignal[] };
  const dialer: TunnelDialer = {
    dial: async () => ({
      usable: true,
      connect: async () => {
        seen.asked++;
        const refused = () => Promise.reject(new Error('not here'));
        const stream = application(answer);
        return { status: 200, headers: {}, ms: 1, stream, handshake: refused, nest: refused, end: () => {} };
      },
      ping: async () => true,
      close: () => {},
    }),
  };
  const prober = new GrayProber({
    ...{ self: 'us-east', clusterset: 'demo', clock, rng: seededRng(3), dialer, gatewayIdentity: 'spiffe://t/g' },
    localGateways: () => [],
    gateways: () => [],
    path: () => undefined,
    onSignal: (signal) => seen.signals.push(signal),
  });
  prober.setService('shop/checkout', {
    service: 'shop/checkout',
    spec: { path: '/', statuses: [{ from: 200, to: 299 }], slowMs: 1_000, intervalMs: 2_000, port: undefined },
    hostname: 'checkout.shop.svc.cluster.local',
    local: [{ address: '10.0.0.7', tunnelPort: 15_008, port: 8_080, accept: ['spiffe://t/a'] }],
    remotes: [],
  });
  prober.start();
  running = prober;
  return { clock, seen };
};

describe('a round of probes of an application', () => {
  it('is three requests, where it answers, rightly or not', async () => {
    const { clock, seen } = rig('503 Service Unavailable');
    await clock.advance(10_000);
    expect(seen.signals.length).toBeGreaterThanOrEqual(4);
    expect(seen.asked).toBe(3 * seen.signals.length);
    expect(seen.signals[0]).toMatchObject({ ok: false, detail: 'status 503' });
  });

  it('ends with a request that hangs, so that three rounds do not take nine times its limit', async () => {
    const { clock, seen } = rig(undefined);
    await clock.advance(8_500);
    expect(seen.signals.length).toBeGreaterThanOrEqual(3);
    expect(seen.asked).toBeLessThanOrEqual(seen.signals.length + 1);
    expect(seen.signals[2]).toMatchObject({ ok: false, detail: 'no answer in 1500 ms, above 1000 ms' });
  });
});
