import { describe, expect, it } from 'vitest';
import { Exports } from '../../../src/federation/exports.ts';
import type { LocalPod, LocalService } from '../../../src/federation/local.ts';
import { codec } from '../../../src/records/codec.ts';
import { endpoint, localCluster, localPod, localService } from './local.ts';

const setup = (services: LocalService[], pods: LocalPod[]) => {
  const exports = new Exports({ clusterDomain: 'cluster.local' });
  exports.update(localCluster(services, pods), { services: services.map(({ key }) => key), pods: [] });
  return exports;
};
const record = (exports: Exports, key = 'services/shop/checkout') => {
  const bytes = exports.desired.get(key);
  if (bytes === undefined) return undefined;
  const decoded = codec.service.decode(bytes);
  if (!decoded.ok) throw decoded.error;
  return decoded.value;
};
const shape = (exports: Exports): string[] | undefined =>
  record(exports)?.capacity.map(({ locality, ready, total }) => `${locality?.zone} ${ready}/${total}`);
const zoneB = { locality: { region: 'us-east', zone: 'us-east-1b', subzone: '' } };

describe('an exported service', () => {
  it('becomes capacity by locality, and the accounts behind it', () => {
    const pods = [
      localPod('a'),
      localPod('b', zoneB),
      localPod('c', { ...zoneB, ready: false, serviceAccount: 'canary' }),
    ];
    const service = localService({
      endpoints: [endpoint('c'), endpoint('a'), endpoint('b'), endpoint('b2', { ready: false })],
    });
    const exports = setup([service], [...pods, localPod('b2', zoneB)]);
    expect(shape(exports)).toEqual(['us-east-1a 1/1', 'us-east-1b 1/3']);
    expect(record(exports)).toMatchObject({
      hostname: 'checkout.shop.svc.cluster.local',
      accounts: ['shop/canary', 'shop/checkout'],
      exportedMs: 1_000n,
      mode: 'gateway',
    });
  });

  it('does not count pods that no tunnel reaches', () => {
    const pods = [localPod('a', { hbone: false }), localPod('b', { hostNetwork: true }), localPod('c')];
    const exports = setup([localService({ endpoints: [endpoint('a'), endpoint('b'), endpoint('c')] })], pods);
    expect(shape(exports)).toEqual(['us-east-1a 1/1']);
  });

  it('stays, with no capacity, when its pods are gone', () => {
    const exports = setup([localService()], []);
    expect(record(exports)?.capacity).toEqual([]);
  });

  it('changes nothing when a pod is replaced by its like, and follows a pod that changes', () => {
    const before = localService({ endpoints: [endpoint('a')] });
    const exports = setup([before], [localPod('a')]);
    expect([...exports.take().keys()]).toEqual(['services/shop/checkout']);
    const after = localService({ endpoints: [endpoint('z', { address: '10.1.0.9' })] });
    exports.update(localCluster([after], [localPod('z')]), { services: ['shop/checkout'], pods: ['shop/a', 'shop/z'] });
    expect(exports.take().size).toBe(0);
    exports.update(localCluster([after], [localPod('z', zoneB)]), { services: [], pods: ['shop/z'] });
    expect(shape(exports)).toEqual(['us-east-1b 1/1']);
    expect(exports.take().size).toBe(1);
    exports.update(localCluster([after], [localPod('z')]), { services: [], pods: ['shop/a'] });
    expect(exports.take().size).toBe(0);
  });

  it('is withdrawn when it is no longer exported or gone', () => {
    const service = localService({ endpoints: [endpoint('a')] });
    for (const rest of [[localService({ exported: undefined })], []]) {
      const exports = setup([service], [localPod('a')]);
      exports.take();
      exports.update(localCluster(rest, []), { services: ['shop/checkout'], pods: [] });
      expect([...exports.take()]).toEqual([['services/shop/checkout', undefined]]);
      expect(exports.desired.size).toBe(0);
    }
  });

  it('is a problem, not a record, when it can have no data path', () => {
    const code = (change: Partial<LocalService>) => {
      const exports = setup([localService(change)], []);
      return [exports.problems.get('shop/checkout')?.code, exports.desired.size];
    };
    expect(code({ ports: [] })).toEqual(['service/no-ports', 0]);
    expect(code({ type: 'ExternalName', ports: [] })).toEqual(['service/external-name', 0]);
    // Its readers see the disagreement with the other exporters, so it is said.
    expect(code({ headless: true })).toEqual([undefined, 1]);
  });

  it('keeps its last record when the new one would be refused by its readers', () => {
    const exports = setup([localService()], []);
    exports.take();
    const ports = Array.from({ length: 65 }, (_, i) => ({ name: `p${i}`, port: i + 1, protocol: 'TCP' }));
    exports.update(localCluster([localService({ ports })]), { services: ['shop/checkout'], pods: [] });
    expect(exports.take().size).toBe(0);
    expect(exports.problems.get('shop/checkout')?.message).toContain('more than 64 entries');
    expect(record(exports)?.ports).toHaveLength(1);
  });
});

describe('the other records', () => {
  const gateway = (id: string, address: string) => ({
    id,
    address,
    federationPort: 15028,
    hbonePort: 15008,
    draining: false,
    locality: undefined,
  });

  it('have the same bytes whatever the order of their parts', () => {
    const exports = new Exports({ clusterDomain: 'cluster.local' });
    const a = gateway('g-a', '10.1.0.1');
    const b = gateway('g-b', '10.1.0.2');
    const trust = { trustDomain: 'corp', sequence: 1n, refreshHintS: 300 };
    const peer = (member: string) => ({
      $typeName: 'isthmus.v1.PeerVantage' as const,
      member,
      rttMs: 1,
      rttVarMs: 0,
      reachable: true,
    });
    expect(exports.setGateways([a, b], 'isthmus-system/isthmus-gateway').ok).toBe(true);
    expect(exports.setTrust(trust, [Uint8Array.of(2), Uint8Array.of(1)]).ok).toBe(true);
    expect(exports.setVantage([peer('b'), peer('a')]).ok).toBe(true);
    expect([...exports.take().keys()]).toEqual(['gateways', 'trust', 'vantage']);
    exports.setGateways([b, a], 'isthmus-system/isthmus-gateway');
    exports.setTrust(trust, [Uint8Array.of(1), Uint8Array.of(2)]);
    exports.setVantage([peer('a'), peer('b')]);
    expect(exports.take().size).toBe(0);
  });

  it('stay as they were when the new ones are invalid', () => {
    const exports = new Exports({ clusterDomain: 'cluster.local' });
    exports.setGateways([gateway('g', '10.1.0.1')], 'isthmus-system/isthmus-gateway');
    exports.take();
    const result = exports.setGateways([gateway('g', 'nowhere')], 'isthmus-system/isthmus-gateway');
    expect(!result.ok && result.error.message).toContain('"nowhere" is not an IP address');
    expect(exports.take().size).toBe(0);
  });
});
