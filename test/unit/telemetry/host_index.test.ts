import { expect, it } from 'vitest';
import { HostIndex } from '../../../src/telemetry/host_index.ts';
import { headGapMs, headToTell } from '../../../src/translate/envoy/head_pace.ts';

it('finds services by their authority, while they are there', () => {
  const index = new HostIndex();
  index.set('shop/cart', { hostname: 'cart.shop.svc.cluster.local' });
  expect(index.serviceOf('cart.shop.svc.cluster.local:80')).toBe('shop/cart');
  for (const other of ['cart.shop.svc.cluster.local', 'Cart.shop.svc.cluster.local:80', '', ':80', 'x:1'])
    expect(index.serviceOf(other)).toBeUndefined();
  index.set('shop/cart', { hostname: 'cart.shop.svc.other' });
  expect(index.serviceOf('cart.shop.svc.cluster.local:80')).toBeUndefined();
  expect(index.serviceOf('cart.shop.svc.other:80')).toBe('shop/cart');
  index.set('shop/cart', undefined);
  expect(index.serviceOf('cart.shop.svc.other:80')).toBeUndefined();
});

it('tells heads at most every two seconds, and the last one in the end', () => {
  const head = (sequence: bigint) => ({ epoch: 1n, sequence });
  const first = headToTell(undefined, head(1n), 100);
  expect(first).toEqual({ told: { head: head(1n), atMs: 100 }, wakeAtMs: undefined });
  const early = headToTell(first.told, head(2n), 600);
  expect(early).toEqual({ told: first.told, wakeAtMs: 100 + headGapMs });
  expect(headToTell(first.told, head(3n), 100 + headGapMs).told?.head).toEqual(head(3n));
  expect(headToTell(first.told, head(1n), 9_000)).toEqual({ told: first.told, wakeAtMs: undefined });
  expect(headToTell(undefined, undefined, 0)).toEqual({ told: undefined, wakeAtMs: undefined });
});
