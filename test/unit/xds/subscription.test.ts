import { beforeEach, describe, expect, test } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { types } from '../../../src/xds/resource.ts';
import { StreamSubscriptions } from '../../../src/xds/stream.ts';
import { ack, nack, receive, request, resource } from './client.ts';
import { ask, brief, drain, drop, mesh, my, next, open, put } from './conversation.ts';

describe('ztunnel', () => {
  beforeEach(() => open(mesh));

  test('both types are answered, even when there is nothing', () => {
    ask(types.address);
    ask(types.authorization);
    expect(brief(drain())).toEqual([
      ['Address', ''],
      ['Authorization', ''],
    ]);
    expect(my.stream.status().every((type) => type.synced && type.ackedVersion !== undefined)).toBe(true);
  });

  test('gets everything once, then changes and removals in one response', () => {
    put([types.address, 'a', '1'], [types.address, 'b', '1']);
    ask(types.address);
    expect(brief(drain())).toEqual([['Address', 'a=1,b=1']]);
    expect(next()).toBeUndefined();
    my.table.apply({ removes: [{ typeUrl: types.address, name: 'a' }], upserts: [resource(types.address, 'c', '1')] });
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
    const streams = [new StreamSubscriptions(my.table), new StreamSubscriptions(my.table)];
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
        ['a', my.table.get(types.address, 'a')!.version],
        ['b', old],
        ['gone', 'x'],
      ]),
    });
    expect(brief(drain())).toEqual([['Address', 'b=2,c=1', 'gone']]);
    my.stream = new StreamSubscriptions(my.table);
    const held = new Map(
      [...my.table.names(types.address)].map((name) => [name, my.table.get(types.address, name)!.version]),
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
    const answer = my.stream.request(nack(received, 'a: cannot parse'), my.nowMs);
    expect(answer).toMatchObject({
      ok: true,
      value: { kind: 'nack', failed: [{ name: 'a', reason: 'a: cannot parse' }] },
    });
    expect(next()).toBeUndefined();
    expect(my.stream.status()[0]!.rejected).toMatchObject([{ name: 'a', sinceMs: my.nowMs }]);
    put([types.address, 'b', '3']);
    expect(brief(drain())).toEqual([['Address', 'b=3']]);
    put([types.address, 'a', '1']);
    expect(brief(drain())).toEqual([]);
    expect(my.stream.status()[0]!.rejected).toEqual([]);
    put([types.address, 'a', 'good']);
    expect(brief(drain())).toEqual([['Address', 'a=good']]);
  });

  test('a refused resource that was never accepted is still removed cleanly', () => {
    ask(types.address);
    drain();
    put([types.address, 'a', 'bad']);
    my.stream.request(nack(next()!, 'a: no'), my.nowMs);
    drop(types.address, 'a');
    expect(brief(drain())).toEqual([]);
    expect(my.stream.status()[0]).toMatchObject({ rejected: [], waiting: 0 });
  });

  test('unknown, stale and repeated nonces change nothing', () => {
    put([types.address, 'a', '1']);
    ask(types.address);
    const first = next()!;
    expect(my.stream.request(ack(first), my.nowMs)).toMatchObject({ value: { kind: 'ack' } });
    expect(my.stream.request(ack(first), my.nowMs)).toMatchObject({ value: { kind: 'unknown' } });
    expect(my.stream.request(nack(first, 'too late'), my.nowMs)).toMatchObject({ value: { kind: 'unknown' } });
    expect(ask(types.address, { nonce: 'never sent', error: 'a' })).toMatchObject({ value: { kind: 'unknown' } });
    expect(drain()).toEqual([]);
    expect(my.stream.status()[0]).toMatchObject({ rejected: [], synced: true });
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
    const first = my.stream.next(my.nowMs)!;
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
    my.stream = new StreamSubscriptions(my.table, (_type, name) => stands.get(name) ?? []);
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
