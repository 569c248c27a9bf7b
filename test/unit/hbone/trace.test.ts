/** Traces through gateways made of our own server, which put the same marks on their answers as Envoy does. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { hopHeader, hopMark } from '../../../src/core/hop.ts';
import type { Credentials } from '../../../src/hbone/credentials.ts';
import { type HboneRequest, type HboneServer, serveHbone } from '../../../src/hbone/server.ts';
import { splice } from '../../../src/hbone/splice.ts';
import { type TraceOptions, trace } from '../../../src/hbone/trace.ts';
import { realClock as clock } from '../../../src/ops/clock.ts';
import { createPki, type Pki } from './pki.ts';

const id = (name: string): string => `spiffe://cluster.local/ns/test/sa/${name}`;
const federation = 'spiffe://set/cluster/us-west';
const authority = 'checkout.shop.svc.cluster.local:80';

describe('trace', () => {
  let pki: Pki;
  let client: Credentials;
  let gateway: HboneServer;
  let pod: HboneServer;
  let atGateway: (request: HboneRequest) => void = () => {};
  let atPod: (request: HboneRequest) => void = () => {};
  const egress = (values: Record<string, string> = {}): string =>
    hopMark('egress', {
      member: 'us-east',
      to: 'us-west',
      upstream: '10.9.0.1:15028',
      peer: federation,
      flags: '-',
      ...values,
    });
  const far = (values: Record<string, string> = {}): string =>
    hopMark('federation', { member: 'us-west', upstream: '10.9.0.7:15008', flags: '-', ...values });

  const pass =
    (...marks: string[]) =>
    (request: HboneRequest): void => {
      const upstream = connect({ host: '127.0.0.1', port: pod.port, allowHalfOpen: true });
      upstream.once('connect', () => {
        const stream = request.accept({ [hopHeader]: marks.join(', ') });
        splice(stream, upstream, () => upstream.destroy());
        stream.once('close', () => upstream.destroy());
      });
    };
  const answer =
    (status: number, ...marks: string[]) =>
    (request: HboneRequest): void =>
      request.refuse(status, marks.length === 0 ? {} : { [hopHeader]: marks.join(', ') });

  const run = (o: Partial<TraceOptions> = {}) =>
    trace({
      credentials: client,
      outer: {
        name: 'egress gateway',
        addresses: [{ host: '127.0.0.1', port: gateway.port }],
        accept: [id('gateway')],
      },
      inner: { name: 'ztunnel of checkout', accept: [id('checkout')] },
      authority,
      timeoutMs: 2_000,
      clock,
      ...o,
    });

  beforeAll(async () => {
    pki = await createPki();
    client = await pki.credentials(id('client'));
    const own = await pki.credentials(id('gateway'));
    const destination = await pki.credentials(id('checkout'));
    const local = { host: '127.0.0.1', port: 0 };
    gateway = await serveHbone({ ...local, credentials: () => own, handler: (r) => atGateway(r) });
    pod = await serveHbone({ ...local, credentials: () => destination, handler: (r) => atPod(r) });
  });
  beforeEach(() => {
    atGateway = pass(far(), egress());
    atPod = (request) => {
      const stream = request.accept();
      stream.on('data', () => stream.write('HTTP/1.1 200 OK\r\n\r\n'));
    };
  });
  afterAll(async () => {
    await gateway.close();
    await pod.close();
  });

  test('shows every hop with its identity', async () => {
    const { ok, hops, verdict } = await run({ payload: Buffer.from('GET / HTTP/1.1\r\n\r\n') });
    expect(hops.map(({ name, identity, ok: fine }) => [name, identity, fine])).toEqual([
      ['egress gateway: TCP', '', true],
      ['egress gateway: TLS', id('gateway'), true],
      ['egress gateway: CONNECT', '', true],
      ['gateway of us-west: CONNECT', federation, true],
      ['ztunnel of checkout: TLS', id('checkout'), true],
      ['ztunnel of checkout: CONNECT', '', true],
      ['application: first byte', '', true],
    ]);
    expect(hops[3]).toMatchObject({ address: '10.9.0.1:15028', detail: 'to 10.9.0.7:15008' });
    expect(hops[4]?.address).toBe('10.9.0.7:15008');
    expect(ok).toBe(true);
    expect(verdict).toContain('answers');
  });

  /** Name of the first broken hop, and the whole verdict. */
  const broken = async (o: Partial<TraceOptions> = {}): Promise<[string | undefined, string]> => {
    const { ok, hops, verdict } = await run(o);
    expect(ok).toBe(false);
    expect(verdict).toContain('Next: ');
    return [hops.find((hop) => !hop.ok)?.name, verdict];
  };

  test.each([
    [
      'the far gateway is unreachable',
      answer(
        503,
        egress({
          flags: 'UF,URX',
          details: 'upstream_reset_before_response_started{connection_timeout}',
          attempts: '4',
        }),
      ),
      'gateway of us-west',
      /could not connect.*network between the clusters/,
    ],
    [
      'no cluster left',
      answer(503, hopMark('egress', { member: 'us-east', flags: 'UH', details: 'no_healthy_upstream' })),
      'egress gateway: CONNECT',
      /no healthy endpoint/,
    ],
    [
      'not exported to us',
      answer(404, hopMark('egress', { member: 'us-east', flags: 'NR', details: 'route_not_found' })),
      'egress gateway: CONNECT',
      /no route.*exported/,
    ],
    [
      'the caller has no right',
      answer(403, hopMark('egress', { member: 'us-east', details: 'rbac_access_denied_matched_policy[none]' })),
      'egress gateway: CONNECT',
      /may not call/,
    ],
    [
      'the far gateway refuses',
      answer(403, far({ details: 'rbac_access_denied_matched_policy[none]', upstream: '-' }), egress()),
      'gateway of us-west: CONNECT',
      /may not call/,
    ],
    [
      'no ready endpoint there',
      answer(503, far({ flags: 'UH', upstream: '-' }), egress()),
      'gateway of us-west: CONNECT',
      /no healthy endpoint/,
    ],
    [
      'the far pod is gone',
      answer(503, far({ flags: 'UF' }), egress()),
      'ztunnel of checkout: TCP',
      /10\.9\.0\.7:15008/,
    ],
    ['a gateway without marks', answer(503), 'egress gateway: CONNECT', /503/],
  ])('%s', async (_name, handler, hop, text) => {
    atGateway = handler;
    const [name, verdict] = await broken();
    expect(name).toBe(hop);
    expect(verdict).toMatch(text);
  });

  test.each([
    [503, /application listens/],
    [401, /policy/],
    [400, /address/],
    [418, /418/],
  ])('the far ztunnel answers %i', async (status, text) => {
    atPod = (request) => request.refuse(status);
    expect(await broken()).toEqual(['ztunnel of checkout: CONNECT', expect.stringMatching(text)]);
  });

  test('wrong identities, outside and inside', async () => {
    expect(await broken({ inner: { name: 'ztunnel of checkout', accept: [id('other')] } })).toEqual([
      'ztunnel of checkout: TLS',
      expect.stringContaining(`the peer is ${id('checkout')}, expected ${id('other')}`),
    ]);
    const addresses = [{ host: '127.0.0.1', port: gateway.port }];
    const [name] = await broken({ outer: { name: 'egress gateway', addresses, accept: [id('other')] } });
    expect(name).toBe('egress gateway: TLS');
  });

  test('a dead gateway among two: shown, and the trace goes on', async () => {
    const addresses = [
      { host: '127.0.0.1', port: 1 },
      { host: '127.0.0.1', port: gateway.port },
    ];
    const { ok, hops, verdict } = await run({ outer: { name: 'egress gateway', addresses, accept: [id('gateway')] } });
    expect(ok).toBe(false);
    expect(hops.map((hop) => hop.ok)).toEqual([false, true, true, true, true, true, true]);
    expect(verdict).toContain('127.0.0.1:1');
    expect(verdict).toContain('another gateway was taken');
  });

  test('no gateway at all, a mute gateway, a mute answer, a mute pod: within the time', async () => {
    const mute = createServer(() => {}).listen(0, '127.0.0.1');
    await once(mute, 'listening');
    const hung = { host: '127.0.0.1', port: (mute.address() as AddressInfo).port };
    const outer = { name: 'egress gateway', accept: [id('gateway')] };
    expect((await broken({ outer: { ...outer, addresses: [] } }))[0]).toBe('egress gateway');
    const addresses = [hung, { host: '127.0.0.1', port: gateway.port }];
    const first = await run({ outer: { ...outer, addresses }, timeoutMs: 600 });
    expect(first.hops.at(-1)).toMatchObject({ name: 'ztunnel of checkout: CONNECT', ok: true });
    atGateway = () => {};
    expect((await broken({ timeoutMs: 200 }))[0]).toBe('egress gateway: CONNECT');
    atGateway = (request) => request.accept({ [hopHeader]: [far(), egress()].join(',') }).resume();
    expect((await broken({ timeoutMs: 200 }))[0]).toBe('ztunnel of checkout: TLS');
    atGateway = pass(far(), egress());
    atPod = () => {};
    expect((await broken({ timeoutMs: 200 }))[0]).toBe('ztunnel of checkout: CONNECT');
    atPod = (request) => request.accept().resume();
    expect((await broken({ timeoutMs: 200, payload: Buffer.from('x') }))[0]).toBe('application: first byte');
    mute.close();
  });

  test('single HBONE, on one network: no inner session', async () => {
    const result = await trace({
      credentials: client,
      outer: {
        name: 'ztunnel of checkout',
        addresses: [{ host: '127.0.0.1', port: pod.port }],
        accept: [id('checkout')],
      },
      authority: '10.0.0.3:8080',
      timeoutMs: 2_000,
      clock,
    });
    expect(result).toMatchObject({ ok: true });
    expect(result.hops).toHaveLength(3);
  });
});
