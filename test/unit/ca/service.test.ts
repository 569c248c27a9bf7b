import { X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Authority } from '../../../src/ca/authority.ts';
import { makeRequest } from '../../../src/ca/client.ts';
import { makeFederationCa } from '../../../src/ca/federation.ts';
import { type Caller, type CertificateServiceOptions, createCertificateService } from '../../../src/ca/service.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import { newAuthority, nowMs, random } from './pki.ts';
import { makeCsr } from './requests.ts';

const own = 'spiffe://cluster.local/ns/shop/sa/checkout';
const caller: Caller = { namespace: 'shop', serviceAccount: 'checkout', pod: { name: 'c-1', uid: 'u1' }, node: 'n1' };
const shared: Caller = {
  namespace: 'istio-system',
  serviceAccount: 'ztunnel',
  pod: { name: 'z', uid: 'u2' },
  node: 'n1',
};

let authority: Authority;
let monotonicMs = 0;
beforeAll(async () => {
  ({ authority } = await newAuthority());
});

const service = (options: Partial<CertificateServiceOptions> = {}) =>
  createCertificateService({
    trustDomain: 'cluster.local',
    authority: () => authority,
    moreRoots: () => [],
    sharedZtunnel: { namespace: 'istio-system', serviceAccount: 'ztunnel' },
    accountOnNode: (namespace, account, node) => namespace === 'shop' && account === 'checkout' && node === 'n1',
    ttlMaxS: 3_600,
    clock: { monotonicMs: () => monotonicMs, wallMs: () => nowMs, after: () => ({ cancel: () => {} }) },
    random,
    ...options,
  });
const ask = async (
  serve: ReturnType<typeof service>,
  who: Caller,
  fields: { csr?: string; validityS?: number; impersonatedIdentity?: string } = {},
) => {
  try {
    const chain = await serve(
      {
        csr: fields.csr ?? (await makeCsr([])),
        validityS: fields.validityS ?? 0,
        impersonatedIdentity: fields.impersonatedIdentity,
      },
      who,
    );
    return { chain, leaf: new X509Certificate(chain[0]!) };
  } catch (error) {
    if (!(error instanceof IsthmusError)) throw error;
    return { code: error.code, message: error.message };
  }
};

describe('what is issued', () => {
  test('one critical URI, empty subject, both usages, no CA, verified by OpenSSL up to the root', async () => {
    const { csr } = await makeRequest(own);
    const { leaf, chain } = (await ask(service(), caller, { csr })) as { leaf: X509Certificate; chain: string[] };
    expect(leaf.subjectAltName).toBe(`URI:${own}`);
    expect(leaf.subject).toBeFalsy();
    expect(leaf.ca).toBe(false);
    expect(leaf.keyUsage?.toSorted()).toEqual(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
    expect(leaf.verify(authority.certificate.publicKey)).toBe(true);
    expect(leaf.checkIssued(authority.certificate)).toBe(true);
    expect(leaf.validFromDate.getTime()).toBe(nowMs - 60_000);
    expect(chain).toHaveLength(3);
    expect(new X509Certificate(chain[1]!).fingerprint256).toBe(authority.certificate.fingerprint256);
    const sanCritical = Buffer.from('0603551d110101ff', 'hex');
    expect(leaf.raw.includes(sanCritical)).toBe(true);
  });

  test('the last element holds all roots, each once', async () => {
    const other = new X509Certificate(
      (await makeFederationCa({ clusterset: 's', member: 'west', ttlS: 1e6, nowMs }, random)).cert,
    );
    const serve = service({ moreRoots: () => [other, ...authority.roots, other] });
    const { chain } = (await ask(serve, caller)) as { chain: string[] };
    const roots = chain.at(-1)!.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g)!;
    expect(roots.map((pem) => new X509Certificate(pem).fingerprint256)).toEqual([
      ...authority.roots.map((root) => root.fingerprint256),
      other.fingerprint256,
    ]);
  });

  test('the life is what was wished, at most what is allowed, and ends before the CA does', async () => {
    const life = async (validityS: number, options: Partial<CertificateServiceOptions> = {}) => {
      const { leaf } = (await ask(service(options), caller, { validityS })) as { leaf: X509Certificate };
      return (leaf.validToDate.getTime() - nowMs) / 1_000;
    };
    expect(await life(600)).toBe(600);
    expect(await life(0)).toBe(3_600);
    expect(await life(1e9)).toBe(3_600);
    // Who asked together does not renew together.
    expect([await life(0, { rng: () => 0 }), await life(0, { rng: () => 0.5 })]).toEqual([3_600, 3_420]);
    expect(await life(600, { rng: () => 0.999 })).toBe(600);
    expect(await life(1e9, { ttlMaxS: 1e9 })).toBe(limits.certificateTtlMaxS);
    const short = (await newAuthority(1_000)).authority;
    expect(await life(0, { authority: () => short })).toBe(1_000);
    const late = { monotonicMs: () => 0, wallMs: () => nowMs + 2_000_000, after: () => ({ cancel: () => {} }) };
    expect(await ask(service({ authority: () => short, clock: late }), caller)).toMatchObject({
      code: 'trust/invalid',
    });
  });

  test('serial numbers are positive, long and never the same', async () => {
    const serve = service();
    const serials = new Set<string>();
    for (let i = 0; i < 10; i++) {
      const { leaf } = (await ask(serve, { ...caller, pod: { name: 'c', uid: `u${i}` } })) as { leaf: X509Certificate };
      expect(leaf.serialNumber).toMatch(/^[4-7][0-9A-F]{31}$/);
      serials.add(leaf.serialNumber);
    }
    expect(serials.size).toBe(10);
  });
});

