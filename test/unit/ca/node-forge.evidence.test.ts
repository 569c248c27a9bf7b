/**
 * Evidence for docs/adr/0004-x509.md: node-forge cannot do what the mesh needs. When one of these tests fails, node-forge
 * has learned it, and the decision may be looked at again.
 */
import { generateKeyPairSync } from 'node:crypto';
import forge from 'node-forge';
import { expect, test } from 'vitest';
import { makeRequest } from '../../../src/ca/client.ts';
import { newAuthority } from './pki.ts';

const identity = 'spiffe://cluster.local/ns/shop/sa/checkout';

test('node-forge cannot read the request that ztunnel sends', async () => {
  const { csr } = await makeRequest(identity);
  expect(() => forge.pki.certificationRequestFromPem(csr)).toThrow(/Cannot read public key|OID is not RSA/i);
});

test('node-forge cannot read an ECDSA intermediate, which many clusters have', async () => {
  const { cacerts } = await newAuthority();
  expect(() => forge.pki.certificateFromPem(cacerts['ca-cert.pem'])).toThrow(/Cannot read public key|OID is not RSA/i);
  expect(() => forge.pki.privateKeyFromPem(cacerts['ca-key.pem'])).toThrow();
});

test('node-forge cannot sign with a P-256 key', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const certificate = forge.pki.createCertificate();
  const pem = publicKey.export({ type: 'spki', format: 'pem' }) as string;
  expect(() => {
    certificate.publicKey = forge.pki.publicKeyFromPem(pem);
    certificate.sign(forge.pki.privateKeyFromPem(privateKey.export({ type: 'pkcs8', format: 'pem' }) as string));
  }).toThrow();
  expect(Object.keys(forge.pki)).not.toContain('ecdsa');
});
