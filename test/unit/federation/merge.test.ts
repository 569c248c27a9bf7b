import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mergeService } from '../../../src/federation/merge.ts';
import type { ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { someService } from '../records/arbitrary.ts';
import { localService } from './local.ts';

const context = { self: 'us-east', clusterDomain: 'cluster.local' };
const merge = (local: ReturnType<typeof localService> | undefined, remotes: Record<string, ServiceRecord>) =>
  mergeService('shop/checkout', local, new Map(Object.entries(remotes)), context)!;
const port = (name: string, number: number, protocol = 'TCP') => ({
  $typeName: 'isthmus.v1.ServicePort' as const,
  name,
  port: number,
  protocol,
});

describe('the merged service', () => {
  it('is nothing when nobody has it', () => {
    expect(mergeService('shop/checkout', undefined, new Map(), context)).toBeUndefined();
  });

  it('joins our export with the others', () => {
    const view = merge(localService(), { 'us-west': someService() });
    expect(view.hostname).toBe('checkout.shop.svc.cluster.local');
    expect([...view.remotes.keys()]).toEqual(['us-west']);
    expect(view.conflicts).toEqual([]);
    expect(view.unsupported).toBeUndefined();
  });

  it('takes nothing from others for a service of ours that we do not export', () => {
    const view = merge(localService({ exported: undefined }), { 'us-west': someService() });
    expect(view.remotes.size).toBe(0);
    expect(view.ports).toEqual([{ name: 'http', port: 80, protocol: 'TCP' }]);
  });

  it('has the union of all ports', () => {
    const view = merge(localService(), { 'us-west': someService({ ports: [port('http', 80), port('grpc', 9090)] }) });
    expect(view.ports.map(({ port: number }) => number)).toEqual([80, 9090]);
    expect(view.conflicts).toEqual([]);
  });

  it('settles a port conflict for the oldest export, and says who lost', () => {
    const west = someService({ exportedMs: 500n, ports: [port('http', 8080), port('grpc', 9090)] });
    const view = merge(localService(), { 'us-west': west });
    expect(view.ports).toEqual([
      { name: 'http', port: 8080, protocol: 'TCP' },
      { name: 'grpc', port: 9090, protocol: 'TCP' },
    ]);
    expect(view.conflicts).toHaveLength(1);
    expect(view.conflicts[0]).toMatchObject({ field: 'ports', winner: 'us-west', losers: ['us-east'] });
    expect(view.conflicts[0]!.message).toContain('us-east has http 80/TCP where us-west has http 8080/TCP');
  });

  it('lets one number serve two transports', () => {
    const view = merge(localService({ ports: [{ name: 'dns', port: 53, protocol: 'UDP' }] }), {
      'us-west': someService({ ports: [port('dns-tcp', 53)] }),
    });
    expect(view.ports).toHaveLength(2);
    expect(view.conflicts).toEqual([]);
  });

  it('leaves out a member whose export has no data path, and says so', () => {
    for (const field of ['headless', 'sessionAffinity'] as const) {
      const view = merge(localService(), {
        'us-west': someService({ exportedMs: 0n, [field]: true }),
        eu: someService(),
      });
      expect(view.unsupported).toBeUndefined();
      expect([...view.remotes.keys()]).toEqual(['eu']);
      expect(view.conflicts).toHaveLength(1);
      expect(view.conflicts[0]).toMatchObject({ field, winner: 'us-east', losers: ['us-west'] });
      expect(view.conflicts[0]!.message).toContain('us-east and true at us-west');
    }
  });

  it('has no data path when our own Service has none, whoever exported first', () => {
    const headless = merge(localService({ headless: true }), { 'us-west': someService({ exportedMs: 0n }) });
    expect(headless.unsupported?.code).toBe('service/headless');
    expect(headless.conflicts[0]).toMatchObject({ field: 'headless', winner: 'us-east', losers: ['us-west'] });
    const affinity = merge(localService({ sessionAffinity: true }), { 'us-west': someService({ exportedMs: 0n }) });
    expect(affinity.unsupported?.code).toBe('service/session-affinity');
  });

  it('without a Service of ours has no data path only when nobody has one', () => {
    const headless = someService({ exportedMs: 0n, headless: true });
    const some = merge(undefined, { 'us-west': headless, eu: someService() });
    expect([some.unsupported, [...some.remotes.keys()]]).toEqual([undefined, ['eu']]);
    const none = merge(undefined, { 'us-west': headless });
    expect([none.unsupported?.code, [...none.remotes.keys()]]).toEqual(['service/headless', ['us-west']]);
  });

  it('leaves the mode to the cluster where the path starts', () => {
    expect(merge(localService({ mode: 'direct' }), { 'us-west': someService({ exportedMs: 1n }) }).mode).toBe('direct');
    expect(merge(undefined, { 'us-west': someService({ mode: 'direct' }) }).mode).toBe('direct');
  });

  it('does not depend on the order in which members are seen', () => {
    const remote = fc.record({
      exportedMs: fc.bigInt({ min: 0n, max: 3n }),
      headless: fc.boolean(),
      number: fc.integer({ min: 80, max: 82 }),
    });
    fc.assert(
      fc.property(fc.array(remote, { maxLength: 5 }), (remotes) => {
        const entries = remotes.map(
          ({ number, ...rest }, i) => [`m${i}`, someService({ ...rest, ports: [port('http', number)] })] as const,
        );
        const forward = merge(localService(), Object.fromEntries(entries));
        const backward = merge(localService(), Object.fromEntries([...entries].reverse()));
        expect(backward.ports).toEqual(forward.ports);
        expect(backward.conflicts).toEqual(forward.conflicts);
      }),
    );
  });
});
