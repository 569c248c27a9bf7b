/** A throw-away CA and P-256 certificates for tests, as PEM. */
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const crypto = webcrypto;

export interface Issued {
  /** PEM: the certificate, without its CA. */
  readonly cert: Buffer;
  /** PEM, PKCS#8. */
  readonly key: Buffer;
}

export interface Subject {
  readonly commonName: string;
  readonly dns?: readonly string[];
  readonly ips?: readonly string[];
  readonly uris?: readonly string[];
  /** Relative to now. Default: from an hour ago to a day from now. */
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
}

export interface TestCa {
  /** PEM. */
  readonly cert: Buffer;
  /** PEM, PKCS#8: for those who issue certificates of their own. */
  readonly key: Buffer;
  issue(subject: Subject): Promise<Issued>;
}

const newKeys = (): Promise<webcrypto.CryptoKeyPair> =>
  crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']) as Promise<webcrypto.CryptoKeyPair>;

const serial = (): string => `00${randomBytes(12).toString('hex')}`;

const hourMs = 3_600_000;

export const newTestCa = async (commonName = 'test CA'): Promise<TestCa> => {
  const keys = await newKeys();
  const ca = await X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serial(),
      name: `CN=${commonName}`,
      notBefore: new Date(Date.now() - hourMs),
      notAfter: new Date(Date.now() + 24 * hourMs),
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        new BasicConstraintsExtension(true, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      ],
    },
    crypto,
  );
  const issue = async (subject: Subject): Promise<Issued> => {
    const own = await newKeys();
    const names: JsonGeneralNames = [
      ...(subject.dns ?? []).map((value) => ({ type: 'dns' as const, value })),
      ...(subject.ips ?? []).map((value) => ({ type: 'ip' as const, value })),
      ...(subject.uris ?? []).map((value) => ({ type: 'url' as const, value })),
    ];
    const cert = await X509CertificateGenerator.create(
      {
        serialNumber: serial(),
        subject: [{ CN: [subject.commonName] }],
        issuer: ca.subject,
        notBefore: new Date(Date.now() + (subject.notBeforeMs ?? -hourMs)),
        notAfter: new Date(Date.now() + (subject.notAfterMs ?? 24 * hourMs)),
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: algorithm,
        extensions: [
          new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
          new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
          ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names)]),
        ],
      },
      crypto,
    );
    const pkcs8 = await crypto.subtle.exportKey('pkcs8', own.privateKey);
    return { cert: Buffer.from(cert.toString('pem')), key: Buffer.from(PemConverter.encode(pkcs8, 'PRIVATE KEY')) };
  };
  const caKey = await crypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { cert: Buffer.from(ca.toString('pem')), key: Buffer.from(PemConverter.encode(caKey, 'PRIVATE KEY')), issue };
};
