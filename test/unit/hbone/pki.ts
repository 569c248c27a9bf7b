/** A throw-away certificate authority for tests: P-256, issued in memory. */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { Credentials } from '../../../src/hbone/credentials.ts';

type CryptoKey = webcrypto.CryptoKey;
x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[1]);
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const generate = () =>
  webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']) as Promise<webcrypto.CryptoKeyPair>;

export interface Issued {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** A CA under the root: whose workloads a list can put out together. */
export interface Intermediate {
  readonly certificatePem: string;
  sign(publicKey: x509.PublicKey, identity: string, ttlMs: number): Promise<string>;
}

export interface Pki {
  readonly rootPem: string;
  readonly rootKeyPem: string;
  intermediate(name: string): Promise<Intermediate>;
  /** A leaf with these URI names (and host names, if any). */
  issue(uris: readonly string[], options?: { dns?: readonly string[]; expired?: boolean }): Promise<Issued>;
  credentials(identity: string, roots?: string): Promise<Credentials>;
  /** Signs a request for this identity: a PEM leaf. */
  sign(publicKey: x509.PublicKey, identity: string, ttlMs: number): Promise<string>;
}

const pemKey = async (key: CryptoKey): Promise<string> =>
  x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');

export async function createPki(name = 'root'): Promise<Pki> {
  const keys = await generate();
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    signingAlgorithm: algorithm,
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 86_400_000),
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  });
  const leaf = async (
    publicKey: x509.PublicKey | CryptoKey,
    names: x509.JsonGeneralName[],
    notAfterMs: number,
    by: { readonly subject: string; readonly key: CryptoKey } = { subject: root.subject, key: keys.privateKey },
  ) => {
    const certificate = await x509.X509CertificateGenerator.create({
      subject: '',
      issuer: by.subject,
      publicKey: publicKey as x509.PublicKey,
      signingKey: by.key,
      signingAlgorithm: algorithm,
      notBefore: new Date(Date.now() - 60_000),
      notAfter: new Date(notAfterMs),
      extensions: [
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
        ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names, true)]),
      ],
    });
    return certificate.toString('pem');
  };
  const pki: Pki = {
    rootPem: `${root.toString('pem')}\n`,
    rootKeyPem: await pemKey(keys.privateKey),
    async intermediate(under) {
      const own = await generate();
      const certificate = await x509.X509CertificateGenerator.create({
        subject: `CN=${under}`,
        issuer: root.subject,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        notBefore: new Date(Date.now() - 3_600_000),
        notAfter: new Date(Date.now() + 86_400_000),
        extensions: [new x509.BasicConstraintsExtension(true, 0, true)],
      });
      const by = { subject: certificate.subject, key: own.privateKey };
      return {
        certificatePem: `${certificate.toString('pem')}\n`,
        sign: (publicKey, identity, ttlMs) =>
          leaf(publicKey, [{ type: 'url', value: identity }], Date.now() + ttlMs, by),
      };
    },
    async issue(uris, options = {}) {
      const own = await generate();
      const names: x509.JsonGeneralName[] = [
        ...uris.map((value) => ({ type: 'url' as const, value })),
        ...(options.dns ?? []).map((value) => ({ type: 'dns' as const, value })),
      ];
      const until = options.expired === true ? Date.now() - 1_000 : Date.now() + 3_600_000;
      return { certificatePem: await leaf(own.publicKey, names, until), keyPem: await pemKey(own.privateKey) };
    },
    async credentials(identity, roots = pki.rootPem) {
      return { ...(await pki.issue([identity])), rootsPem: roots };
    },
    sign: (publicKey, identity, ttlMs) => leaf(publicKey, [{ type: 'url', value: identity }], Date.now() + ttlMs),
  };
  return pki;
}
