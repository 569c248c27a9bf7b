import { X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { identityOf, trustDomainOf } from '../../../src/hbone/identity.ts';
import { createPki, type Pki } from './pki.ts';

const good = 'spiffe://cluster.local/ns/shop/sa/checkout';

describe('the identity in a certificate', () => {
  let pki: Pki;
  const read = async (uris: string[], dns: string[] = []) =>
    identityOf(new X509Certificate((await pki.issue(uris, { dns })).certificatePem));
  beforeAll(async () => {
    pki = await createPki();
  });

  test('is its one URI name', async () => {
    expect(await read([good])).toEqual({ ok: true, value: good });
    expect(await read([good], ['checkout.shop'])).toEqual({ ok: true, value: good });
  });

  test.each([
    [[], []],
    [[], ['checkout.shop']],
    [[good, good], []],
    [[good, 'spiffe://cluster.local/ns/shop/sa/other'], []],
    [['https://cluster.local/ns/shop/sa/checkout'], []],
    [['spiffe://cluster.local'], []],
    [['spiffe://cluster.local/'], []],
    [['spiffe:///ns/shop'], []],
    [['spiffe://cluster.local/ns//sa'], []],
    [['spiffe://cluster.local/ns/shop/sa/checkout?x=1'], []],
    [['spiffe://Cluster.Local/ns/shop/sa/checkout'], []],
    [['spiffe://cluster.local:443/ns/shop'], []],
    // A name of another kind that only looks like a URI name once it is printed.
    [[], [`a, URI:${good}`]],
    [['spiffe://cluster.local/ns/shop/sa/a, URI:spiffe://cluster.local/ns/shop/sa/b'], []],
  ])('refuses %j with host names %j', async (uris, dns) => {
    const result = await read(uris, dns);
    expect(result).toMatchObject({ ok: false, error: { code: 'path/identity' } });
  });

  test('no certificate has none', () => {
    expect(identityOf(undefined)).toMatchObject({ ok: false, error: { code: 'path/identity' } });
  });

  test('starts with its trust domain', () => expect(trustDomainOf(good)).toBe('cluster.local'));
});
