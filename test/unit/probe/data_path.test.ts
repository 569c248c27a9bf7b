/** When who is probed, what is told of it, and what is not. */
import { afterEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { gatewayAuthority } from '../../../src/core/probing.ts';
import type { PathTime, ProbeResult } from '../../../src/health/signals.ts';
import { DataPathProber } from '../../../src/probe/data_path.ts';
import type { ServiceTarget } from '../../../src/probe/rotation.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';
import { answered, FakeDialer, refusedNear } from './fake_dialer.ts';

const at = (address: string, id = address) => ({ id, address, port: 15_028 });
const service = (member: string, name: string): ServiceTarget => ({
  member,
  service: `shop/${name}`,
  authority: `${name}.shop.svc.cluster.local:80`,
  accept: ['spiffe://cluster.local/ns/shop/sa/default'],
});

let running: DataPathProber | undefined;
afterEach(() => running?.stop());

const rig = (options: { readonly path?: PathTime; readonly local?: readonly string[] } = {}) => {
  const clock = new SimClock();
  const dialer = new FakeDialer(clock);
  const results: ProbeResult[] = [];
  const local: string[] = [];
  const prober = new DataPathProber({
    clock,
    rng: seededRng(11),
    dialer,
    clusterset: 'demo',
    gatewayIdentity: 'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-gateway',
    localGateways: () => (options.local ?? ['10.0.0.1']).map((address) => ({ name: address, address, port: 15_018 })),
    path: () => options.path,
    onResult: (result) => results.push(result),
    onLocalFailure: (detail) => local.push(detail),
  });
  running = prober;
  prober.start();
  return { clock, dialer, results, local, prober };
};
const of = (results: readonly ProbeResult[], member: string, name?: string) =>
  results.filter((r) => r.member === member && r.service === (name === undefined ? undefined : `shop/${name}`));

describe('members', () => {
  it('are asked about twice a second, each of their gateways, and bring back the head', async () => {
    const { clock, dialer, results, prober } = rig();
    prober.setMembers(new Map([['us-west', [at('192.0.2.1'), at('192.0.2.2')]]]));
    await clock.advance(20_000);
    const found = of(results, 'us-west');
    expect(found.length).toBeGreaterThan(32);
    expect(found.length).toBeLessThan(50);
    expect(found[0]).toMatchObject({ ok: true, denied: false, status: 200, head: { epoch: 5n, sequence: 7n } });
    expect(new Set(dialer.asked.map(({ authority }) => authority))).toEqual(new Set([gatewayAuthority]));
    const asked = (gateway: string) => dialer.asked.filter((one) => one.gateway === gateway).length;
    expect(asked('192.0.2.1:15028')).toBe(asked('192.0.2.2:15028'));
  });

  it('have answered when one gateway has', async () => {
    const { clock, dialer, results, prober } = rig();
    dialer.answer = ({ gateway }) =>
      gateway.startsWith('192.0.2.1:') ? refusedNear('UF', 'Connection_refused') : answered();
    prober.setMembers(new Map([['us-west', [at('192.0.2.1'), at('192.0.2.2')]]]));
    await clock.advance(10_000);
    expect(of(results, 'us-west').every(({ ok }) => ok)).toBe(true);
    expect(prober.standings().map(({ gateway, ok }) => [gateway, ok])).toEqual([
      ['192.0.2.1', false],
      ['192.0.2.2', true],
    ]);
    dialer.answer = () => refusedNear('UF', 'Connection_refused');
    await clock.advance(3_000);
    const failed = of(results, 'us-west').filter(({ ok }) => !ok);
    expect(failed.length).toBeGreaterThanOrEqual(3);
    expect(failed.at(-1)).toMatchObject({ failedAt: 'tcp', status: 503, head: undefined });
  });

  it('that are silent have failed three times within two timeouts, for a probe in doubt holds up no other', async () => {
    const { clock, dialer, results, prober } = rig({ path: { rttMs: 200, varMs: 100 } });
    prober.setMembers(new Map([['us-west', [at('192.0.2.1')]]]));
    await clock.advance(5_000);
    const silentMs = clock.monotonicMs();
    dialer.answer = () => undefined;
    // Until the next round begins; half a timeout to each of the two after it; the last one's time.
    await clock.advance(600 + 2 * 900 + 1_800 + 10);
    const failed = of(results, 'us-west').filter(({ ok }) => !ok);
    expect(failed.length).toBeGreaterThanOrEqual(3);
    expect(failed[0]!.atMs - silentMs).toBeGreaterThanOrEqual(1_800);
    expect(failed[0]).toMatchObject({ failedAt: 'connect', status: undefined });
    expect(dialer.inFlightMax).toBeLessThanOrEqual(3);
  });

  it('get no result of a round in which our own gateway failed', async () => {
    const { clock, dialer, results, local, prober } = rig();
    prober.setMembers(new Map([['us-west', [at('192.0.2.1')]]]));
    dialer.down.add('10.0.0.1');
    await clock.advance(5_000);
    expect(results).toEqual([]);
    expect(local.length).toBeGreaterThan(2);
    dialer.down.clear();
    dialer.answer = () => refusedNear('NR', 'route_not_found');
    await clock.advance(5_000);
    expect(results).toEqual([]);
    dialer.answer = () => answered();
    dialer.hung.add('10.0.0.1');
    await clock.advance(5_000);
    expect(results).toEqual([]);
    dialer.hung.clear();
    await clock.advance(3_000);
    expect(results.length).toBeGreaterThan(0);
  });

  it('are asked through all local gateways in turn, past those that are away', async () => {
    const { clock, dialer, results, prober } = rig({ local: ['10.0.0.1', '10.0.0.2', '10.0.0.3'] });
    dialer.down.add('10.0.0.2');
    prober.setMembers(new Map([['us-west', [at('192.0.2.1')]]]));
    await clock.advance(30_000);
    const via = (address: string) => dialer.asked.filter((one) => one.via === address).length;
    expect(via('10.0.0.1')).toBeGreaterThan(5);
    expect(via('10.0.0.3')).toBeGreaterThan(5);
    expect(results.every(({ ok }) => ok)).toBe(true);
    // One connection carries many probes, and is made anew now and then.
    expect(dialer.dialled.filter((address) => address === '10.0.0.1').length).toBeLessThanOrEqual(2);
  });

  it('that leave are asked no more', async () => {
    const { clock, dialer, results, prober } = rig();
    prober.setMembers(new Map([['us-west', [at('192.0.2.1')]]]));
    dialer.answer = () => answered(200, { afterMs: 500 });
    await clock.advance(1_200);
    prober.setMembers(new Map());
    const told = results.length;
    await clock.advance(10_000);
    expect(results.length).toBe(told);
  });

  it('in great number are asked more slowly, never more at once than allowed', async () => {
    const { clock, dialer, results, prober } = rig();
    const members = Array.from(
      { length: 200 },
      (_, i) => [`m${i}`, [at(`192.0.2.1`, 'a'), at('192.0.2.2', 'b')]] as const,
    );
    prober.setMembers(new Map(members));
    dialer.answer = () => undefined;
    await clock.advance(60_000);
    expect(dialer.inFlightMax).toBeLessThanOrEqual(limits.probesInFlightMax + 4);
    expect(new Set(results.map(({ member }) => member)).size).toBe(200);
    dialer.answer = () => answered();
    await clock.advance(20_000);
    const from = dialer.asked.length;
    await clock.advance(20_000);
    expect((dialer.asked.length - from) / 20).toBeLessThan(limits.gatewayProbesPerSecondMax * 1.3);
    expect((dialer.asked.length - from) / 20).toBeGreaterThan(limits.gatewayProbesPerSecondMax * 0.7);
  });
});

describe('services', () => {
  const withServices = (count: number, path?: PathTime) => {
    const made = rig(path === undefined ? {} : { path });
    made.prober.setMembers(new Map([['us-west', [at('192.0.2.1')]]]));
    for (let i = 0; i < count; i++) made.prober.setService(`shop/s${i}`, [service('us-west', `s${i}`)]);
    return made;
  };

  it('are sampled in turn, ten a second', async () => {
    const { clock, results } = withServices(50);
    await clock.advance(60_000);
    const probes = results.filter((r) => r.service !== undefined);
    expect(probes.length / 60).toBeGreaterThan(8);
    expect(probes.length / 60).toBeLessThanOrEqual(limits.serviceProbesPerSecondMax * 1.1);
    const counts = Array.from({ length: 50 }, (_, i) => of(results, 'us-west', `s${i}`).length);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
  });

  it('that failed are asked again within seconds, until they answer; the others keep their turn', async () => {
    const { clock, dialer, results } = withServices(500);
    dialer.answer = ({ authority }) => (authority.startsWith('s7.') ? answered(503) : answered());
    await clock.advance(60_000);
    const failed = of(results, 'us-west', 's7');
    expect(failed.length).toBeGreaterThan(10);
    expect(failed.at(-1)).toMatchObject({ ok: false, failedAt: 'connect', status: 503 });
    expect(new Set(results.map((r) => r.service)).size).toBeGreaterThan(400);
    dialer.answer = () => answered();
    await clock.advance(10_000);
    const healed = of(results, 'us-west', 's7').filter(({ ok }) => ok);
    expect(healed.length).toBeGreaterThanOrEqual(3);
    expect(healed.length).toBeLessThan(6);
  });

  it('say where they broke, and that a denial is an answer', async () => {
    const { clock, dialer, results } = withServices(4);
    const answers: Record<string, ReturnType<typeof answered>> = {
      s0: answered(403),
      s1: answered(200, { handshake: 'path/tls' }),
      s2: answered(200, { handshake: 'path/identity' }),
      s3: answered(200, { handshake: 'path/timeout' }),
    };
    dialer.answer = ({ authority }) => answers[authority.split('.')[0]!] ?? answered();
    await clock.advance(5_000);
    const last = (name: string) => of(results, 'us-west', name).at(-1);
    expect(last('s0')).toMatchObject({ ok: true, denied: true, status: 403, failedAt: undefined });
    expect(last('s1')).toMatchObject({ ok: false, failedAt: 'inner-tls', status: 200 });
    expect(last('s2')).toMatchObject({ ok: false, failedAt: 'identity' });
    expect(last('s3')).toMatchObject({ ok: false, failedAt: 'inner-tls' });
  });

  it('of a member that does not answer are left alone, but for those that somebody waits for', async () => {
    const { clock, dialer, results, prober } = withServices(20);
    await clock.advance(5_000);
    dialer.answer = () => refusedNear('UF', 'Connection_refused');
    await clock.advance(3_000);
    const from = clock.monotonicMs();
    prober.want([service('us-west', 'gone')]);
    await clock.advance(10_000);
    const later = results.filter((r) => r.service !== undefined && r.atMs > from + 500);
    expect(new Set(later.map((r) => r.service))).toEqual(new Set(['shop/gone']));
    expect(later.length).toBeGreaterThan(6);
    prober.want([]);
    const told = of(results, 'us-west', 'gone').length;
    await clock.advance(5_000);
    expect(of(results, 'us-west', 'gone').length - told).toBeLessThanOrEqual(1);
  });

  it('that go are asked no more', async () => {
    const { clock, results, prober } = withServices(2);
    await clock.advance(3_000);
    prober.setService('shop/s0', []);
    const from = of(results, 'us-west', 's0').length;
    await clock.advance(20_000);
    expect(of(results, 'us-west', 's0').length - from).toBeLessThanOrEqual(1);
    // Few services are not asked all the time.
    expect(of(results, 'us-west', 's1').length).toBeGreaterThanOrEqual(4);
    expect(of(results, 'us-west', 's1').length).toBeLessThanOrEqual(6);
  });
});
