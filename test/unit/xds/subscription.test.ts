import { beforeEach, describe, expect, test } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { types } from '../../../src/xds/resource.ts';
import { StreamSubscriptions } from '../../../src/xds/stream.ts';
import { ResourceTable } from '../../../src/xds/table.ts';
import { ack, nack, type Received, receive, request, resource } from './client.ts';

const envoy = [types.listener, types.cluster, types.endpoints, types.routes, types.secret];
const mesh = [types.address, types.authorization];

let table: ResourceTable;
let stream: StreamSubscriptions;
let nowMs = 0;

const open = (typeUrls: readonly string[]): void => {
  table = new ResourceTable(typeUrls);
  stream = new StreamSubscriptions(table);
  nowMs = 1_000;
};
const ask = (typeUrl: string, fields: Parameters<typeof request>[1] = {}) =>
  stream.request(request(typeUrl, fields), nowMs);
const put = (...entries: [type: string, name: string, content: string][]): void => {
  table.apply({ upserts: entries.map(([type, name, content]) => resource(type, name, content)) });
};
const drop = (typeUrl: string, ...names: string[]): void => {
  table.apply({ removes: names.map((name) => ({ typeUrl, name })) });
};
const next = (): Received | undefined => {
  const push = stream.next(nowMs);
  return push && receive(push);
};
const drain = (answer = true): Received[] => {
  const all: Received[] = [];
  for (let received = next(); received !== undefined; received = next()) {
    all.push(received);
    if (answer) stream.request(ack(received), nowMs);
  }
  return all;
};
const brief = (received: readonly Received[]) =>
  received.map(({ typeUrl, resources, removed }) => [
    typeUrl.split('.').at(-1),
    [...resources]
      .map(([name, { content }]) => `${name}=${content}`)
      .sort()
      .join(),
    ...(removed.length > 0 ? [removed.toSorted().join()] : []),
  ]);

