import { describe, expect, it } from 'vitest';
import { TradedRoots } from '../../../src/controller/roots.ts';
import { mergeService } from '../../../src/federation/merge.ts';
import type { MemberView, ServiceView, View } from '../../../src/federation/view.ts';
import { localService } from '../federation/local.ts';
import { someService } from '../records/arbitrary.ts';
import { certificate } from '../trust/certificates.ts';

const context = { self: 'us-east', clusterDomain: 'cluster.local' };
const service = (name: string, members: readonly string[], exported = true): ServiceView =>
  mergeService(
    `shop/${name}`,
    localService({ key: `shop/${name}`, name, ...(exported ? {} : { exported: undefined }) }),
    new Map(members.map((member) => [member, someService({ name })])),
    context,
  )!;
const member = (...roots: Uint8Array[]): MemberView => ({ trust: { roots } }) as unknown as MemberView;
const viewOf = (members: Record<string, MemberView>, services: readonly ServiceView[]): View => ({
  self: 'us-east',
  members: new Map(Object.entries(members)),
  services: new Map(services.map((s) => [s.key, s])),
});
const names = (roots: readonly { subject: string }[]): string[] => roots.map((r) => r.subject).sort();

describe('the roots of partners', () => {
  it('come with the first shared service and go with the last', async () => {
    const [west, central] = [await certificate('west'), await certificate('central')];
    const members = { 'us-west': member(west), 'eu-central': member(central) };
    const traded = new TradedRoots();
    const two = viewOf(members, [service('a', ['us-west']), service('b', ['us-west', 'eu-central'])]);
    traded.update(['shop/a', 'shop/b'], two);
    expect(names(traded.current(two))).toEqual(['CN=central', 'CN=west']);
    const one = viewOf(members, [service('a', ['us-west'])]);
    traded.update(['shop/b'], one);
    expect(names(traded.current(one))).toEqual(['CN=west']);
    const none = viewOf(members, [service('a', ['us-west'], false)]);
    traded.update(['shop/a'], none);
    expect(traded.current(none)).toEqual([]);
  });

  it('are the same list until something changes, and follow a member that rotates', async () => {
    const [old, next] = [await certificate('old'), await certificate('next')];
    const traded = new TradedRoots();
    const before = viewOf({ 'us-west': member(old) }, [service('a', ['us-west'])]);
    traded.update(['shop/a'], before);
    const first = traded.current(before);
    traded.update(['shop/a'], before);
    expect(traded.current(before)).toBe(first);
    const after = viewOf({ 'us-west': member(old, next) }, [service('a', ['us-west'])]);
    expect(names(traded.current(after))).toEqual(['CN=next', 'CN=old']);
  });

  it('are in one order on every replica, whoever came first', async () => {
    const [west, central] = [await certificate('west'), await certificate('central')];
    const members = { 'us-west': member(west), 'eu-central': member(central) };
    const view = viewOf(members, [service('a', ['us-west']), service('b', ['eu-central'])]);
    const orders = [
      ['shop/a', 'shop/b'],
      ['shop/b', 'shop/a'],
    ].map((keys) => {
      const traded = new TradedRoots();
      for (const key of keys) traded.update([key], view);
      return traded.current(view).map((root) => root.fingerprint256);
    });
    expect(orders[0]).toEqual(orders[1]);
  });
});
