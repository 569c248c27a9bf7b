import { beforeEach, describe, expect, test } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { types } from '../../../src/xds/resource.ts';
import { ack, nack, resource } from './client.ts';
import { ask, brief, drain, envoy, my, next, open, put } from './conversation.ts';

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
    my.nowMs += limits.orderWaitMs;
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
    my.stream.request(ack(clusters), my.nowMs);
    expect(next()).toBeUndefined();
    my.stream.request(ack(endpoints), my.nowMs);
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
    const wakeAt = my.stream.wakeAt()!;
    expect(wakeAt).toBe(my.nowMs + limits.orderWaitMs);
    my.nowMs = wakeAt;
    expect(brief(drain(false))).toEqual([
      ['Listener', 'l=1'],
      ['RouteConfiguration', 'r=1'],
    ]);
    expect(my.stream.wakeAt()).toBeUndefined();
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
    my.table.apply({
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
    my.table.apply({
      removes: [{ typeUrl: types.cluster, name: 'c' }],
      upserts: [resource(types.routes, 'r', 'bad')],
    });
    const route = next()!;
    my.stream.request(nack(route, 'no'), my.nowMs);
    my.nowMs += 10 * limits.orderWaitMs;
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
      if (received.resources.has('r3')) my.stream.request(nack(received, 'some constraint is violated'), my.nowMs);
      else {
        for (const name of received.resources.keys()) accepted.add(name);
        my.stream.request(ack(received), my.nowMs);
      }
    }
    expect([...accepted].sort()).toEqual(['r0', 'r1', 'r2', 'r4']);
    expect(my.stream.status()[0]!.rejected).toMatchObject([{ name: 'r3', reason: 'some constraint is violated' }]);
    put([types.routes, 'r0', 'better']);
    expect(brief(drain())).toEqual([['RouteConfiguration', 'r0=better']]);
  });

  test('a name inside a longer name is not taken for it', () => {
    ask(types.cluster);
    drain();
    put([types.cluster, 'east', '1'], [types.cluster, 'east-2', 'bad'], [types.cluster, 'far.east', '1']);
    my.stream.request(nack(next()!, 'Error adding/updating cluster(s) east-2: no such thing'), my.nowMs);
    expect(my.stream.status()[0]!.rejected.map(({ name }) => name)).toEqual(['east-2']);
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
    my.stream.request(nack(second, 'c'), my.nowMs);
    my.stream.request(nack(third, 'c'), my.nowMs);
    expect(drain()).toEqual([]);
    put([types.cluster, 'c', '1']);
    expect(drain()).toEqual([]);
    put([types.cluster, 'c', '2']);
    expect(brief(drain())).toEqual([['Cluster', 'c=2']]);
  });
});