describe('ztunnel', () => {
  beforeEach(() => open(mesh));

  test('both types are answered, even when there is nothing', () => {
    ask(types.address);
    ask(types.authorization);
    expect(brief(drain())).toEqual([
      ['Address', ''],
      ['Authorization', ''],
    ]);
    expect(stream.status().every((type) => type.synced && type.ackedVersion !== undefined)).toBe(true);
  });

  test('gets everything once, then changes and removals in one response', () => {
    put([types.address, 'a', '1'], [types.address, 'b', '1']);
    ask(types.address);
    expect(brief(drain())).toEqual([['Address', 'a=1,b=1']]);
    expect(next()).toBeUndefined();
    table.apply({ removes: [{ typeUrl: types.address, name: 'a' }], upserts: [resource(types.address, 'c', '1')] });
    expect(brief(drain())).toEqual([['Address', 'c=1', 'a']]);
  });

  test('changes of a while are sent as one, latest wins, and what came back to what it was is not sent', () => {
    put([types.address, 'a', '1'], [types.address, 'b', '1']);
    ask(types.address);
    drain();
    for (let i = 0; i < 50; i++) put([types.address, 'a', `v${i}`], [types.address, 'b', `v${i}`]);
    put([types.address, 'b', '1']);
    expect(brief(drain())).toEqual([['Address', 'a=v49']]);
  });

  test('streams that want the same share the same bytes', () => {
    put([types.address, 'a', '1']);
    const streams = [new StreamSubscriptions(table), new StreamSubscriptions(table)];
    const send = () => streams.map((each) => each.next(0)!.bytes);
    for (const each of streams) each.request(request(types.address), 0);
    const first = send();
    expect(first[0]).toBe(first[1]);
    put([types.address, 'b', '1']);
    const second = send();
    expect(second[0]).toBe(second[1]);
  });

  test('a reconnect resends nothing unchanged and removes what is gone', () => {
    put([types.address, 'a', '1'], [types.address, 'b', '2'], [types.address, 'c', '1']);
    const old = resource(types.address, 'b', '1').version;
    ask(types.address, {
      initialVersions: new Map([
        ['a', table.get(types.address, 'a')!.version],
        ['b', old],
        ['gone', 'x'],
      ]),
    });
    expect(brief(drain())).toEqual([['Address', 'b=2,c=1', 'gone']]);
    stream = new StreamSubscriptions(table);
    const held = new Map(
      [...table.names(types.address)].map((name) => [name, table.get(types.address, name)!.version]),
    );
    ask(types.address, { initialVersions: held });
    expect(brief(drain())).toEqual([['Address', '']]);
  });

  test('only the refused resource is held back, with its reason, until it changes', () => {
    put([types.address, 'a', '1'], [types.address, 'b', '1']);
    ask(types.address);
    drain();
    put([types.address, 'a', 'bad'], [types.address, 'b', '2']);
    const received = next()!;
    const answer = stream.request(nack(received, 'a: cannot parse'), nowMs);
    expect(answer).toMatchObject({
      ok: true,
      value: { kind: 'nack', failed: [{ name: 'a', reason: 'a: cannot parse' }] },
    });
    expect(next()).toBeUndefined();
    expect(stream.status()[0]!.rejected).toMatchObject([{ name: 'a', sinceMs: nowMs }]);
    put([types.address, 'b', '3']);
    expect(brief(drain())).toEqual([['Address', 'b=3']]);
    put([types.address, 'a', '1']);
    expect(brief(drain())).toEqual([]);
    expect(stream.status()[0]!.rejected).toEqual([]);
    put([types.address, 'a', 'good']);
    expect(brief(drain())).toEqual([['Address', 'a=good']]);
  });

  test('a refused resource that was never accepted is still removed cleanly', () => {
    ask(types.address);
    drain();
    put([types.address, 'a', 'bad']);
    stream.request(nack(next()!, 'a: no'), nowMs);
    drop(types.address, 'a');
    expect(brief(drain())).toEqual([]);
    expect(stream.status()[0]).toMatchObject({ rejected: [], waiting: 0 });
  });

  test('unknown, stale and repeated nonces change nothing', () => {
    put([types.address, 'a', '1']);
    ask(types.address);
    const first = next()!;
    expect(stream.request(ack(first), nowMs)).toMatchObject({ value: { kind: 'ack' } });
    expect(stream.request(ack(first), nowMs)).toMatchObject({ value: { kind: 'unknown' } });
    expect(stream.request(nack(first, 'too late'), nowMs)).toMatchObject({ value: { kind: 'unknown' } });
    expect(ask(types.address, { nonce: 'never sent', error: 'a' })).toMatchObject({ value: { kind: 'unknown' } });
    expect(drain()).toEqual([]);
    expect(stream.status()[0]).toMatchObject({ rejected: [], synced: true });
  });

  test('types of another role are denied', () => {
    expect(ask(types.cluster)).toMatchObject({ ok: false, error: { code: 'xds/type-denied' } });
  });

  test('too many names are refused', () => {
    const subscribe = Array.from({ length: limits.subscriptionsPerStreamMax + 1 }, (_, i) => `n${i}`);
    expect(ask(types.address, { subscribe })).toMatchObject({ ok: false, error: { code: 'xds/malformed' } });
  });

  test('a large table goes out in parts, and a change meanwhile is not lost', () => {
    const big = 'x'.repeat(1024 * 1024);
    put(...Array.from({ length: 9 }, (_, i) => [types.address, `r${i}`, big] as [string, string, string]));
    ask(types.address);
    const first = stream.next(nowMs)!;
    expect(first.bytes.length).toBeLessThanOrEqual(limits.responseBytesMax + 4_096);
    put([types.address, 'r0', 'small'], [types.address, 'r8', 'small']);
    const rest = drain();
    const names = [receive(first), ...rest].flatMap(({ resources }) => [...resources.keys()]);
    expect(names.filter((name) => name === 'r8')).toHaveLength(1);
    expect(names.filter((name) => name === 'r0')).toHaveLength(2);
    expect(new Set(names).size).toBe(9);
  });
});