describe('who gets which identity', () => {
  test('a pod its own, whatever it asks for', async () => {
    const serve = service();
    expect(await ask(serve, caller)).toMatchObject({ leaf: { subjectAltName: `URI:${own}` } });
    expect(await ask(serve, caller, { impersonatedIdentity: own })).toMatchObject({
      leaf: { subjectAltName: `URI:${own}` },
    });
    const others = 'spiffe://cluster.local/ns/shop/sa/admin';
    expect(await ask(serve, caller, { impersonatedIdentity: others })).toMatchObject({ code: 'csr/denied' });
    expect(await ask(serve, caller, { csr: await makeCsr([others]) })).toMatchObject({ code: 'csr/denied' });
    expect(
      await ask(serve, caller, { csr: await makeCsr(['spiffe://other.domain/ns/shop/sa/checkout']) }),
    ).toMatchObject({ code: 'csr/denied' });
  });

  test('a shared ztunnel that of a pod on its node, and no other', async () => {
    const serve = service();
    const as = (impersonatedIdentity: string, who = shared) => ask(serve, who, { impersonatedIdentity });
    expect(await as(own)).toMatchObject({ leaf: { subjectAltName: `URI:${own}` } });
    expect(await as('spiffe://cluster.local/ns/shop/sa/admin')).toMatchObject({
      code: 'csr/denied',
      message: /no pod of shop\/admin/,
    });
    expect(await as(own, { ...shared, node: 'n2' })).toMatchObject({ code: 'csr/denied' });
    expect(await as(own, { ...shared, node: undefined })).toMatchObject({ code: 'csr/denied' });
    expect(await as(own.replace('cluster.local', 'other.domain'))).toMatchObject({ code: 'csr/denied' });
    for (const odd of [
      '',
      'spiffe://',
      `${own}/`,
      `${own}/../admin`,
      'spiffe://cluster.local/ns//sa/',
      'x'.repeat(5_000),
    ]) {
      expect(await as(odd)).toMatchObject({ code: 'csr/denied' });
    }
    expect(
      await ask(serve, shared, { impersonatedIdentity: own, csr: await makeCsr([own.replace('checkout', 'admin')]) }),
    ).toMatchObject({ code: 'csr/denied' });
    const named = service({ sharedZtunnel: { namespace: 'kube-system', serviceAccount: 'ztunnel' } });
    expect(await ask(named, shared, { impersonatedIdentity: own })).toMatchObject({ code: 'csr/denied' });
  });
});

describe('a flood', () => {
  test('costs the one who makes it, and nobody else', async () => {
    const serve = service();
    let refused = 0;
    for (let i = 0; i < limits.certificatesPerCallerBurst + 5; i++) {
      if ('code' in (await ask(serve, caller, { csr: 'garbage' }))) refused++;
    }
    expect(refused).toBe(limits.certificatesPerCallerBurst + 5);
    expect(await ask(serve, caller)).toMatchObject({ code: 'csr/rate' });
    expect(await ask(serve, { ...caller, pod: { name: 'c-2', uid: 'other' } })).toMatchObject({ leaf: {} });
    monotonicMs += 60_000;
    expect(await ask(serve, caller)).toMatchObject({ leaf: {} });
  });
});
