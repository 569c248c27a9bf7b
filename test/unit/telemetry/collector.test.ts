/** From what Envoys report to windows of traffic, and what a stream may not do. */

import { fromBinary } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { IsthmusError } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import { LoadStatsResponseSchema } from '../../../src/gen/envoy/service/load_stats/v3/lrs_pb.ts';
import type { TrafficWindow } from '../../../src/health/signals.ts';
import { Telemetry, type TelemetryOptions } from '../../../src/telemetry/collector.ts';
import { SimClock } from '../../sim/clock.ts';
import { type EntrySpec, entry, loads, logs } from './entries.ts';

const node = 'isthmus-gateway-1~0';
const known: Readonly<Record<string, string>> = {
  'checkout.shop.svc.cluster.local:80': 'shop/checkout',
  'cart.shop.svc.cluster.local:80': 'shop/cart',
};

const rig = (over: Partial<TelemetryOptions> = {}) => {
  const clock = new SimClock();
  const windows: TrafficWindow[][] = [];
  const sent: Uint8Array[] = [];
  const telemetry = new Telemetry({
    clock,
    accepts: () => true,
    isMember: (name) => ['us-west', 'eu-central'].includes(name),
    memberOf: (identity) => /^spiffe:\/\/demo\/cluster\/(us-west|eu-central)$/.exec(identity)?.[1],
    serviceOf: (authority) => known[authority],
    clusters: () => ['us-west>eu-central', 'local/shop/cart/80', 'head', 'probe/us-west', 'isthmus-telemetry'],
    ejected: () => undefined,
    ejecting: () => [],
    onWindows: (of) => windows.push([...of]),
    ...over,
  });
  telemetry.start();
  const checkNode = (id: string) =>
    id.startsWith('isthmus-gateway-') ? undefined : new IsthmusError('xds/node-mismatch', `not ${id}`);
  const open = (kind: 'access-log' | 'load-report') =>
    telemetry.open(kind, { checkNode, send: (message) => sent.push(message) });
  const told = (log: string, ...entries: EntrySpec[]) => {
    const stream = open('access-log');
    stream.receive(logs(entries.map(entry), { node, log }));
    return stream;
  };
  /** The windows of the next tick, by `member` or `member service`. */
  const next = async () => {
    await clock.advance(1_000);
    return Object.fromEntries(
      (windows.at(-1) ?? []).map((w) => [`${w.member}${w.service === undefined ? '' : ` ${w.service}`}`, w]),
    );
  };
  return { clock, telemetry, windows, sent, open, told, next };
};

const established: EntrySpec = { type: 'established', member: 'us-west', status: 200, rxMs: 4, attempts: 1 };
const attempt = (rest: Partial<EntrySpec>): EntrySpec => ({ type: 'attempt', member: 'us-west', ...rest });