describe('on demand', () => {
  beforeEach(() => open(mesh));

  test('nothing at first, then names one by one, then everything', () => {
    put([types.address, 'a', '1'], [types.address, 'b', '1'], [types.address, 'c', '1']);
    ask(types.address, { subscribe: ['*'], unsubscribe: ['*'] });
    expect(brief(drain())).toEqual([['Address', '']]);
    put([types.address, 'a', '2']);
    expect(drain()).toEqual([]);
    ask(types.address, { subscribe: ['b', 'nobody'] });
    expect(brief(drain())).toEqual([['Address', 'b=1', 'nobody']]);
    put([types.address, 'nobody', 'now']);
    expect(brief(drain())).toEqual([['Address', 'nobody=now']]);
    ask(types.address, { unsubscribe: ['b'] });
    put([types.address, 'b', '2']);
    expect(drain()).toEqual([]);
    ask(types.address, { subscribe: ['*'] });
    expect(brief(drain())).toEqual([['Address', 'a=2,b=2,c=1']]);
    ask(types.address, { unsubscribe: ['*'] });
    put([types.address, 'a', '3'], [types.address, 'nobody', 'again']);
    expect(brief(drain())).toEqual([['Address', 'nobody=again']]);
  });

  test('a name that is asked for again is sent again', () => {
    put([types.address, 'a', '1']);
    ask(types.address, { subscribe: ['a'] });
    drain();
    ask(types.address, { subscribe: ['a'] });
    expect(brief(drain())).toEqual([['Address', 'a=1']]);
  });

  test('a reconnect counts the names it holds as asked for', () => {
    put([types.address, 'a', '2']);
    ask(types.address, {
      subscribe: ['*'],
      unsubscribe: ['*'],
      initialVersions: new Map([
        ['a', 'old'],
        ['gone', 'x'],
        ['pending', ''],
      ]),
    });
    expect(brief(drain())).toEqual([['Address', 'a=2', 'gone,pending']]);
    put([types.address, 'a', '3']);
    expect(brief(drain())).toEqual([['Address', 'a=3']]);
  });

  test('an alias is answered under its own name and brings in what belongs to it', () => {
    const stands = new Map([
      ['net/10.0.0.1', ['uid1']],
      ['shop/checkout', ['svc', 'uid1']],
    ]);
    stream = new StreamSubscriptions(table, (_type, name) => stands.get(name) ?? []);
    put([types.address, 'uid1', '1'], [types.address, 'uid2', '1'], [types.address, 'svc', 's']);
    ask(types.address, { subscribe: ['*'], unsubscribe: ['*'] });
    drain();
    ask(types.address, { subscribe: ['net/10.0.0.1'] });
    expect(brief(drain())).toEqual([['Address', 'net/10.0.0.1=1,uid1=1']]);
    ask(types.address, { subscribe: ['shop/checkout'] });
    expect(brief(drain())).toEqual([['Address', 'shop/checkout=s,svc=s']]);
    put([types.address, 'uid1', '2']);
    expect(brief(drain())).toEqual([['Address', 'net/10.0.0.1=2,uid1=2']]);
    stands.set('shop/checkout', ['svc', 'uid1', 'uid2']);
    put([types.address, 'svc', 't']);
    expect(brief(drain())).toEqual([['Address', 'shop/checkout=t,svc=t,uid2=1']]);
    stands.set('net/10.0.0.1', []);
    stands.set('shop/checkout', ['svc', 'uid2']);
    drop(types.address, 'uid1');
    expect(brief(drain())).toEqual([['Address', '', 'net/10.0.0.1,uid1']]);
  });
});

