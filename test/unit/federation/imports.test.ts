/** What a cluster takes of what others export is its own choice: service by service, namespace by namespace, or all. */
import { describe, expect, it } from 'vitest';
import { renderStatus } from '../../../src/cli/status.ts';
import { explain } from '../../../src/controller/explaining.ts';
import { buildStatus } from '../../../src/controller/status.ts';
import { importChoice, isImported } from '../../../src/federation/imports.ts';
import type { LocalCluster, LocalService } from '../../../src/federation/local.ts';
import type { MemberView } from '../../../src/federation/view.ts';
import { ViewKeeper } from '../../../src/federation/view_keeper.ts';
import { createLocalState } from '../../../src/kube/local_state.ts';
import { projectNamespace } from '../../../src/kube/objects.ts';
import { explainInput, memberView, planOf, record, serviceView, viewOf } from '../controller/shop.ts';
import { localCluster, localService } from './local.ts';

const cluster = (
  imports: Record<string, boolean>,
  services: readonly LocalService[] = [],
): LocalCluster & { readonly imports: Map<string, boolean> } => ({
  ...localCluster(services),
  imports: new Map(Object.entries(imports)),
});
const own = (value?: string): LocalService =>
  localService({ annotations: value === undefined ? {} : { 'isthmus.dev/import': value } });

describe('the choice', () => {
  it('is the service’s, else the namespace’s, else the configuration’s', () => {
    const choice = (imports: Record<string, boolean>, value?: string) => [
      isImported('shop/checkout', cluster(imports, [own(value)]), 'all'),
      isImported('shop/checkout', cluster(imports, [own(value)]), 'optIn'),
    ];
    expect(choice({})).toEqual([true, false]);
    expect(choice({ other: true })).toEqual([true, false]);
    expect(choice({ shop: true })).toEqual([true, true]);
    expect(choice({ shop: false })).toEqual([false, false]);
    expect(choice({ shop: false }, 'true')).toEqual([true, true]);
    expect(choice({ shop: true }, 'false')).toEqual([false, false]);
  });
  it('is no where it cannot be read', () => {
    for (const text of ['True', 'yes', '', '1', ' true']) expect(importChoice(text), text).toBe(false);
  });
  it('is read off a namespace’s labels, and its annotations', () => {
    const read = (metadata: object) => projectNamespace({ metadata });
    expect(read({ labels: { 'isthmus.dev/import': 'true' } }).imported).toBe(true);
    expect(read({ annotations: { 'isthmus.dev/import': 'false' } }).imported).toBe(false);
    expect(read({})).not.toHaveProperty('imported');
    const state = createLocalState({ defaultMode: 'gateway', clusterDomain: 'cluster.local' });
    state.set('namespaces', 'shop', read({ labels: { 'isthmus.dev/import': 'true' } }));
    expect([...(state.flush()?.imports ?? [])]).toEqual(['shop']);
    expect(state.cluster.imports?.get('shop')).toBe(true);
    state.set('namespaces', 'shop', read({ labels: { 'istio.io/dataplane-mode': 'ambient' } }));
    expect([...(state.flush()?.imports ?? [])]).toEqual(['shop']);
    expect(state.cluster.imports?.size).toBe(0);
    state.set('namespaces', 'shop', undefined);
    expect(state.flush()).toBeUndefined();
  });
});

const services = (...names: string[]) =>
  new Map(names.map((name) => [`shop/${name}`, record(2, 2, { name, hostname: `${name}.shop.svc.cluster.local` })]));
const members = new Map<string, MemberView>([
  ['us-west', memberView('us-west', { services: services('checkout', 'cart') })],
  ['eu-central', memberView('eu-central', { services: services('cart') })],
]);

describe('the view', () => {
  const keeper = () => new ViewKeeper({ self: 'us-east', clusterDomain: 'cluster.local', imports: 'optIn' });
  const none = { services: [], members: false };
  const remotes = (of: ViewKeeper, key: string) => [...(of.view.services.get(key)?.remotes.keys() ?? [])].sort();

  it('holds what is imported, and remembers who has the rest', () => {
    const made = keeper();
    made.update(cluster({}, [own()]), members, { services: [], members: true });
    expect([...made.view.services.keys()]).toEqual(['shop/checkout']);
    expect(remotes(made, 'shop/checkout')).toEqual([]);
    expect([...made.view.notImported!].sort()).toEqual([
      ['shop/cart', ['eu-central', 'us-west']],
      ['shop/checkout', ['us-west']],
    ]);
  });

  it('follows a namespace that changes its mind, its services alone', () => {
    const made = keeper();
    const local = cluster({}, [own()]);
    made.update(local, members, { services: [], members: true });
    local.imports.set('shop', true);
    expect(made.update(local, members, { ...none, namespaces: new Set(['other']) }).size).toBe(0);
    expect([...made.update(local, members, { ...none, namespaces: new Set(['shop']) })].sort()).toEqual([
      'shop/cart',
      'shop/checkout',
    ]);
    expect(remotes(made, 'shop/cart')).toEqual(['eu-central', 'us-west']);
    expect(made.view.notImported!.size).toBe(0);
    local.imports.delete('shop');
    made.update(local, members, { ...none, namespaces: new Set(['shop']) });
    expect([made.view.services.has('shop/cart'), remotes(made, 'shop/checkout')]).toEqual([false, []]);
  });

  it('follows a Service that says it of itself', () => {
    const made = keeper();
    made.update(cluster({}, [own('true')]), members, { services: [], members: true });
    expect(remotes(made, 'shop/checkout')).toEqual(['us-west']);
    made.update(cluster({}, [own('false')]), members, { services: ['shop/checkout'], members: false });
    expect(remotes(made, 'shop/checkout')).toEqual([]);
  });
});

describe('who asks', () => {
  const view = {
    ...viewOf([serviceView([1, 1], {})]),
    notImported: new Map([
      ['shop/checkout', ['us-west']],
      ['shop/cart', ['eu-central', 'us-west']],
    ]),
  };
  it('is told by explain what is not imported, and how it would be', () => {
    const input = explainInput(view, [planOf([], [])]);
    const { notes } = explain('shop/checkout', input);
    expect(notes.join('\n')).toMatch(/us-west export it too.*kubectl label namespace shop isthmus.dev\/import=true/);
    expect(() => explain('shop/cart', input)).toThrow(/exported by eu-central and us-west.*does not import it/);
  });
  it('sees it in status', () => {
    const report = buildStatus({
      ...{ identity: { clusterset: 'prod', member: 'us-east', replica: 'r', version: '1' }, nowMs: 0, silenceMs: 1 },
      ...{ writer: true, saved: { ageSeconds: null, servingFromDisk: false }, proxies: [], problems: [] },
      store: { connected: true, endpoint: '', version: '', revision: '1', reason: '', readBackSeconds: 0 },
      kubernetes: { staleSeconds: 0, pending: [] },
      ...{ gatewayHealth: new Map(), roundTrips: new Map(), local: cluster({}), problemOf: () => undefined, view },
      plan: explainInput(view, []).plan,
    });
    expect(report.services.map(({ service, notImported }) => [service, notImported])).toEqual([
      ['shop/cart', ['eu-central', 'us-west']],
      ['shop/checkout', ['us-west']],
    ]);
    expect(renderStatus(report, false)).toMatch(/shop\/cart .*not imported \(eu-central us-west\)/);
  });
});
