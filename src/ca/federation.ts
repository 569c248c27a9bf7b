/**
 * A member's federation CA, and the certificates by which its gateways know those of other members. Apart from the mesh's
 * CA on purpose: what one of them signs means nothing to whoever trusts the other.
 */
import type { X509Certificate } from 'node:crypto';
import { IsthmusError } from '../core/errors.ts';
import { memberId } from '../trust/spiffe.ts';
import { signingKeyOf } from './authority.ts';
import { mint, newP256, type RandomBytes, validity } from './mint.ts';
import { certificatesOf, pemOf, privateKeyOf } from './pem.ts';

/** PEM: a certificate and its PKCS#8 key. */
export interface CertificateAndKey {
  readonly cert: string;
  readonly key: string;
  readonly notAfterMs: number;
}

export interface FederationCaInput {
  readonly clusterset: string;
  readonly member: string;
  readonly ttlS: number;
  readonly nowMs: number;
}

/**
 * @param number - of one that follows another: it is part of the name. Of two CAs of one name OpenSSL's kin look at the first alone when
 * certificates do not say by which key they were issued.
 */
export const makeFederationCa = async (
  input: FederationCaInput & { readonly number?: number },
  random: RandomBytes,
): Promise<CertificateAndKey> => {
  const pair = newP256();
  const certificate = await mint(
    { certificate: undefined, signing: signingKeyOf(pair.key, 'federation CA') },
    {
      commonName: `${input.member} federation CA${input.number === undefined ? '' : ` ${input.number}`}`,
      organization: input.clusterset,
      publicKey: pair.publicKey,
      caPathLength: 0,
      ...validity(input.nowMs, input.ttlS, { notBeforeMs: 0, notAfterMs: Number.POSITIVE_INFINITY }),
    },
    random,
  );
  return { cert: pemOf(certificate), key: pair.keyPem, notAfterMs: certificate.validToDate.getTime() };
};

export interface FederationCa {
  readonly certificate: X509Certificate;
  /** PEM, PKCS#8. */
  readonly keyPem: string;
}

/** @throws IsthmusError 'trust/invalid'. `what` says where they come from. */
export const parseFederationCa = (cert: string, key: string, what: string): FederationCa => {
  const certificate = certificatesOf(cert, `${what} certificate`)[0]!;
  const privateKey = privateKeyOf(key, `${what} key`);
  if (!certificate.ca) throw new IsthmusError('trust/invalid', `${what} certificate is not a CA`);
  if (!certificate.checkPrivateKey(privateKey)) {
    throw new IsthmusError('trust/invalid', `${what} key is not the key of its certificate`);
  }
  return { certificate, keyPem: key };
};

/** A gateway's federation certificate: `spiffe://<clusterset>/cluster/<member>`. @throws IsthmusError 'trust/invalid'. */
export const issueFederationCertificate = async (
  ca: FederationCa,
  input: FederationCaInput,
  random: RandomBytes,
): Promise<CertificateAndKey> => {
  const pair = newP256();
  const signing = signingKeyOf(privateKeyOf(ca.keyPem, 'federation CA key'), 'federation CA key');
  const within = {
    notBeforeMs: ca.certificate.validFromDate.getTime(),
    notAfterMs: ca.certificate.validToDate.getTime(),
  };
  const certificate = await mint(
    { certificate: ca.certificate, signing },
    {
      commonName: '',
      uris: [memberId(input.clusterset, input.member)],
      publicKey: pair.publicKey,
      ...validity(input.nowMs, input.ttlS, within),
    },
    random,
  );
  return { cert: pemOf(certificate), key: pair.keyPem, notAfterMs: certificate.validToDate.getTime() };
};
