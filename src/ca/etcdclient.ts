/** Client certificates for etcd: the common name is the etcd user (`--client-cert-auth`). And what is served under the same CA. */
import type { X509Certificate } from 'node:crypto';
import { IsthmusError } from '../core/errors.ts';
import { signingKeyOf } from './authority.ts';
import type { CertificateAndKey } from './federation.ts';
import { type Draft, mint, newP256, type RandomBytes, validity } from './mint.ts';
import { certificatesOf, pemOf, privateKeyOf } from './pem.ts';

/** PEM of etcd's client CA and its key. */
export interface EtcdCa {
  readonly cert: string;
  readonly key: string;
}

/** @throws IsthmusError 'trust/invalid' */
export const checkEtcdCa = (ca: EtcdCa) => {
  const certificate = certificatesOf(ca.cert, 'etcd CA')[0]!;
  const key = privateKeyOf(ca.key, 'etcd CA key');
  if (certificate.checkPrivateKey(key)) return { certificate, key };
  throw new IsthmusError('trust/invalid', 'the etcd CA key is not the key of its certificate', {
    hint: 'check --etcd-ca and --etcd-ca-key; of a store gateway, listen.clientCaFile and issue.caKeyFile',
  });
};

/** @throws IsthmusError 'trust/invalid' */
export const makeEtcdClient = (
  ca: EtcdCa,
  input: { readonly commonName: string; readonly ttlS: number; readonly nowMs: number },
  random: RandomBytes,
): Promise<CertificateAndKey> => make(ca, { ...input, dns: [input.commonName] }, random);

/** For what members reach beside etcd under the same CA: a store gateway. @throws IsthmusError 'trust/invalid' */
export const makeEtcdServing = (
  ca: EtcdCa,
  input: {
    readonly commonName: string;
    readonly dns: readonly string[];
    readonly ips: readonly string[];
    readonly ttlS: number;
    readonly nowMs: number;
  },
  random: RandomBytes,
): Promise<CertificateAndKey> => make(ca, { ...input, usages: ['server'] }, random);

const make = async (
  ca: EtcdCa,
  input: Pick<Draft, 'commonName' | 'dns' | 'ips' | 'usages'> & { readonly ttlS: number; readonly nowMs: number },
  random: RandomBytes,
): Promise<CertificateAndKey> => {
  const { certificate, key } = checkEtcdCa(ca);
  const pair = newP256();
  const within = { notBeforeMs: certificate.validFromDate.getTime(), notAfterMs: certificate.validToDate.getTime() };
  const leaf: X509Certificate = await mint(
    { certificate, signing: signingKeyOf(key, 'etcd CA key') },
    {
      commonName: input.commonName,
      ...(input.dns !== undefined && { dns: input.dns }),
      ...(input.ips !== undefined && { ips: input.ips }),
      ...(input.usages !== undefined && { usages: input.usages }),
      publicKey: pair.publicKey,
      ...validity(input.nowMs, input.ttlS, within),
    },
    random,
  );
  return { cert: pemOf(leaf), key: pair.keyPem, notAfterMs: leaf.validToDate.getTime() };
};
