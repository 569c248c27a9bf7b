/** Random records that are valid, for property tests. */
import fc from 'fast-check';
import type { ServiceRecord } from '../../../src/gen/isthmus/v1/records_pb.ts';

export const label = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?$/);

const locality = fc.record({
  $typeName: fc.constant('isthmus.v1.Locality' as const),
  region: label,
  zone: fc.oneof(fc.constant(''), label),
  subzone: fc.constant(''),
});

export const service: fc.Arbitrary<ServiceRecord> = fc
  .record({
    namespace: label,
    name: label,
    domain: fc.constantFrom('cluster.local', 'corp.example'),
    ports: fc.uniqueArray(fc.record({ name: label, port: fc.integer({ min: 1, max: 65_535 }) }), {
      maxLength: 8,
      comparator: (a, b) => a.name === b.name || a.port === b.port,
    }),
    accounts: fc.uniqueArray(
      fc.tuple(label, label).map(([ns, sa]) => `${ns}/${sa}`),
      { maxLength: 6 },
    ),
    capacity: fc.uniqueArray(fc.tuple(locality, fc.nat(1000), fc.nat(1000)), {
      maxLength: 6,
      selector: ([at]) => `${at.region}/${at.zone}`,
    }),
    exportedMs: fc.bigInt({ min: 0n, max: 2n ** 45n }),
    headless: fc.boolean(),
    sessionAffinity: fc.boolean(),
    mode: fc.constantFrom('', 'gateway', 'direct'),
  })
  .map(({ domain, ports, capacity, ...rest }) => ({
    $typeName: 'isthmus.v1.ServiceRecord' as const,
    ...rest,
    hostname: `${rest.name}.${rest.namespace}.svc.${domain}`,
    ports: ports.map((port) => ({ $typeName: 'isthmus.v1.ServicePort' as const, ...port, protocol: 'TCP' })),
    capacity: capacity.map(([at, ready, more]) => ({
      $typeName: 'isthmus.v1.Capacity' as const,
      locality: at,
      ready,
      total: ready + more,
    })),
    critical: [],
  }));

/** A small valid record to change one thing about. */
export const someService = (change: Partial<ServiceRecord> = {}): ServiceRecord => ({
  $typeName: 'isthmus.v1.ServiceRecord',
  namespace: 'shop',
  name: 'checkout',
  hostname: 'checkout.shop.svc.cluster.local',
  ports: [{ $typeName: 'isthmus.v1.ServicePort', name: 'http', port: 80, protocol: 'TCP' }],
  accounts: ['shop/checkout'],
  capacity: [
    {
      $typeName: 'isthmus.v1.Capacity',
      locality: { $typeName: 'isthmus.v1.Locality', region: 'us-west', zone: 'us-west-1a', subzone: '' },
      ready: 2,
      total: 3,
    },
  ],
  exportedMs: 1_000n,
  headless: false,
  sessionAffinity: false,
  mode: 'gateway',
  critical: [],
  ...change,
});
