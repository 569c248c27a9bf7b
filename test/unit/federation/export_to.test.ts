/** Exports that name the members they are for, from the annotation to the keys that records stand under. */
import { describe, expect, it } from 'vitest';
import { exportToOf } from '../../../src/federation/export_to.ts';
import { Exports } from '../../../src/federation/exports.ts';
import type { LocalService } from '../../../src/federation/local.ts';
import { exportConditions } from '../../../src/kube/conditions.ts';
import { createLocalState } from '../../../src/kube/local_state.ts';
import { projectExport, projectNamespace, projectService } from '../../../src/kube/objects.ts';
import { codec } from '../../../src/records/codec.ts';
import { localCluster, localService } from './local.ts';

const annotated = (text: string) => ({ 'isthmus.dev/export-to': text });
const read = (text: string) => exportToOf('shop/pay', annotated(text));

describe('the annotation', () => {
  it('names members, in any order, with spaces, some twice', () => {
    expect(read(' us-west,eu-central ,us-west').to).toEqual(['eu-central', 'us-west']);
    expect(exportToOf('shop/pay', {}, undefined)).toEqual({ to: undefined, problem: undefined });
  });
  it('is nobody, and said, when it cannot be read', () => {
    for (const text of ['', ' ', 'us-west,', 'us west', 'US-WEST', '*', 'a/b', 'us-west;eu', 'x'.repeat(64)]) {
      expect([text, read(text).to, read(text).problem?.code]).toEqual([text, [], 'service/export-to']);
    }
    expect(read('us_west').problem?.message).toContain('"us_west"');
  });
  it('of the ServiceExport decides over that of the Service', () => {
    expect(exportToOf('shop/pay', annotated('a'), annotated('b')).to).toEqual(['a']);
    expect(exportToOf('shop/pay', {}, annotated('b')).to).toEqual(['b']);
  });
});

describe('a cluster’s objects', () => {
  const state = (onExport: object | undefined, onService: object = {}, labels = {}) => {
    const made = createLocalState({ defaultMode: 'direct', clusterDomain: 'cluster.local' });
    const metadata = { namespace: 'shop', name: 'pay' };
    const spec = { clusterIP: '10.96.0.1', ports: [{ name: 'http', port: 80 }] };
    made.set(
      'namespaces',
      'shop',
      projectNamespace({ metadata: { labels: { 'istio.io/dataplane-mode': 'ambient' } } }),
    );
    made.set(
      'services',
      'shop/pay',
      projectService({ metadata: { ...metadata, labels, annotations: onService }, spec }),
    );
    if (onExport !== undefined) {
      made.set('serviceexports', 'shop/pay', projectExport({ metadata: { ...metadata, annotations: onExport } }));
    }
    made.flush();
    return made;
  };
  const exported = (...args: Parameters<typeof state>) => state(...args).cluster.services.get('shop/pay')?.exported;

  it('say for whom an export is, whichever way it is asked for', () => {
    expect(exported(annotated('us-west'))).toMatchObject({ by: 'ServiceExport', to: ['us-west'] });
    expect(exported(undefined, annotated('us-west'), { 'istio.io/global': 'true' })).toMatchObject({
      by: 'label',
      to: ['us-west'],
    });
    expect(exported({})).not.toHaveProperty('to');
  });
  it('export nothing by an annotation that cannot be read, and say so; putting it right is enough', () => {
    const made = state(annotated('us west'));
    expect(made.cluster.services.get('shop/pay')?.exported).toBeUndefined();
    const problem = made.cluster.problems.get('shop/pay');
    expect(exportConditions({ problem, conflicts: [], published: false })[0]).toMatchObject({
      type: 'Valid',
      status: 'False',
      reason: 'InvalidExportTo',
    });
    const right = { metadata: { namespace: 'shop', name: 'pay', annotations: annotated('us-west') } };
    made.set('serviceexports', 'shop/pay', projectExport(right));
    made.flush();
    expect(made.cluster.services.get('shop/pay')?.exported).toMatchObject({ to: ['us-west'] });
  });
});

