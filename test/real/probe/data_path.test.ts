/** Probes and reports with running gateways: what each fault looks like, and what a probe never touches. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clustersTarget, summarize } from '../../../src/gateway/ejections.ts';
import type { ProbeResult } from '../../../src/health/signals.ts';
import { sleep, until } from '../envoy/processes.ts';
import { authorityOf, podOf, sites } from '../envoy/three.ts';
import type { Observed } from './observer.ts';
import { credentialsOf, head, reportingTo, reportPort, type Stage, startStage } from './stage.ts';

const west = (seen: Observed, service?: string) =>
  seen.probes.filter((probe) => probe.member === 'us-west' && probe.service === service);
const ok = (probes: readonly ProbeResult[]) => probes.length > 0 && probes.every((probe) => probe.ok);
const failing = (at: ProbeResult['failedAt'], service?: string) => (seen: Observed) =>
  west(seen, service).filter((probe) => probe.failedAt === at).length >= 2;

describe('a healthy data path', () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await startStage();
  });
  afterAll(async () => stage?.rig.stop());

  it('is seen by probes of gateways and of services, with the peer’s head', async () => {
    await stage.until(
      'gateways and services answer',
      (seen) => ok(west(seen).slice(-2)) && ok(west(seen, 'shop/cart').slice(-2)),
    );
    const seen = await stage.watch(7_000);
    expect(west(seen).length).toBeGreaterThanOrEqual(5);
    expect(west(seen).map(({ head }) => head)).toContainEqual(head(1n));
    expect(seen.probes.filter((probe) => !probe.ok)).toEqual([]);
    expect(seen.probes.every(({ ms }) => ms !== undefined && ms < 1_000)).toBe(true);
    expect(west(seen, 'shop/checkout').length).toBeGreaterThan(0);
    expect(seen.localFailures).toEqual([]);
  });

  it('shows a newer head within a second or two', async () => {
    await stage.west(2n);
    await stage.until('the new head', (seen) => west(seen).some((probe) => probe.head?.sequence === 2n), 5_000);
  });

  it('leaves no trace of probes: not at the workload beyond its TLS, not in windows, not in ejections', async () => {
    const { rig } = stage;
    const before = await rig.world.workloadSeen('west-cart');
    const seen = await stage.watch(7_000);
    expect(west(seen, 'shop/cart').length).toBeGreaterThan(0);
    // The pod of a service with no HTTP probe saw handshakes alone.
    expect(await rig.world.workloadSeen('west-cart')).toEqual(before);
    expect(before).toMatchObject({ connects: 0, requests: 0 });
    expect(seen.windows).toEqual([]);
    expect((await rig.world.observerState()).open).toEqual([]);
    // Border counts of the far side tell probes from traffic.
    await until('the border tells', async () =>
      (await rig.world.observerState()).border.some(({ service }) => service === 'shop/cart'),
    );
    const [count] = (await rig.world.observerState()).border.filter(({ service }) => service === 'shop/cart');
    expect(count).toMatchObject({ peer: 'us-east', connects: 0 });
    expect(count?.probes).toBeGreaterThan(0);
  });

  it('takes probes of the controller alone', async () => {
    const { rig } = stage;
    const probe = (servername: string | undefined, tls: Awaited<ReturnType<typeof rig.caller>>) =>
      rig.callers.call({
        address: sites['us-east'].address,
        port: 15_018,
        tls: servername === undefined ? tls : { ...tls, servername },
        authority: authorityOf('checkout'),
        headers: { 'x-isthmus-probe': 'eu-central', 'x-isthmus-probe-gateway': '127.0.3.1:15028' },
      });
    const shop = await rig.caller('shop/client');
    expect((await probe('probe.demo.isthmus', shop)).error).toMatch(/alert|closed|ECONNRESET/i);
    // The same headers on the way of callers choose nothing.
    expect((await probe(undefined, shop)).hops[0]).toMatchObject({ to: 'us-west' });
    const controller = await rig.caller('isthmus-system/isthmus-controller');
    expect((await probe('probe.demo.isthmus', controller)).hops[0]).toMatchObject({ upstream: '127.0.3.1:15028' });
  });

  it('is counted by windows of traffic, of the peer and of the service', async () => {
    const { rig } = stage;
    const tls = await rig.caller();
    const load = { address: sites['us-east'].address, port: 15_018, tls, authority: authorityOf('raw') };
    await rig.callers.loadStart('calls', { ...load, rate: 10, long: 12 });
    const seen = await stage.until(
      'windows',
      ({ windows }) => windows.filter(({ service }) => service === 'shop/raw').length >= 3,
    );
    const sum = (of: (w: Observed['windows'][number]) => number, service?: string) =>
      seen.windows.filter((w) => w.member === 'us-west' && w.service === service).reduce((all, w) => all + of(w), 0);
    expect(sum((w) => w.established)).toBeGreaterThan(20);
    const cells = ['raw', 'checkout'].map((name) => sum((w) => w.established, `shop/${name}`));
    expect(cells[0]! + cells[1]!).toBe(sum((w) => w.established));
    expect(cells[0]).toBeGreaterThan(20);
    expect(sum((w) => w.tries)).toBe(sum((w) => w.established));
    expect(sum((w) => w.localErrors + w.gatewayErrors + w.otherErrors + w.refused)).toBe(0);
    expect(sum((w) => w.connectMsSum) / sum((w) => w.established)).toBeGreaterThan(0.1);
    await until('open tunnels are told', async () => (await rig.world.observerState()).open.some(([, n]) => n > 10));
    await until('the border counts them', async () => {
      const counts = (await rig.world.observerState()).border;
      return counts.some((count) => count.service === 'shop/raw' && count.connects > 20 && count.perSecond > 2);
    });
    await rig.callers.loadStop('calls');
  });

  it('shows a gray failure, far and near, only where it is', async () => {
    const { rig } = stage;
    const of = (seen: Observed, member: string) => seen.gray.filter((signal) => signal.member === member);
    const healthy = await stage.until(
      'answers',
      (seen) => of(seen, 'us-west').length >= 2 && of(seen, 'us-east').length >= 2,
    );
    expect(healthy.gray.filter(({ ok }) => !ok)).toEqual([]);
    expect((await rig.world.workloadSeen('west-checkout')).paths).toEqual([
      'GET checkout.shop.svc.cluster.local /healthz',
    ]);
    await rig.world.workloadBehave('west-checkout', { badOfTen: 3 });
    const bad = await stage.until('a third fails', (seen) => of(seen, 'us-west').filter(({ ok }) => !ok).length >= 3);
    expect(
      of(bad, 'us-west')
        .filter(({ ok }) => !ok)
        .at(-1)?.detail,
    ).toMatch(/status 500/);
    expect(of(bad, 'us-east').every(({ ok }) => ok)).toBe(true);
    await rig.world.workloadBehave('west-checkout', { delayMs: 500 });
    const slow = await stage.until('slow', (seen) =>
      of(seen, 'us-west').some(({ detail }) => /above 300 ms/.test(detail)),
    );
    expect(slow.gray.length).toBeGreaterThan(0);
    await rig.world.workloadBehave('west-checkout', {});
    await rig.world.workloadBehave('east-checkout', { status: 503 });
    const near = await stage.until('here', (seen) => of(seen, 'us-east').filter(({ ok }) => !ok).length >= 2);
    expect(of(near, 'us-east').at(-1)?.detail).toBe('status 503');
    await rig.world.workloadBehave('east-checkout', { refuse: 401 });
    const denied = await stage.until('denied', ({ problems }) => problems.some((line) => line.includes('401')));
    expect(denied.gray.filter(({ detail }) => detail.includes('401'))).toEqual([]);
    await rig.world.workloadBehave('east-checkout', {});
  });

  it('moves reports to the replica that takes them', async () => {
    const { rig } = stage;
    await rig.world.observerAccept(false);
    await until('streams end', async () => (await rig.world.observerState()).totals?.streams === 0);
    await rig.world.observerAccept(true);
    await until('streams are back', async () => ((await rig.world.observerState()).totals?.streams ?? 0) > 0, 30_000);
  });
});

describe('what breaks, and where', () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await startStage({ more: ['127.0.2.2'] });
    await stage.until(
      'all answer',
      (seen) => ok(west(seen).slice(-1)) && ok(west(seen, 'shop/cart').slice(-2)),
      20_000,
    );
  });
  afterAll(async () => stage?.rig.stop());

  it('a gateway that is away is not the member', async () => {
    const seen = await stage.watch(3_000);
    expect(ok(west(seen))).toBe(true);
    const { standings } = await stage.rig.world.observerState();
    expect(standings.filter(({ member }) => member === 'us-west')).toMatchObject([
      { gateway: 'gw-1', ok: true },
      { gateway: 'gw-2', ok: false, detail: expect.stringMatching(/Connection_refused/) },
    ]);
  });

  it('nothing ready: the CONNECT, with 503', async () => {
    await stage.west(1n, { ready: false });
    const seen = await stage.until('503', failing('connect', 'shop/cart'));
    expect(west(seen, 'shop/cart').at(-1)).toMatchObject({ ok: false, status: 503, failedAt: 'connect' });
    expect(ok(west(seen))).toBe(true);
    await stage.west(1n);
    await stage.until(
      'ready again',
      (more) => ok(west(more, 'shop/cart').slice(-2)) && west(more, 'shop/cart').length > 2,
    );
  });

  it('not exported any more: the CONNECT, with 404', async () => {
    await stage.west(1n, { without: 'cart' });
    const seen = await stage.until('404', failing('connect', 'shop/cart'));
    expect(west(seen, 'shop/cart').at(-1)).toMatchObject({ status: 404 });
    await stage.west(1n);
    await stage.until('back', (more) => ok(west(more, 'shop/cart').slice(-1)));
  });

  it('another workload at its address: the identity; something else: the inner TLS', async () => {
    const { rig } = stage;
    const { name, address } = podOf('west', 'cart', 1);
    await rig.world.workloadStop(name);
    await rig.world.workloadStart(name, address, await credentialsOf(rig, 'shop/thief'));
    const thief = await stage.until('identity', failing('identity', 'shop/cart'));
    expect(thief.probes.find(({ failedAt }) => failedAt === 'identity')?.detail).toMatch(/shop\/sa\/thief/);
    await rig.world.workloadStop(name);
    await rig.world.podStart(name, address, 15_008);
    await stage.until('inner TLS', failing('inner-tls', 'shop/cart'));
    await rig.world.podKill(name);
    await rig.world.workloadStart(name, address, await credentialsOf(rig, 'shop/default'));
    await stage.until('itself again', (more) => ok(west(more, 'shop/cart').slice(-1)));
  });

  it('a silent cut: the member alone, within seconds, and back', async () => {
    const { rig } = stage;
    await rig.cut(sites['us-west'].address);
    const startMs = performance.now();
    const cut = await stage.until(
      'three in a row',
      (seen) => west(seen).filter((probe) => !probe.ok).length >= 3,
      12_000,
    );
    expect(performance.now() - startMs).toBeLessThan(8_000);
    expect(
      west(cut)
        .filter((probe) => !probe.ok)
        .every(({ failedAt }) => failedAt === 'tcp' || failedAt === 'connect'),
    ).toBe(true);
    const central = cut.probes.filter(({ member }) => member === 'eu-central');
    expect(ok(central)).toBe(true);
    await rig.heal();
    await stage.until('healed', (seen) => ok(west(seen).slice(-2)) && west(seen).length >= 2);
  });

  it('windows of traffic tell errors by kind, and retries by whom they met', async () => {
    const { rig } = stage;
    const load = { address: sites['us-east'].address, port: 15_018, authority: authorityOf('raw') };
    const tls = await rig.caller();
    await rig.callers.loadStart('calls', { ...load, tls, rate: 10, long: 5 });
    const of = (seen: Observed, member: string) =>
      seen.windows.filter((w) => w.member === member && w.service !== undefined);
    const sum = (windows: Observed['windows'], what: (w: Observed['windows'][number]) => number) =>
      windows.reduce((all, w) => all + what(w), 0);
    await stage.until('tunnels', (seen) => sum(of(seen, 'us-west'), (w) => w.established) > 20);
    await stage.west(1n, { ready: false });
    await sleep(500);
    const unready = await stage.until(
      '503, and the next one',
      (seen) =>
        sum(of(seen, 'us-west'), (w) => w.gatewayErrors) > 20 && sum(of(seen, 'eu-central'), (w) => w.established) > 10,
    );
    expect(sum(of(unready, 'us-west'), (w) => w.localErrors)).toBe(0);
    expect(sum(of(unready, 'eu-central'), (w) => w.gatewayErrors + w.localErrors)).toBe(0);
    await stage.west(1n);
    await stage.until('back', (seen) => sum(of(seen, 'us-west'), (w) => w.established) > 20);
    stage.gateways.west.signal('SIGKILL');
    const killed = await stage.until(
      'refused, and cut',
      (seen) => sum(of(seen, 'us-west'), (w) => w.localErrors) > 0 && sum(of(seen, 'us-west'), (w) => w.cut) > 0,
    );
    expect(sum(of(killed, 'us-west'), (w) => w.gatewayErrors)).toBe(0);
    const whole = killed.windows.filter((w) => w.member === 'us-west' && w.service === undefined);
    expect(sum(whole, (w) => w.localErrors)).toBe(sum(of(killed, 'us-west'), (w) => w.localErrors));
    const out = await until('held out', async () => {
      const page = await stage.gateways.east.admin(clustersTarget);
      const { members } = summarize([page]);
      return members['us-west']?.[0] === 2 && members['eu-central']?.[0] === 0;
    });
    expect(out).toBeUndefined();
    await rig.callers.loadStop('calls');
    stage.gateways.west = await rig.launch('us-west', 'gw-1', reportingTo(reportPort));
    await stage.until('all answer', (more) => ok(west(more).slice(-1)) && west(more).length > 1);
  });

  it('a dead region: refused at TCP, three times within two seconds', async () => {
    stage.gateways.west.signal('SIGKILL');
    const seen = await stage.until(
      'three in a row',
      (more) => west(more).filter((probe) => !probe.ok).length >= 3,
      6_000,
    );
    const [first, , third] = west(seen).filter((probe) => !probe.ok);
    expect(third!.atMs - first!.atMs).toBeLessThan(3_000);
    expect(third).toMatchObject({ failedAt: 'tcp', status: 503 });
    // Its services are not asked meanwhile: their failure would be no news.
    const later = await stage.watch(2_000);
    expect(west(later, 'shop/cart')).toEqual([]);
    stage.gateways.west = await stage.rig.launch('us-west', 'gw-1', reportingTo(reportPort));
    await stage.until('back', (more) => ok(west(more).slice(-1)));
  });

  it('our own gateway away: no word about any peer', async () => {
    stage.gateways.east.signal('SIGSTOP');
    await sleep(1_500);
    const hung = await stage.watch(3_000);
    expect(hung.probes).toEqual([]);
    expect(hung.localFailures.length).toBeGreaterThan(0);
    stage.gateways.east.signal('SIGCONT');
    await stage.until('back', (more) => ok(west(more).slice(-1)), 20_000);
    stage.gateways.east.signal('SIGKILL');
    await sleep(500);
    const dead = await stage.watch(2_000);
    expect(dead.probes).toEqual([]);
  });
});

describe('a gateway with the right name, by the CA of another member', () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await startStage({ impostor: true });
  });
  afterAll(async () => stage?.rig.stop());

  it('fails at its TLS', async () => {
    const seen = await stage.until('tls', failing('tls'));
    expect(west(seen).some((probe) => probe.ok)).toBe(false);
    expect(seen.probes.find(({ failedAt }) => failedAt === 'tls')?.detail).toMatch(/CERTIFICATE/i);
  });
});