describe('Envoy', () => {
  beforeEach(() => open(envoy));

  const everything = (version: string): [string, string, string][] => [
    [types.secret, 's', version],
    [types.routes, 'r', version],
    [types.listener, 'l', version],
    [types.endpoints, 'c', version],
    [types.cluster, 'c', version],
  ];
  const subscribeAll = (): void => {
    ask(types.secret, { subscribe: ['s'] });
    ask(types.listener);
    ask(types.routes, { subscribe: ['r', 'r2'] });
    ask(types.cluster);
    ask(types.endpoints, { subscribe: ['c', 'c2'] });
  };

  test('an empty first request asks for no endpoints, routes or secrets', () => {
    put(...everything('1'));
    for (const type of envoy) ask(type);
    const early = brief(drain());
    nowMs += limits.orderWaitMs;
    expect([...early, ...brief(drain())]).toEqual([
      ['Cluster', 'c=1'],
      ['ClusterLoadAssignment', ''],
      ['Secret', ''],
      ['Listener', 'l=1'],
      ['RouteConfiguration', ''],
    ]);
  });

  test('adds go in the order of dependency, listeners and routes after the answer to clusters and endpoints', () => {
    subscribeAll();
    drain();
    put(...everything('1'));
    const clusters = next()!;
    const endpoints = next()!;
    const secrets = next()!;
    expect(brief([clusters, endpoints, secrets])).toEqual([
      ['Cluster', 'c=1'],
      ['ClusterLoadAssignment', 'c=1'],
      ['Secret', 's=1'],
    ]);
    expect(next()).toBeUndefined();
    stream.request(ack(clusters), nowMs);
    expect(next()).toBeUndefined();
    stream.request(ack(endpoints), nowMs);
    expect(brief(drain())).toEqual([
      ['Listener', 'l=1'],
      ['RouteConfiguration', 'r=1'],
    ]);
  });

  test('routes wait until the endpoints of a new cluster were asked for', () => {
    ask(types.cluster);
    ask(types.routes, { subscribe: ['r'] });
    drain();
    put(...everything('1'));
    expect(brief(drain())).toEqual([['Cluster', 'c=1']]);
    ask(types.endpoints, { subscribe: ['c'] });
    expect(brief(drain())).toEqual([
      ['ClusterLoadAssignment', 'c=1'],
      ['RouteConfiguration', 'r=1'],
    ]);
  });

  test('but not for ever: a client that never answers gets everything, in order, a little later', () => {
    subscribeAll();
    drain();
    put(...everything('1'));
    expect(drain(false)).toHaveLength(3);
    const wakeAt = stream.wakeAt()!;
    expect(wakeAt).toBe(nowMs + limits.orderWaitMs);
    nowMs = wakeAt;
    expect(brief(drain(false))).toEqual([
      ['Listener', 'l=1'],
      ['RouteConfiguration', 'r=1'],
    ]);
    expect(stream.wakeAt()).toBeUndefined();
    put([types.endpoints, 'c', '2']);
    expect(brief(drain(false))).toEqual([['ClusterLoadAssignment', 'c=2']]);
  });

  test('endpoints never wait', () => {
    subscribeAll();
    put(...everything('1'));
    drain();
    put([types.cluster, 'c', '2']);
    next();
    put([types.endpoints, 'c', '2']);
    expect(brief([next()!])).toEqual([['ClusterLoadAssignment', 'c=2']]);
  });

  test('a cluster goes only after the route that named it has been replaced', () => {
    subscribeAll();
    put(...everything('1'));
    drain();
    table.apply({
      removes: [
        { typeUrl: types.cluster, name: 'c' },
        { typeUrl: types.endpoints, name: 'c' },
        { typeUrl: types.listener, name: 'l' },
      ],
      upserts: [
        resource(types.cluster, 'c2', '1'),
        resource(types.endpoints, 'c2', '1'),
        resource(types.routes, 'r', '2'),
      ],
    });
    expect(brief(drain())).toEqual([
      ['Cluster', 'c2=1'],
      ['ClusterLoadAssignment', 'c2=1'],
      ['RouteConfiguration', 'r=2'],
      ['Listener', '', 'l'],
      ['Cluster', '', 'c'],
      ['ClusterLoadAssignment', '', 'c'],
    ]);
  });

  test('a cluster stays while the route that replaces its own is refused', () => {
    subscribeAll();
    put(...everything('1'));
    drain();
    table.apply({
      removes: [{ typeUrl: types.cluster, name: 'c' }],
      upserts: [resource(types.routes, 'r', 'bad')],
    });
    const route = next()!;
    stream.request(nack(route, 'no'), nowMs);
    nowMs += 10 * limits.orderWaitMs;
    expect(drain()).toEqual([]);
    put([types.routes, 'r', 'good']);
    expect(brief(drain())).toEqual([
      ['RouteConfiguration', 'r=good'],
      ['Cluster', '', 'c'],
    ]);
  });

  test('a bad route does not freeze the others, even when the text names nobody', () => {
    const names = ['r0', 'r1', 'r2', 'r3', 'r4'];
    ask(types.routes, { subscribe: names });
    drain();
    put(...names.map((name) => [types.routes, name, name === 'r3' ? 'bad' : 'good'] as [string, string, string]));
    const accepted = new Set<string>();
    let rounds = 0;
    for (let received = next(); received !== undefined; received = next()) {
      expect(++rounds).toBeLessThan(10);
      if (received.resources.has('r3')) stream.request(nack(received, 'some constraint is violated'), nowMs);
      else {
        for (const name of received.resources.keys()) accepted.add(name);
        stream.request(ack(received), nowMs);
      }
    }
    expect([...accepted].sort()).toEqual(['r0', 'r1', 'r2', 'r4']);
    expect(stream.status()[0]!.rejected).toMatchObject([{ name: 'r3', reason: 'some constraint is violated' }]);
    put([types.routes, 'r0', 'better']);
    expect(brief(drain())).toEqual([['RouteConfiguration', 'r0=better']]);
  });

  test('a name inside a longer name is not taken for it', () => {
    ask(types.cluster);
    drain();
    put([types.cluster, 'east', '1'], [types.cluster, 'east-2', 'bad'], [types.cluster, 'far.east', '1']);
    stream.request(nack(next()!, 'Error adding/updating cluster(s) east-2: no such thing'), nowMs);
    expect(stream.status()[0]!.rejected.map(({ name }) => name)).toEqual(['east-2']);
    expect(drain()).toEqual([]);
  });

  test('two versions refused in a row: the client is known to hold the first one still', () => {
    ask(types.cluster);
    put([types.cluster, 'c', '1']);
    drain();
    put([types.cluster, 'c', '2']);
    const second = next()!;
    put([types.cluster, 'c', '3']);
    const third = next()!;
    stream.request(nack(second, 'c'), nowMs);
    stream.request(nack(third, 'c'), nowMs);
    expect(drain()).toEqual([]);
    put([types.cluster, 'c', '1']);
    expect(drain()).toEqual([]);
    put([types.cluster, 'c', '2']);
    expect(brief(drain())).toEqual([['Cluster', 'c=2']]);
  });
});
