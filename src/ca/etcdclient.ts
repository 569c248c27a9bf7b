/** Client certificates for etcd: the common name is the etcd user (`--client-cert-auth`). */
import type { X509Certificate } from 'node:crypto';
import { IsthmusError } from '../core/errors.ts';
import { signingKeyOf } from './authority.ts';
import type { CertificateAndKey } from './federation.ts';
import { mint, newP256, type RandomBytes, validity } from './mint.ts';
import { certificatesOf, pemOf, privateKeyOf } from './pem.ts';

/** @param ca - PEM of etcd's client CA and its key. @throws IsthmusError 'trust/invalid' */
export const makeEtcdClient = async (
  ca: { readonly cert: string; readonly key: string },
  input: { readonly commonName: string; readonly ttlS: number; readonly nowMs: number },
  random: RandomBytes,
): Promise<CertificateAndKey> => {
  const certificate = certificatesOf(ca.cert, 'etcd CA')[0]!;
  const key = privateKeyOf(ca.key, 'etcd CA key');
  if (!certificate.checkPrivateKey(key)) {
    throw new IsthmusError('trust/invalid', 'the etcd CA key is not the key of its certificate', {
      hint: 'check --etcd-ca and --etcd-ca-key',
    });
  }
  const pair = newP256();
  const within = { notBeforeMs: certificate.validFromDate.getTime(), notAfterMs: certificate.validToDate.getTime() };
  const leaf: X509Certificate = await mint(
    { certificate, signing: signingKeyOf(key, 'etcd CA key') },
    {
      commonName: input.commonName,
      dns: [input.commonName],
      publicKey: pair.publicKey,
      ...validity(input.nowMs, input.ttlS, within),
    },
    random,
  );
  return { cert: pemOf(leaf), key: pair.keyPem, notAfterMs: leaf.validToDate.getTime() };
};
