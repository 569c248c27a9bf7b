import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { decodeLoaded, encodeLoaded } from '../../../src/records/loaded.ts';
import {
  type IssuedCertificate,
  type LoadedInput,
  loadedRecord,
  type ReplicaReport,
  reportStaleMs,
} from '../../../src/trust/loaded.ts';

const now = 1_000_000_000;
const [old, fresh] = ['aa'.repeat(32), 'bb'.repeat(32)] as const;
const before = { roots: [old], issuer: old };
const both = { roots: [old, fresh], issuer: old };
const switched = { roots: [old, fresh], issuer: fresh };

const certificate = (holder: string, change: Partial<IssuedCertificate> = {}): IssuedCertificate => ({
  ...{ holder, pod: `uid-${holder}`, issuedMs: now - 200_000, untilMs: now + 500_000 },
  ...before,
  ...change,
});
const report = (replica: string, change: Partial<ReplicaReport> = {}): ReplicaReport => ({
  ...{ replica, atMs: now - 1_000, closed: false, gives: both, certificates: [], earlier: [], gateways: [] },
  ...change,
});
const loaded = (reports: readonly ReplicaReport[], change: Partial<LoadedInput> = {}) => {
  const record = loadedRecord({
    ...{ reports, nowMs: now, ttlMs: 600_000, wanted: [old, fresh], partners: ['us-west'] },
    ...{ controllers: reports.map(({ replica }) => replica), gatewayPods: [], pods: undefined, probes: new Map() },
    ...change,
  });
  // What is said can be read by everybody else.
  const bytes = encodeLoaded(record);
  expect(bytes.ok && decodeLoaded(bytes.value)).toEqual({ ok: true, value: record });
  const of = (root: string) =>
    record.roots.find(({ fingerprint }) => Buffer.from(fingerprint).toString('hex') === root)!;
  return { record, of };
};

describe('which roots the proxies of a member have', () => {
  it('is known by the certificates in use, of each holder the newest, whoever issued it', () => {
    const { of } = loaded([
      report('a', { certificates: [certificate('shop/one'), certificate('shop/two', { untilMs: now + 90_000 })] }),
      report('b', { certificates: [certificate('shop/one', { ...both, issuedMs: now - 100 })] }),
    ]);
    expect(of(fresh)).toMatchObject({ given: true, lacking: 1, lackingNames: ['shop/two'], issuing: false, inUse: 0 });
    expect(of(fresh).lackingUntilMs).toBe(BigInt(now + 90_000));
    expect(of(old)).toMatchObject({ given: true, issuing: true, lacking: 0, inUse: 0 });
  });

  it('tells who still has a certificate of the CA before, once another issues everywhere', () => {
    const certificates = [certificate('shop/one', both), certificate('shop/two', switched)];
    const one = loaded([report('a', { gives: switched, certificates }), report('b', { gives: both })]);
    expect(one.of(fresh).issuing).toBe(false);
    const all = loaded([report('a', { gives: switched, certificates }), report('b', { gives: switched })]);
    expect(all.of(fresh)).toMatchObject({ issuing: true, inUse: 0 });
    expect(all.of(old)).toMatchObject({ issuing: false, inUse: 1, inUseNames: ['shop/one'] });
  });

  it('leaves out what has ended, and pods that are gone', () => {
    const certificates = [
      certificate('shop/ended', { untilMs: now - 1 }),
      certificate('shop/gone'),
      certificate('shop/new', { issuedMs: now - 10 }),
      certificate('shop/here'),
      certificate('shop/moved on node-1', { pod: 'ztunnel-1' }),
      certificate('shop/stays on node-1', { pod: 'ztunnel-1' }),
    ];
    const pods = new Set(['uid-shop/here', 'ztunnel-1', 'shop/stays on node-1', 'shop/moved on node-2']);
    const { of } = loaded([report('a', { certificates })], { pods });
    expect(of(fresh).lackingNames).toEqual(['shop/here', 'shop/new', 'shop/stays on node-1']);
  });

  it('counts what a replica may have issued before it fell silent, until it must have ended', () => {
    const dead = report('b', { atMs: now - reportStaleMs - 1, gives: before });
    const { of, record } = loaded([report('a'), dead], { controllers: ['a', 'b'] });
    expect(of(fresh)).toMatchObject({ lacking: 1, lackingNames: ['certificates issued by b before it fell silent'] });
    expect(record.unknown).toEqual(['controller b does not report']);
    // It ended in good order, and is gone.
    const closed = loaded([report('a'), { ...dead, closed: true }], { controllers: ['a'] });
    expect([closed.of(fresh).lacking, closed.record.unknown]).toEqual([0, []]);
    const later = loaded([report('a', { atMs: now + 700_000 }), dead], { controllers: ['a'], nowMs: now + 700_000 });
    expect(later.of(fresh).lacking).toBe(0);
  });

  it('counts what is left of times of which nothing is known under every root', () => {
    const { of } = loaded([report('a', { earlier: [{ roots: [], issuer: '', untilMs: now + 5 }] })]);
    expect(of(fresh)).toMatchObject({ lacking: 1, inUse: 1 });
    expect(of(old)).toMatchObject({ lacking: 1, inUse: 0 });
  });

  it('asks both Envoys of each gateway for their acknowledgement', () => {
    const gateways = [
      { node: 'g-0~a', seenMs: now - 9, ...both },
      { node: 'g-0~b', seenMs: now - 9, ...before },
      { node: 'g-1~a', seenMs: now - 9, ...both },
      { node: 'g-gone~a', seenMs: now - 9, ...before },
    ];
    const pods = { gatewayPods: ['g-0', 'g-1'] };
    const { of, record } = loaded([report('a', { gateways })], pods);
    expect(of(fresh)).toMatchObject({ lacking: 1, lackingNames: ['gateway g-0~b'], lackingUntilMs: 0n });
    expect(record.unknown).toEqual(['gateway g-1: 1 of its 2 Envoys have answered']);
    // It moved to the other replica, and answered there.
    const moved = report('b', { gateways: [{ node: 'g-0~b', seenMs: now, ...both }] });
    expect(loaded([report('a', { gateways }), moved], pods).of(fresh).lacking).toBe(0);
  });

  it('is bounded, whatever the names are', () => {
    const certificates = Array.from({ length: 50 }, (_, i) =>
      certificate(`shop/${'ö'.repeat(300)}${i}`, { pod: `${i}` }),
    );
    const { of } = loaded([report('a', { certificates })]);
    expect(of(fresh).lacking).toBe(50);
    expect(of(fresh).lackingNames.length).toBeLessThanOrEqual(limits.loadedNamesMax);
  });
});
