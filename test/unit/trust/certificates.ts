/** Certificates and members for tests, made once a process: key generation is slow. */
import 'reflect-metadata';
import { generateKeyPairSync, type KeyObject, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { rawPublicKey } from '../../../src/records/signed.ts';
import type { Member } from '../../../src/trust/membership.ts';

const ecdsa = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

export const certificate = async (
  name: string,
  options: { ca?: boolean; algorithm?: { name: string; hash: string; [more: string]: unknown } } = {},
): Promise<Uint8Array> => {
  const algorithm = options.algorithm ?? ecdsa;
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const made = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: `CN=${name}`,
    notBefore: new Date('2025-01-01'),
    notAfter: new Date('2045-01-01'),
    keys,
    signingAlgorithm: algorithm,
    extensions: [new x509.BasicConstraintsExtension(options.ca ?? true, undefined, true)],
  });
  return new Uint8Array(made.rawData);
};

export const rsa = (bits: number) => ({
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  modulusLength: bits,
  publicExponent: Uint8Array.of(1, 0, 1),
});

export interface TestMember {
  readonly member: Member;
  readonly recordKey: KeyObject;
}

export const authority = generateKeyPairSync('ed25519');

export const testMember = async (name: string, change: Partial<Member> = {}): Promise<TestMember> => {
  const keys = generateKeyPairSync('ed25519');
  const member: Member = {
    clusterset: 'demo',
    name,
    sequence: 1n,
    region: name,
    zone: '',
    network: name,
    addressRanges: ['10.0.0.0/8'],
    namespaces: ['*'],
    serviceAccounts: [],
    federationCa: await certificate(`ca of ${name}`),
    recordKey: rawPublicKey(keys.publicKey),
    notBeforeMs: 1_000,
    notAfterMs: 1_000_000_000,
    ...change,
  };
  return { member, recordKey: keys.privateKey };
};
