/**
 * Making one certificate. Whatever is made is verified by OpenSSL against its issuer before it leaves: the encoder here and
 * the verifiers of the mesh are different code, and the rare disagreement between them must not reach a workload.
 */
import 'reflect-metadata';
import { createPublicKey, generateKeyPairSync, type KeyObject, webcrypto, X509Certificate } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  X509Certificate as ParsedCertificate,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { IsthmusError } from '../core/errors.ts';
import type { SigningKey } from './authority.ts';

/** `bytes` random bytes. */
export type RandomBytes = (bytes: number) => Uint8Array;

/** Who signs. Without a certificate the new one signs itself. */
export interface Issuer {
  readonly certificate: X509Certificate | undefined;
  readonly signing: SigningKey;
}

export interface Draft {
  /** Empty: an empty subject, the names are in the critical subject alternative name. */
  readonly commonName: string;
  readonly organization?: string;
  readonly uris?: readonly string[];
  readonly dns?: readonly string[];
  readonly ips?: readonly string[];
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array<ArrayBuffer>;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** CAs below it that it may have; undefined for an end entity. */
  readonly caPathLength?: number;
  readonly usages?: readonly ('server' | 'client')[];
}

const crypto = webcrypto as webcrypto.Crypto;
const serialBytes = 16;

/** 127 random bits, positive, never short. */
const serialOf = (random: RandomBytes): string => {
  const bytes = Buffer.from(random(serialBytes));
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString('hex');
};

const leafExtensions = (draft: Draft): Extension[] => {
  const names: JsonGeneralNames = [
    ...(draft.uris ?? []).map((value) => ({ type: 'url' as const, value })),
    ...(draft.dns ?? []).map((value) => ({ type: 'dns' as const, value })),
    ...(draft.ips ?? []).map((value) => ({ type: 'ip' as const, value })),
  ];
  const usages = (draft.usages ?? ['server', 'client']).map((usage) =>
    usage === 'server' ? ExtendedKeyUsage.serverAuth : ExtendedKeyUsage.clientAuth,
  );
  return [
    new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
    new ExtendedKeyUsageExtension(usages),
    new BasicConstraintsExtension(false, undefined, true),
    new SubjectAlternativeNameExtension(names, draft.commonName === ''),
  ];
};

const caExtensions = async (draft: Draft): Promise<Extension[]> => [
  new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
  new BasicConstraintsExtension(true, draft.caPathLength, true),
  await SubjectKeyIdentifierExtension.create(draft.publicKey, false, crypto),
];

/** The issuer's name exactly as it is written in its certificate: some verifiers compare bytes. */
const issuerParts = (issuer: X509Certificate): { readonly name: Name; readonly extensions: readonly Extension[] } => {
  const parsed = new ParsedCertificate(new Uint8Array(issuer.raw));
  const keyId = parsed.getExtension(SubjectKeyIdentifierExtension)?.keyId;
  return {
    name: parsed.subjectName,
    extensions: keyId === undefined ? [] : [new AuthorityKeyIdentifierExtension(keyId, false)],
  };
};

const subjectOf = (draft: Draft): Name | undefined => {
  if (draft.commonName === '') return undefined;
  const parts = [
    ...(draft.organization === undefined ? [] : [{ O: [draft.organization] }]),
    { CN: [draft.commonName] },
  ];
  return new Name(parts);
};

/** @throws Error when OpenSSL does not accept the result twice in a row: a bug. */
export const mint = async (issuer: Issuer, draft: Draft, random: RandomBytes): Promise<X509Certificate> => {
  const subject = subjectOf(draft);
  const parts = issuer.certificate === undefined ? undefined : issuerParts(issuer.certificate);
  const extensions = draft.caPathLength === undefined ? leafExtensions(draft) : await caExtensions(draft);
  for (let attempt = 0; attempt < 2; attempt++) {
    const made = await X509CertificateGenerator.create(
      {
        serialNumber: serialOf(random),
        ...(subject === undefined ? {} : { subject }),
        ...((parts?.name ?? subject) === undefined ? {} : { issuer: (parts?.name ?? subject)! }),
        notBefore: new Date(draft.notBeforeMs),
        notAfter: new Date(draft.notAfterMs),
        publicKey: draft.publicKey,
        signingKey: issuer.signing.key,
        signingAlgorithm: issuer.signing.algorithm,
        extensions: [...extensions, ...(parts?.extensions ?? [])],
      },
      crypto,
    );
    const certificate = new X509Certificate(Buffer.from(made.rawData));
    const verifier = issuer.certificate?.publicKey ?? certificate.publicKey;
    if (certificate.verify(verifier) && certificate.checkIssued(issuer.certificate ?? certificate)) return certificate;
  }
  throw new Error('ca: OpenSSL does not accept what was signed');
};

/** Whole seconds, as certificates have them, the end never later than `untilMs`. */
export const validity = (
  nowMs: number,
  ttlS: number,
  within: { readonly notBeforeMs: number; readonly notAfterMs: number },
  backdateS = 60,
): { readonly notBeforeMs: number; readonly notAfterMs: number } => {
  const second = (ms: number): number => Math.floor(ms / 1_000) * 1_000;
  const notAfterMs = second(Math.min(nowMs + ttlS * 1_000, within.notAfterMs));
  if (notAfterMs <= nowMs) {
    throw new IsthmusError('trust/invalid', `the issuing CA ended on ${new Date(within.notAfterMs).toISOString()}`, {
      hint: 'install a new intermediate',
    });
  }
  return { notBeforeMs: second(Math.max(nowMs - backdateS * 1_000, within.notBeforeMs)), notAfterMs };
};

export interface KeyPair {
  readonly key: KeyObject;
  /** PKCS#8, PEM. */
  readonly keyPem: string;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array<ArrayBuffer>;
}

export const newP256 = (): KeyPair => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  return {
    key: privateKey,
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    publicKey: new Uint8Array(createPublicKey(privateKey).export({ type: 'spki', format: 'der' })),
  };
};
