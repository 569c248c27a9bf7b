import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Result } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import {
  type Gateway,
  type GatewaysRecord,
  type ServicePort,
  ServiceRecordSchema,
  type TrustRecord,
  type VantageRecord,
} from '../../../src/gen/isthmus/v1/records_pb.ts';
import { codec } from '../../../src/records/codec.ts';
import { service, someService } from './arbitrary.ts';

const value = <T>(result: Result<T>): T => {
  if (!result.ok) throw result.error;
  return result.value;
};
const refused = (result: Result<unknown>): string => {
  if (result.ok)
    throw new Error(`accepted: ${JSON.stringify(result.value, (_, v) => (typeof v === 'bigint' ? `${v}` : v))}`);
  return `${result.error.code}: ${result.error.message}`;
};

/** The generated decoder's reading, without what it keeps of unknown fields. */
const lenient = (bytes: Uint8Array): unknown =>
  JSON.parse(toJsonText(fromBinary(ServiceRecordSchema, bytes)), (key, value) =>
    key === 'exportedMs' ? BigInt(value) : value,
  );
const toJsonText = (message: unknown): string =>
  JSON.stringify(message, (key, value) =>
    key === '$unknown' ? undefined : typeof value === 'bigint' ? String(value) : value,
  );

describe('service records', () => {
  it('come back as they were written', () => {
    fc.assert(
      fc.property(service, (record) => {
        const bytes = value(codec.service.encode(record));
        expect(value(codec.service.decode(bytes))).toEqual(record);
        // A second, independent decoder agrees.
        expect({ ...fromBinary(ServiceRecordSchema, bytes) }).toEqual(record);
      }),
    );
  });

  it('never throw, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void codec.service.decode(bytes)),
      { numRuns: 500 },
    );
  });

  it('are refused when cut anywhere, or are then a valid shorter record', () => {
    const bytes = value(codec.service.encode(someService()));
    for (let length = 0; length < bytes.length; length++) {
      const result = codec.service.decode(bytes.subarray(0, length));
      if (!result.ok) expect(result.error.code).toBe('record/malformed');
    }
    expect(refused(codec.service.decode(bytes.subarray(0, bytes.length - 1)))).toContain('truncated');
  });

  it('never throw and never lie after one flipped byte', () => {
    const bytes = value(codec.service.encode(someService()));
    for (let at = 0; at < bytes.length; at++) {
      for (let flip = 1; flip < 256; flip++) {
        const damaged = Uint8Array.from(bytes);
        damaged[at]! ^= flip;
        const result = codec.service.decode(damaged);
        // What is accepted is accepted by the lenient decoder too, with the same meaning.
        if (result.ok) expect(result.value).toEqual(lenient(damaged));
      }
    }
  });

  const port = (name: string, number: number): ServicePort => ({
    $typeName: 'isthmus.v1.ServicePort',
    name,
    port: number,
    protocol: 'TCP',
  });
  const bad: [string, Parameters<typeof someService>[0], string][] = [
    ['namespace', { namespace: 'Shop' }, 'service.namespace: "Shop" is not a DNS label'],
    ['name with a slash', { name: 'a/b' }, 'service.name: "a/b"'],
    ['host of another', { hostname: 'pay.shop.svc.cluster.local' }, 'is not a name of shop/checkout'],
    ['port 0', { ports: [port('http', 0)] }, 'ports.port: 0 is not a port'],
    ['two equal ports', { ports: [port('a', 80), port('b', 80)] }, 'appears twice'],
    ['two equal port names', { ports: [port('a', 80), port('a', 81)] }, '"a" appears twice'],
    ['too many ports', { ports: Array.from({ length: 65 }, (_, i) => port(`p${i}`, i + 1)) }, 'more than 64 entries'],
    ['account', { accounts: ['checkout'] }, 'service.accounts: "checkout"'],
    ['equal accounts', { accounts: ['a/b', 'a/b'] }, 'appears twice'],
    ['mode', { mode: 'teleport' }, 'service.mode: "teleport"'],
    [
      'ready above total',
      { capacity: [{ $typeName: 'isthmus.v1.Capacity', ready: 2, total: 1 }] },
      'capacity.ready: 2',
    ],
    [
      'capacity',
      { capacity: [{ $typeName: 'isthmus.v1.Capacity', ready: 0, total: 4_000_000_000 }] },
      'is above 1000000',
    ],
    ['time', { exportedMs: 2n ** 63n }, 'exported_ms'],
  ];
  it.each(bad)('are refused with the field and the value: %s', (_, change, message) => {
    const text = refused(codec.service.decode(toBinary(ServiceRecordSchema, someService(change))));
    expect(text).toContain('record/malformed');
    expect(text).toContain(message);
    expect(refused(codec.service.encode(someService(change)))).toContain(message);
  });

  it('are refused by size before they are read', () => {
    expect(refused(codec.service.decode(new Uint8Array(limits.recordBytesMax + 1)))).toContain('record/too-large');
  });

  it('are refused when a number is too long, a field comes twice or has the wrong type', () => {
    const bytes = value(codec.service.encode(someService()));
    const plus = (...more: number[]) => Uint8Array.from([...bytes, ...more]);
    expect(refused(codec.service.decode(plus(0x0a, 1, 0x61)))).toContain('service.namespace: appears twice');
    expect(refused(codec.service.decode(plus(0x20, 1)))).toContain('wire type 0');
    expect(refused(codec.service.decode(plus(0x22, 8, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00)))).toContain(
      'port',
    );
    expect(refused(codec.service.decode(plus(0x40, 2)))).toContain('headless');
    expect(refused(codec.service.decode(plus(0x5b)))).toContain('wire type 3');
    expect(refused(codec.service.decode(plus(0x00)))).toContain('field number 0');
  });

  it('carry fields of the next version, and are frozen when one of them is critical', () => {
    const bytes = value(codec.service.encode(someService()));
    const withField50 = Uint8Array.from([...bytes, 0x92, 0x03, 2, 1, 2]);
    expect(value(codec.service.decode(withField50))).toEqual(someService());
    const frozen = Uint8Array.from([...withField50, ...toBinary(ServiceRecordSchema, { ...empty(), critical: [50] })]);
    expect(refused(codec.service.decode(frozen))).toContain('record/frozen: service: field 50 is critical');
    const knownCritical = Uint8Array.from([
      ...bytes,
      ...toBinary(ServiceRecordSchema, { ...empty(), critical: [4, 10] }),
    ]);
    expect(value(codec.service.decode(knownCritical)).critical).toEqual([4, 10]);
  });
});

