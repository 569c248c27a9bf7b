/**
 * A cluster's issuing CA: Istio's `cacerts` layout, as people have it already (RSA or ECDSA, made by whatever tool).
 *
 * Everything that would make a proxy refuse a certificate later is checked when the files are read, against the clock that
 * is passed: a CA that cannot sign, a key of another certificate, a chain that leads to none of the roots. The first
 * element of a chain is the issuing CA; roots are never sent in the middle of a chain, only at its end, all of them.
 */
import 'reflect-metadata';
import { createHash, type KeyObject, type webcrypto, type X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  X509Certificate as ParsedCertificate,
} from '@peculiar/x509';
import { IsthmusError } from '../core/errors.ts';
import { certificatesOf, privateKeyOf, unique } from './pem.ts';

export const cacertsFiles = ['ca-cert.pem', 'ca-key.pem', 'cert-chain.pem', 'root-cert.pem'] as const;
export type CacertsFile = (typeof cacertsFiles)[number];
/** The files by name, PEM. A Kubernetes secret's data, decoded, is of this shape too. */
export type Cacerts = Readonly<Record<CacertsFile, string>>;

export interface Authority {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
  readonly signing: SigningKey;
  /** What comes between a leaf and the roots: the issuing CA first. Empty when it is a root itself. */
  readonly intermediates: readonly X509Certificate[];
  readonly roots: readonly X509Certificate[];
  /** The one of them that its own chain ends in. */
  readonly root: X509Certificate;
  /** When the first certificate of the chain ends; ms since 1970. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface SigningKey {
  readonly key: webcrypto.CryptoKey;
  readonly algorithm: { readonly name: string; readonly hash: string; readonly namedCurve?: string };
}

const depthMax = 5;
const rsaBitsMin = 2048;
const rsaBitsMax = 8192;
const curves: Readonly<Record<string, { readonly namedCurve: string; readonly hash: string }>> = {
  prime256v1: { namedCurve: 'P-256', hash: 'SHA-256' },
  secp384r1: { namedCurve: 'P-384', hash: 'SHA-384' },
};

const invalid = (message: string, hint?: string): IsthmusError =>
  new IsthmusError('trust/invalid', message, hint === undefined ? {} : { hint });

/** The key in the form that signs, in the thread pool. */
export const signingKeyOf = (key: KeyObject, what: string): SigningKey => {
  const details = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === 'rsa') {
    const bits = details.modulusLength ?? 0;
    if (bits < rsaBitsMin || bits > rsaBitsMax) {
      throw invalid(`${what}: an RSA key of ${bits} bits`, `between ${rsaBitsMin} and ${rsaBitsMax} bits are accepted`);
    }
    const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' } as const;
    return { key: key.toCryptoKey(algorithm, false, ['sign']), algorithm };
  }
  const curve = key.asymmetricKeyType === 'ec' ? curves[details.namedCurve ?? ''] : undefined;
  if (curve === undefined) {
    throw invalid(
      `${what}: a key of type ${key.asymmetricKeyType} ${details.namedCurve ?? ''}`,
      'RSA, P-256 and P-384 are accepted',
    );
  }
  const algorithm = { name: 'ECDSA', ...curve } as const;
  return { key: key.toCryptoKey(algorithm, false, ['sign']), algorithm };
};

const checkCa = (certificate: X509Certificate, casBelow: number, what: string, nowMs: number): void => {
  const parsed = new ParsedCertificate(new Uint8Array(certificate.raw));
  const constraints = parsed.getExtension(BasicConstraintsExtension);
  if (!certificate.ca || constraints?.ca !== true)
    throw invalid(`${what}: not a CA (basicConstraints CA:TRUE is missing)`);
  if (constraints.pathLength !== undefined && constraints.pathLength < casBelow) {
    throw invalid(`${what}: may have ${constraints.pathLength} CAs below it, has ${casBelow}`);
  }
  const usages = parsed.getExtension(KeyUsagesExtension);
  if (usages !== null && (usages.usages & KeyUsageFlags.keyCertSign) === 0) {
    throw invalid(`${what}: may not sign certificates (keyUsage lacks keyCertSign)`);
  }
  if (certificate.validToDate.getTime() <= nowMs) throw invalid(`${what}: expired on ${certificate.validTo}`);
  if (certificate.validFromDate.getTime() > nowMs + 60_000) {
    throw invalid(`${what}: valid from ${certificate.validFrom} only`, 'check the clock of this machine');
  }
};