describe('what is published', () => {
  const forSome = (to: readonly string[], change: Partial<LocalService> = {}) =>
    localService({ exported: { by: 'label', sinceMs: 1_000, to }, ...change });
  const setup = (...services: LocalService[]) => {
    const exports = new Exports({ clusterDomain: 'cluster.local', self: 'us-east' });
    const local = localCluster(services);
    exports.setReaders(new Set(['us-west', 'eu-central']), local);
    exports.update(local, { services: local.services.keys(), pods: [] });
    return { exports, local };
  };
  const keys = (exports: Exports) => [...exports.desired.keys()].sort();

  it('stands with each member that is named, and nowhere else', () => {
    const { exports } = setup(forSome(['us-west']), localService({ key: 'shop/open', name: 'open' }));
    expect(keys(exports)).toEqual(['services/shop/open', 'to/us-west/services/shop/checkout']);
    expect(exports.problems.size).toBe(0);
  });

  it('is withdrawn from a member that is named no longer, from it alone', () => {
    const { exports } = setup(forSome(['eu-central', 'us-west']));
    exports.take();
    exports.update(localCluster([forSome(['eu-central'])]), { services: ['shop/checkout'], pods: [] });
    expect([...exports.take()]).toEqual([['to/us-west/services/shop/checkout', undefined]]);
    exports.update(localCluster([localService()]), { services: ['shop/checkout'], pods: [] });
    expect(exports.take().size).toBe(2);
    expect(keys(exports)).toEqual(['services/shop/checkout']);
    exports.update(localCluster([]), { services: ['shop/checkout'], pods: [] });
    expect(keys(exports)).toEqual([]);
  });

  it('follows members that come and go; one that there is not is said, and the others have it', () => {
    const { exports, local } = setup(forSome(['mars', 'us-east', 'us-west']));
    const problem = exports.problems.get('shop/checkout')!;
    expect(problem).toMatchObject({ code: 'service/unknown-reader', message: expect.stringContaining('mars') });
    expect(problem.message).not.toContain('us-east,');
    expect(exportConditions({ problem, conflicts: [], published: true })).toMatchObject([
      { type: 'Valid', status: 'True' },
      { type: 'Ready', status: 'True', reason: 'UnknownReader' },
      {},
    ]);
    exports.setReaders(new Set(['us-west', 'mars']), local);
    expect(keys(exports)).toEqual(['to/mars/services/shop/checkout', 'to/us-west/services/shop/checkout']);
    expect(exports.problems.size).toBe(0);
    exports.setReaders(new Set(['mars']), local);
    expect(keys(exports)).toEqual(['to/mars/services/shop/checkout']);
  });

  it('says nothing of members before it is known who there is', () => {
    const exports = new Exports({ clusterDomain: 'cluster.local' });
    const local = localCluster([forSome(['us-west'])]);
    exports.update(local, { services: local.services.keys(), pods: [] });
    expect([keys(exports), exports.problems.size]).toEqual([[], 0]);
    exports.setReaders(new Set(), local);
    expect(exports.problems.get('shop/checkout')?.code).toBe('service/unknown-reader');
  });

  it('is reached through gateways, which know who asks, whatever the mode', () => {
    const { exports } = setup(forSome(['us-west'], { mode: 'direct' }));
    const record = codec.service.decode(exports.desired.get('to/us-west/services/shop/checkout')!);
    expect(record.ok && record.value.mode).toBe('gateway');
  });

  it('names the service in grants to those members alone', () => {
    const { exports } = setup(forSome(['us-west']));
    const offer = (reader: string, service: string) => ({ reader, service, perSecond: 5 });
    exports.setGrants([
      offer('us-west', 'shop/checkout'),
      offer('us-west', '*'),
      offer('eu-central', 'shop/checkout'),
      offer('eu-central', '*'),
    ]);
    const grants = (key: string) => {
      const record = codec.grants.decode(exports.desired.get(key)!);
      return record.ok ? record.value.grants.map(({ service }) => service) : undefined;
    };
    expect(keys(exports).filter((key) => key.includes('grants'))).toEqual([
      'grants/eu-central',
      'to/us-west/grants/us-west',
    ]);
    expect(grants('grants/eu-central')).toEqual(['*']);
    expect(grants('to/us-west/grants/us-west')).toEqual(['*', 'shop/checkout']);
    exports.setGrants([]);
    expect(keys(exports).filter((key) => key.includes('grants'))).toEqual([]);
  });
});