const empty = () =>
  someService({
    namespace: '',
    name: '',
    hostname: '',
    ports: [],
    accounts: [],
    capacity: [],
    exportedMs: 0n,
    mode: '',
  });

describe('other records', () => {
  const gateway = (change: Partial<Gateway> = {}): Gateway => ({
    $typeName: 'isthmus.v1.Gateway',
    id: 'gateway-0',
    address: '10.2.0.5',
    federationPort: 15028,
    hbonePort: 15008,
    draining: false,
    ...change,
  });
  const gateways = (...list: Gateway[]): GatewaysRecord => ({
    $typeName: 'isthmus.v1.GatewaysRecord',
    gateways: list,
    account: 'isthmus-system/isthmus-gateway',
    critical: [],
  });

  it('gateways: come back, and are refused with bad addresses, ids and ports', () => {
    const record = gateways(gateway(), gateway({ id: 'gateway-1', address: 'fd00::5', draining: true }));
    expect(value(codec.gateways.decode(value(codec.gateways.encode(record))))).toEqual(record);
    expect(refused(codec.gateways.encode(gateways(gateway({ address: '10.2.0.500' }))))).toContain('10.2.0.500');
    expect(refused(codec.gateways.encode(gateways(gateway({ address: 'example.com' }))))).toContain('an IP address');
    expect(refused(codec.gateways.encode(gateways(gateway(), gateway({ address: '10.2.0.6' }))))).toContain(
      'appears twice',
    );
    expect(refused(codec.gateways.encode(gateways(gateway(), gateway({ id: 'other' }))))).toContain('appears twice');
    expect(refused(codec.gateways.encode(gateways(gateway({ hbonePort: 0 }))))).toContain('hbone_port');
  });

  it('trust: comes back, and is refused without roots or with one twice', () => {
    const record: TrustRecord = {
      $typeName: 'isthmus.v1.TrustRecord',
      trustDomain: 'corp.example',
      roots: [Uint8Array.of(1, 2), Uint8Array.of(3)],
      sequence: 4n,
      refreshHintS: 300,
      critical: [],
    };
    expect(value(codec.trust.decode(value(codec.trust.encode(record))))).toEqual(record);
    expect(refused(codec.trust.encode({ ...record, roots: [] }))).toContain('trust.roots');
    expect(refused(codec.trust.encode({ ...record, roots: [Uint8Array.of(1), Uint8Array.of(1)] }))).toContain('twice');
    expect(refused(codec.trust.encode({ ...record, trustDomain: 'Corp/x' }))).toContain('trust.trust_domain: "Corp/x"');
  });

  it('vantage: comes back, and is refused with a member twice', () => {
    const peer = {
      $typeName: 'isthmus.v1.PeerVantage' as const,
      member: 'us-west',
      rttMs: 80,
      rttVarMs: 5,
      reachable: true,
    };
    const record: VantageRecord = { $typeName: 'isthmus.v1.VantageRecord', peers: [peer], critical: [] };
    expect(value(codec.vantage.decode(value(codec.vantage.encode(record))))).toEqual(record);
    expect(refused(codec.vantage.encode({ ...record, peers: [peer, peer] }))).toContain('"us-west" appears twice');
    expect(refused(codec.vantage.encode({ ...record, peers: [{ ...peer, rttMs: 100_000 }] }))).toContain('rtt_ms');
  });
});

describe('what readers remember', () => {
  it('is nothing of a large part, however many different ones come', () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const held = (): number => {
      collect();
      collect();
      return process.memoryUsage().heapUsed + process.memoryUsage().external;
    };
    const bytes = value(codec.service.encode(someService()));
    // A capacity with 50,000 bytes of a field that nobody knows.
    const part = Buffer.alloc(50_000 + 5);
    part.set([0xfa, 0x07, 0xd0, 0x86, 0x03]);
    const head = Buffer.from([0x32, 0xd5, 0x86, 0x03]);
    const before = held();
    for (let i = 0; i < 2_000; i++) {
      part.writeUInt32LE(i, 100);
      value(codec.service.decode(Buffer.concat([bytes, head, part])));
    }
    expect(held() - before).toBeLessThan(50_000_000);
  });
});
