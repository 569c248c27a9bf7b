/**
 * An etcd client certificate for a key that was made elsewhere and stays there: the request, and what is issued for it. The name in the
 * certificate is the authority's choice; the request contributes a key and the proof that its sender has it.
 */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import { PemConverter, Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { IsthmusError } from '../core/errors.ts';
import { signingKeyOf } from './authority.ts';
import { readRequest } from './csr.ts';
import { mint, type RandomBytes, validity } from './mint.ts';
import { certificatesOf, pemOf, privateKeyOf } from './pem.ts';

const crypto = webcrypto as webcrypto.Crypto;
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** A new key, PKCS#8 PEM, and a request for it, PEM. */
export const newEtcdRequest = async (): Promise<{ readonly request: string; readonly key: string }> => {
  const keys = (await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const request = await Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: algorithm }, crypto);
  const key = PemConverter.encode(await crypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
  return { request: request.toString('pem'), key };
};

export interface IssuedClient {
  /** PEM. */
  readonly cert: string;
  /** Hexadecimal, as on a revocation list. */
  readonly serial: string;
  readonly notAfterMs: number;
}

/** @param ca - PEM of etcd's client CA and its key. @throws IsthmusError csr/…, trust/invalid */
export const issueEtcdClient = async (
  ca: { readonly cert: string; readonly key: string },
  request: string,
  input: { readonly commonName: string; readonly ttlS: number; readonly nowMs: number },
  random: RandomBytes,
): Promise<IssuedClient> => {
  const { publicKey, uri } = readRequest(request);
  if (uri !== undefined) throw new IsthmusError('csr/denied', `certificate request for etcd: it names ${uri}`);
  const certificate = certificatesOf(ca.cert, 'etcd CA')[0]!;
  const key = privateKeyOf(ca.key, 'etcd CA key');
  const within = { notBeforeMs: certificate.validFromDate.getTime(), notAfterMs: certificate.validToDate.getTime() };
  const leaf = await mint(
    { certificate, signing: signingKeyOf(key, 'etcd CA key') },
    {
      commonName: input.commonName,
      dns: [input.commonName],
      publicKey,
      usages: ['client'],
      ...validity(input.nowMs, input.ttlS, within),
    },
    random,
  );
  return { cert: pemOf(leaf), serial: leaf.serialNumber.toLowerCase(), notAfterMs: leaf.validToDate.getTime() };
};