const issued = (issuer: X509Certificate, subject: X509Certificate): boolean =>
  subject.checkIssued(issuer) && subject.verify(issuer.publicKey);

/** From the issuing CA up to, but not including, a root. */
const pathToRoot = (
  ca: X509Certificate,
  pool: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  what: string,
  nowMs: number,
): { readonly path: readonly X509Certificate[]; readonly root: X509Certificate } => {
  const isRoot = (one: X509Certificate) => roots.some((root) => root.fingerprint256 === one.fingerprint256);
  const path: X509Certificate[] = [];
  let at = ca;
  while (!isRoot(at)) {
    if (path.length >= depthMax) throw invalid(`${what}: chain of more than ${depthMax} CAs`);
    checkCa(at, path.length, `${what}, CA ${path.length + 1} of the chain`, nowMs);
    path.push(at);
    const next = [...roots, ...pool].find((other) => !path.includes(other) && issued(other, at));
    if (next === undefined) {
      throw invalid(
        `${what}: no root in root-cert.pem issued "${at.subject.replaceAll('\n', ', ')}", and cert-chain.pem holds nobody who did`,
        'root-cert.pem must hold the root of this intermediate; cert-chain.pem what is between them',
      );
    }
    at = next;
  }
  checkCa(at, path.length, `${what}, root`, nowMs);
  return { path, root: at };
};

/** @throws IsthmusError 'trust/invalid', naming the file and what is wrong with it. `what` says where they come from. */
export const parseAuthority = (files: Cacerts, what: string, nowMs: number): Authority => {
  const of = (file: CacertsFile) => `${what}/${file}`;
  const certificate = certificatesOf(files['ca-cert.pem'], of('ca-cert.pem'))[0]!;
  const key = privateKeyOf(files['ca-key.pem'], of('ca-key.pem'));
  if (!certificate.checkPrivateKey(key)) throw invalid(`${of('ca-key.pem')}: not the key of ca-cert.pem`);
  const signing = signingKeyOf(key, of('ca-key.pem'));
  const roots = unique(certificatesOf(files['root-cert.pem'], of('root-cert.pem')));
  for (const root of roots) if (!root.ca) throw invalid(`${of('root-cert.pem')}: "${root.subject}" is not a CA`);
  const pool = certificatesOf(files['cert-chain.pem'], of('cert-chain.pem'));
  const { path, root } = pathToRoot(certificate, pool, roots, what, nowMs);
  const all = [...path, root];
  return {
    certificate,
    key,
    signing,
    intermediates: path,
    roots,
    root,
    notBeforeMs: Math.max(...all.map((one) => one.validFromDate.getTime())),
    notAfterMs: Math.min(...all.map((one) => one.validToDate.getTime())),
  };
};

/** Reads a directory in the `cacerts` layout. @throws IsthmusError 'trust/invalid' or 'files/invalid'. */
export const loadAuthority = (dir: string, nowMs: number = Date.now()): Authority =>
  parseAuthority(readCacerts(dir), dir, nowMs);

export const readCacerts = (dir: string): Cacerts => {
  const read = (file: CacertsFile): string => {
    try {
      return readFileSync(join(dir, file), 'utf8');
    } catch (cause) {
      const hint = `a cacerts directory holds ${cacertsFiles.join(', ')}`;
      throw new IsthmusError('files/invalid', `${join(dir, file)} cannot be read`, { hint, cause });
    }
  };
  return Object.fromEntries(cacertsFiles.map((file) => [file, read(file)])) as Record<CacertsFile, string>;
};

/** Short and stable, for people to compare. */
export const fingerprint = (certificate: X509Certificate): string =>
  createHash('sha256').update(certificate.raw).digest('hex').slice(0, 16);

/** SHA-256, hexadecimal: as memberships register roots. */
export const fullFingerprint = (certificate: X509Certificate): string =>
  certificate.fingerprint256.replaceAll(':', '').toLowerCase();