describe('windows', () => {
  it('tell tries, errors by kind, times and cuts, of the peer and of each service there', async () => {
    const { told, next } = rig();
    told('tunnels', established, established, { ...established, authority: 'cart.shop.svc.cluster.local:80' });
    told(
      'attempts',
      attempt({ flags: { upstreamConnectionFailure: true } }),
      attempt({ flags: { upstreamRemoteReset: true } }),
      attempt({ flags: { upstreamConnectionTermination: true } }),
      attempt({ status: 503 }),
      attempt({ status: 500 }),
      attempt({ status: 429 }),
      attempt({ status: 403 }),
      attempt({ status: 200, flags: { upstreamConnectionTermination: true } }),
      attempt({ status: 200, flags: { upstreamRemoteReset: true } }),
    );
    const { 'us-west': peer, 'us-west shop/checkout': checkout, 'us-west shop/cart': cart } = await next();
    expect(peer).toEqual({
      member: 'us-west',
      service: undefined,
      atMs: 1_000,
      windowMs: 1_000,
      tries: 10,
      established: 3,
      localErrors: 3,
      gatewayErrors: 1,
      otherErrors: 1,
      refused: 1,
      cut: 2,
      connectMsSum: 12,
      ejected: 0,
      gateways: 0,
    });
    expect(checkout).toMatchObject({ tries: 9, established: 2, localErrors: 3, cut: 2, connectMsSum: 8 });
    expect(cart).toMatchObject({ tries: 1, established: 1, localErrors: 0 });
    expect(await next()).toEqual({});
  });

  it('count a try once: its failure at one peer, its success at another', async () => {
    const { told, next } = rig();
    told('attempts', attempt({ status: 503 }));
    told('tunnels', { ...established, member: 'eu-central', attempts: 2 });
    const { 'us-west': west, 'eu-central': central } = await next();
    expect(west).toMatchObject({ tries: 1, established: 0, gatewayErrors: 1 });
    expect(central).toMatchObject({ tries: 1, established: 1, gatewayErrors: 0 });
  });

  it('leave out members that are not known, and count services that are not for their peer alone', async () => {
    const { told, next, telemetry } = rig();
    told('tunnels', { ...established, member: 'mars' }, { ...established, authority: 'x:1' });
    expect(Object.keys(await next())).toEqual(['us-west']);
    expect(telemetry.totals).toMatchObject({ entries: 2, unknown: 1 });
  });

  it('count calls that got no tunnel apart: whether anybody was tried', async () => {
    const { told, next, telemetry } = rig();
    const unhealthy: EntrySpec = { type: 'end', status: 503, attempts: 1, flags: { noHealthyUpstream: true } };
    told('tunnels', { type: 'end', status: 503, attempts: 3 }, { type: 'end', status: 404 }, unhealthy);
    expect(await next()).toEqual({});
    expect(telemetry.totals).toMatchObject({ lostTried: 1, lostUntried: 2 });
  });

  it('bear what our Envoys hold out, also without traffic', async () => {
    const out = { ejected: 1, gateways: 2 };
    const { told, next } = rig({
      ejected: (member, service) => (member === 'us-west' && service === undefined ? out : undefined),
      ejecting: () => ['us-west'],
    });
    expect((await next())['us-west']).toMatchObject({ tries: 0, ...out });
    told('tunnels', established);
    const { 'us-west': peer, 'us-west shop/checkout': cell } = await next();
    expect([peer, cell]).toMatchObject([out, out]);
  });

  it('are bounded in number', async () => {
    const { told, next } = rig({ serviceOf: (authority) => authority });
    const many = Array.from({ length: 9_000 }, (_, i) => i);
    for (let round = 0; round * many.length < limits.telemetryCellsMax + 9_000; round++)
      told('tunnels', ...many.map((i) => ({ ...established, authority: `${round}/${i}` })));
    const windows = await next();
    expect(Object.keys(windows).length).toBe(limits.telemetryCellsMax + 1);
    expect(windows['us-west']?.tries).toBe(7 * 9_000);
  });
});

describe('load reports', () => {
  it('are asked for classes alone, again when those change', async () => {
    let clusters = ['us-west', 'head', 'local/a/b/1'];
    const { open, sent, clock } = rig({ clusters: () => clusters });
    const asked = () => sent.map((bytes) => fromBinary(LoadStatsResponseSchema, bytes).clusters);
    open('load-report').receive(loads(node));
    expect(asked()).toEqual([['us-west']]);
    await clock.advance(3_000);
    clusters = ['us-west', 'eu-central>us-west'];
    await clock.advance(1_000);
    expect(asked()).toEqual([['us-west'], ['eu-central>us-west', 'us-west']]);
  });

  it('tell open tunnels, of all gateways together, while their streams last', () => {
    const { open, telemetry } = rig();
    const [first, second] = [open('load-report'), open('load-report')];
    first.receive(loads(node, { 'us-west>eu-central': { 'us-west': [0, 0, 0, 5] } }));
    second.receive(loads('isthmus-gateway-2~0', { 'us-west': { 'us-west': [0, 0, 0, 2], mars: [0, 0, 0, 9] } }));
    second.receive(loads(undefined, { 'us-west': { 'us-west': [0, 0, 0, 3] }, head: { 'us-west': [9, 9, 9, 9] } }));
    expect([...telemetry.openTunnels()]).toEqual([['us-west', 8]]);
    first.close();
    expect([...telemetry.openTunnels()]).toEqual([['us-west', 3]]);
  });

  it('stand in for a gateway whose logs do not come, and only then', async () => {
    const { open, told, next } = rig();
    const load = open('load-report');
    // Logs may be on their way.
    for (let i = 0; i < 3; i++) {
      load.receive(loads(node, { 'us-west': { 'us-west': [7, 2, 5, 0] } }));
      expect(await next()).toEqual({});
    }
    load.receive(loads(node, { 'us-west': { 'us-west': [7, 2, 5, 0] } }));
    expect((await next())['us-west']).toMatchObject({ tries: 7, established: 2, otherErrors: 5, localErrors: 0 });
    const log = told('tunnels', established);
    load.receive(loads(undefined, { 'us-west': { 'us-west': [7, 2, 5, 0] } }));
    expect((await next())['us-west']).toMatchObject({ tries: 1, established: 1, otherErrors: 0 });
    log.close();
    for (let i = 0; i < 4; i++) load.receive(loads(undefined, { 'us-west': { 'us-west': [1, 1, 0, 0] } }));
    expect((await next())['us-west']).toMatchObject({ tries: 1, established: 1 });
  });
});

