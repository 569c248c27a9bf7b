import { X509Certificate } from 'node:crypto';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { issueEtcdClient, newEtcdRequest } from '../../../src/ca/etcd_request.ts';
import type { Config } from '../../../src/config/controller.ts';
import { EtcdCertificate, type EtcdPair, etcdFiles } from '../../../src/controller/etcd_certificate.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import { newTestCa, type TestCa } from '../../real/pki.ts';
import { SimClock } from '../../sim/clock.ts';

const hourMs = 3_600_000;
let ca: TestCa;
let first: EtcdPair;
beforeAll(async () => {
  ca = await newTestCa();
  first = await ca.issue({ commonName: 'us-west', notBeforeMs: -hourMs, notAfterMs: hourMs });
});

let clock: SimClock;
let secret: Record<string, Uint8Array>;
let asked: number;
let told: EtcdPair | undefined;
beforeEach(() => {
  clock = new SimClock(Date.now());
  secret = {};
  asked = 0;
  told = undefined;
});

const issue = async (request: string, commonName = 'us-west'): Promise<string> => {
  asked++;
  const pem = { cert: ca.cert.toString(), key: ca.key.toString() };
  const input = { commonName, ttlS: 6 * 3_600, nowMs: clock.wallMs() };
  return (await issueEtcdClient(pem, request, input, (n) => crypto.getRandomValues(new Uint8Array(n)))).cert;
};
const make = (renew: ((request: string) => Promise<string>) | undefined, store = {}): EtcdCertificate => {
  const certificate: EtcdCertificate = new EtcdCertificate({
    config: { member: 'us-west', store: { certFile: etcdFiles.cert, keyFile: etcdFiles.key, ...store } } as Config,
    first,
    renew,
    onNew: (pair) => {
      told = pair;
    },
    store: async (files) => {
      secret = { ...secret, ...files };
      certificate.take({ data: secret });
    },
    clock,
    rng: () => 0.5,
    log: () => {},
  });
  return certificate;
};
const untilMs = ({ cert }: EtcdPair) => new X509Certificate(cert).validToDate.getTime();
const settle = async (): Promise<void> => {
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve));
};

describe('the certificate for etcd', () => {
  it('is renewed in the middle of its life, by the replica that writes, once', async () => {
    const certificate = make(issue);
    certificate.check(false);
    clock.wallStartMs -= hourMs / 2;
    certificate.check(true);
    await settle();
    expect(asked).toBe(0);
    clock.wallStartMs += hourMs;
    certificate.check(true);
    certificate.check(true);
    await expect.poll(() => Object.keys(secret)).toEqual([etcdFiles.cert, etcdFiles.key]);
    expect(asked).toBe(1);
    expect(untilMs(certificate.current)).toBeGreaterThan(untilMs(first));
    expect(told).toBe(certificate.current);
    certificate.check(true);
    await settle();
    expect(asked).toBe(1);
  });

  it('stays what it is where none is issued, and is asked for again a day later', async () => {
    const certificate = make(async () => {
      asked++;
      throw new IsthmusError('store/denied', 'this store gateway issues none');
    });
    clock.wallStartMs += hourMs / 2;
    certificate.check(true);
    await expect.poll(() => asked).toBe(1);
    await settle();
    // Nobody issues them there: no fault of anybody.
    expect(certificate.problems).toEqual([]);
    certificate.check(true);
    await settle();
    expect([asked, certificate.current]).toEqual([1, first]);
    await clock.advance(700_000);
    certificate.check(true);
    await settle();
    expect(asked).toBe(1);
    await clock.advance(86_400_000);
    certificate.check(true);
    await expect.poll(() => asked).toBe(2);
  });

  it('is never another’s, one without its key, or one that ends sooner', async () => {
    const others = make((request) => issue(request, 'us-east'));
    clock.wallStartMs += hourMs / 2;
    others.check(true);
    await expect.poll(() => others.problems.map(({ code }) => code)).toEqual(['trust/invalid']);
    expect(secret).toEqual({});
    const certificate = make(undefined);
    const { request, key } = await newEtcdRequest();
    const [east, sooner] = [
      { cert: Buffer.from(await issue(request, 'us-east')), key: Buffer.from(key) },
      await ca.issue({ commonName: 'us-west', notAfterMs: hourMs / 2 }),
    ];
    const west = { cert: Buffer.from(await issue(request)), key: Buffer.from(key) };
    for (const { cert, key: pem } of [
      east,
      sooner,
      { ...west, key: first.key },
      { cert: Buffer.from('x'), key: first.key },
    ]) {
      certificate.take({ data: { [etcdFiles.cert]: cert, [etcdFiles.key]: pem } });
      expect(certificate.current).toBe(first);
    }
    certificate.take({ data: { [etcdFiles.cert]: west.cert, [etcdFiles.key]: west.key } });
    expect(certificate.current).toEqual(west);
  });

  it('is that of the files where the configuration names others', async () => {
    const certificate = make(undefined, { certFile: '/elsewhere.pem' });
    const { request, key } = await newEtcdRequest();
    certificate.take({
      data: { [etcdFiles.cert]: Buffer.from(await issue(request)), [etcdFiles.key]: Buffer.from(key) },
    });
    expect(certificate.current).toBe(first);
  });
});
