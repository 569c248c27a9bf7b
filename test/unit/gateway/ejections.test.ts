/** From an Envoy's list of hosts to counts, and from the runner's lines to the controller. */
import { afterEach, describe, expect, it } from 'vitest';
import { EjectionPoll, summarize } from '../../../src/gateway/ejections.ts';
import { type HealthServer, serveHealth } from '../../../src/gateway/health_server.ts';
import { EjectionWatch, readSummary } from '../../../src/telemetry/ejections.ts';
import { SimClock } from '../../sim/clock.ts';
import { eventually, testClock } from '../server/rig.ts';

const host = (address: string, member: string, health: object = {}) => ({
  address: { socket_address: { address, port_value: 15_028 } },
  health_status: { eds_health_status: 'HEALTHY', ...health },
  locality: { region: 'r', sub_zone: member },
});
const page = (clusters: Record<string, readonly object[]>) =>
  JSON.stringify({
    cluster_statuses: Object.entries(clusters).map(([name, host_statuses]) => ({ name, host_statuses })),
  });

describe('the summary', () => {
  it('counts gateways once, whatever the number of classes and Envoys', () => {
    const one = page({
      'us-west>eu-central': [
        host('10.0.0.1', 'us-west', { failed_outlier_check: true }),
        host('10.0.0.2', 'us-west'),
        host('10.1.0.1', 'eu-central'),
      ],
      'eu-central>us-west': [host('10.0.0.1', 'us-west'), host('10.0.0.2', 'us-west')],
    });
    const other = page({
      'us-west>eu-central': [host('10.1.0.1', 'eu-central', { failed_active_health_check: true })],
    });
    expect(summarize([one, other])).toEqual({
      members: { 'eu-central': [1, 1], 'us-west': [1, 2] },
      services: {},
    });
  });

  it('keeps apart what one service’s own rules eject', () => {
    const own = page({
      'us-west~ab12@shop/picky': [host('10.0.0.1', 'us-west', { failed_outlier_check: true })],
      'us-west': [host('10.0.0.1', 'us-west')],
    });
    expect(summarize([own])).toEqual({
      members: { 'us-west': [0, 1] },
      services: { 'shop/picky': { 'us-west': [1, 1] } },
    });
  });

  it('leaves out hosts that belong to no member', () => {
    expect(summarize([page({ 'isthmus-controllers': [host('10.9.9.9', '')] }), page({})])).toEqual({
      members: {},
      services: {},
    });
  });
});

describe('the poll', () => {
  it('asks only while somebody listens, tells changes at once and nothing else for seconds', async () => {
    const clock = new SimClock();
    let asked = 0;
    let out = false;
    const poll = new EjectionPoll({
      clock,
      ask: async () => {
        asked++;
        return [page({ a: [host('10.0.0.1', 'us-west', out ? { failed_outlier_check: true } : {})] })];
      },
    });
    await clock.advance(5_000);
    expect(asked).toBe(0);
    const lines: string[] = [];
    const leave = poll.listen((line) => lines.push(line));
    await clock.advance(3_500);
    expect(lines.length).toBe(1);
    out = true;
    await clock.advance(1_100);
    expect(lines.map((line) => JSON.parse(line).members['us-west'])).toEqual([
      [0, 1],
      [1, 1],
    ]);
    await clock.advance(6_000);
    expect(lines.length).toBe(3);
    leave();
    await clock.advance(2_000);
    const until = asked;
    await clock.advance(10_000);
    expect(asked).toBe(until);
    poll.close();
  });

  it('goes slower when the answer takes long, and bears Envoys that do not answer', async () => {
    const clock = new SimClock();
    let asked = 0;
    const poll = new EjectionPoll({
      clock,
      ask: async () => {
        asked++;
        await new Promise<void>((resolve) => clock.after(100, resolve));
        if (asked % 2 === 0) throw new Error('gone');
        return [];
      },
    });
    poll.listen(() => {
      throw new Error('nothing was said');
    });
    await clock.advance(20_000);
    expect(asked).toBeLessThanOrEqual(5);
    expect(asked).toBeGreaterThan(2);
    poll.close();
  });
});

describe('the watch', () => {
  let server: HealthServer | undefined;
  let watch: EjectionWatch | undefined;
  afterEach(async () => {
    watch?.close();
    await server?.close();
    server = undefined;
  });
  const reply = () => ({ ok: true, lines: [] });

  it('knows what a pod says, and nothing any more when its stream ends', async () => {
    const listeners = new Set<(line: string) => void>();
    server = await serveHealth('127.0.0.1:0', {
      readyz: reply,
      livez: reply,
      ejections: (listener) => {
        listeners.add(listener);
        listener('{"members":{"us-west":[1,2]},"services":{"shop/picky":{"us-west":[2,2]}}}');
        return () => listeners.delete(listener);
      },
    });
    watch = new EjectionWatch({ clock: testClock, port: Number(server.address.split(':')[1]) });
    watch.setPods([{ name: 'gw-1', address: '127.0.0.1' }]);
    await eventually(() => watch!.ejected('us-west') !== undefined);
    expect(watch.ejected('us-west')).toEqual({ ejected: 1, gateways: 2 });
    expect(watch.ejected('us-west', 'shop/picky')).toEqual({ ejected: 2, gateways: 2 });
    expect(watch.ejected('us-west', 'shop/other')).toBeUndefined();
    expect([...watch.ejecting()]).toEqual(['us-west']);
    for (const listener of listeners) listener('{"members":{"us-west":[0,2]},"services":{}}');
    await eventually(() => watch!.ejecting().size === 0);
    await server.close();
    server = undefined;
    await eventually(() => watch!.ejected('us-west') === undefined);
  });

  it.each(['', 'null', '[]', '{"members":[1]}', '{"members":{"a":[3,1]}}', '{"members":{"a":["1",2]}}', '{'])(
    'takes nothing from %j',
    (line) => {
      expect([...(readSummary(line)?.members ?? [])]).toEqual([]);
    },
  );
});