describe('the border', () => {
  const call = (status: number, rest: Partial<EntrySpec> = {}): EntrySpec => ({
    type: status === 200 ? 'established' : 'end',
    status,
    identity: 'spiffe://demo/cluster/us-west',
    ...rest,
  });
  const probe = { headers: { 'x-isthmus-probe': 'us-east' } };

  it('counts what each peer sends for each service, probes apart', async () => {
    const { told, next, telemetry } = rig();
    told(
      'border',
      call(200),
      call(200),
      call(429),
      call(503),
      call(200, probe),
      call(200, { identity: 'spiffe://x/y' }),
    );
    await next();
    expect(telemetry.border.counts()).toMatchObject([
      { peer: 'us-west', service: 'shop/checkout', connects: 4, established: 2, refused: 1, failed: 1, probes: 1 },
    ]);
    expect(telemetry.totals.unknown).toBe(1);
  });

  it('takes for traffic what calls itself a probe too often', async () => {
    const { told, next, telemetry } = rig();
    told('border', ...Array.from({ length: 50 }, () => call(200, probe)));
    await next();
    expect(telemetry.border.counts()).toMatchObject([{ connects: 47, probes: 3 }]);
  });

  it('knows for which services it takes spill, while it does', async () => {
    const { told, next, telemetry } = rig();
    for (let i = 0; i < 10; i++) {
      told('border', ...Array.from({ length: 20 }, () => call(200)));
      await next();
    }
    const [count] = telemetry.border.counts();
    expect(count?.perSecond).toBeGreaterThan(18);
    expect(count?.perSecond).toBeLessThanOrEqual(20);
    expect([...telemetry.border.receiving(5)]).toEqual(['shop/checkout']);
    for (let i = 0; i < 10; i++) await next();
    expect([...telemetry.border.receiving(5)]).toEqual([]);
  });

  it('makes no window: what others send is not our own data path', async () => {
    const { told, next } = rig();
    told('border', call(503));
    expect(await next()).toEqual({});
  });
});

describe('a stream', () => {
  it('is believed only when its node is a gateway of ours', () => {
    const { open, telemetry } = rig();
    const stranger = { node: 'other-pod~0', log: 'tunnels' };
    expect(() => open('access-log').receive(logs([entry(established)], stranger))).toThrow('not other-pod');
    expect(() => open('access-log').receive(logs([entry(established)]))).toThrow();
    expect(() => open('load-report').receive(loads('other-pod~0'))).toThrow('not other-pod');
    expect(telemetry.totals.entries).toBe(0);
  });

  it('ends with an error for garbage, and leaves nothing behind', () => {
    const { open, telemetry, next } = rig();
    for (const kind of ['access-log', 'load-report'] as const) {
      const stream = open(kind);
      expect(() => stream.receive(Buffer.from('ff00ff00ff', 'hex'))).toThrow(IsthmusError);
      stream.close();
    }
    expect(telemetry.totals).toMatchObject({ streams: 0, entries: 0 });
    return next();
  });

  it('may not send more at once than is sensible', () => {
    const { open } = rig();
    const many = Array.from({ length: limits.telemetryEntriesPerMessageMax + 1 }, () => entry({ type: 'end' }));
    expect(() => open('access-log').receive(logs(many, { node, log: 'tunnels' }))).toThrow('at most');
  });
});

describe('connections', () => {
  it('are told at their beginning and their end, which decisions do not count twice', async () => {
    const told: string[] = [];
    const logs: string[] = [];
    const {
      telemetry,
      told: tell,
      next,
    } = rig({
      onConnection: ({ begins, connection }) => told.push(`${connection.side} ${begins} ${connection.result}`),
      onLogs: (id, begins) => logs.push(`${id} ${begins}`),
    });
    const end: EntrySpec = { type: 'end', member: 'us-west', status: 200 };
    const first = tell('tunnels', established, end, { type: 'end', status: 0 });
    const identity = 'spiffe://demo/cluster/us-west';
    const second = tell('border', { ...established, identity }, { ...end, identity });
    tell('direct', established, end).close();
    tell('attempts', attempt({ status: 503 })).close();
    expect(told).toEqual([
      'egress true open',
      'egress false closed',
      'egress false left',
      'ingress true open',
      'ingress false closed',
      'direct true open',
      'direct false closed',
    ]);
    expect((await next())['us-west']).toMatchObject({ tries: 2, established: 1, gatewayErrors: 1 });
    expect(telemetry.totals).toMatchObject({ lostTried: 0, lostUntried: 0, unknown: 0 });
    expect(telemetry.border.counts()).toMatchObject([{ connects: 1, established: 1, failed: 0 }]);
    first.close();
    expect(logs).toEqual([`${node} true`]);
    second.close();
    expect(logs).toEqual([`${node} true`, `${node} false`]);
  });
});
