/**
 * Certificate revocation lists: of a CA's certificates, those that are no longer good.
 *
 * A list replaces the one before it, so it is made from everything that was ever revoked under a CA: the old list is read, and what is
 * on it stays on it.
 */
import 'reflect-metadata';
import { type KeyObject, webcrypto, type X509Certificate } from 'node:crypto';
import {
  AuthorityKeyIdentifierExtension,
  Extension,
  X509Certificate as ParsedCertificate,
  SubjectKeyIdentifierExtension,
  X509Crl,
  X509CrlGenerator,
  X509CrlReason,
} from '@peculiar/x509';
import { IsthmusError } from '../core/errors.ts';
import { signingKeyOf } from './authority.ts';
import { certificatesOf, privateKeyOf } from './pem.ts';

const crypto = webcrypto as webcrypto.Crypto;

export interface Revoked {
  /** Hexadecimal. */
  readonly serial: string;
  readonly atMs: number;
}

/** Equal numbers, however they are written. */
const plain = (serial: string): string => serial.toLowerCase().replace(/^0+/, '');
const even = (serial: string): string => {
  const text = plain(serial);
  const padded = text.length % 2 === 0 ? text : `0${text}`;
  // A first bit of one would make the number negative.
  return /^[89a-f]/.test(padded) ? `00${padded}` : padded;
};

/** What a list names: PEM as text, or DER. @throws IsthmusError trust/invalid */
export const readCrl = (list: string | Uint8Array, what: string): readonly Revoked[] => {
  try {
    const crl = new X509Crl(typeof list === 'string' ? list : new Uint8Array(list));
    return crl.entries.map((entry) => ({ serial: plain(entry.serialNumber), atMs: entry.revocationDate.getTime() }));
  } catch (cause) {
    throw new IsthmusError('trust/invalid', `${what}: not a certificate revocation list`, {
      hint: 'it must be PEM (-----BEGIN X509 CRL-----); move it away to start a new one',
      cause,
    });
  }
};

/** The library's own form has another label, which OpenSSL does not know. */
const pemOf = (der: Uint8Array): string => {
  const lines = Buffer.from(der)
    .toString('base64')
    .match(/.{1,64}/g)!;
  return `-----BEGIN X509 CRL-----\n${lines.join('\n')}\n-----END X509 CRL-----\n`;
};

const crlNumber = '2.5.29.20';
/** A list that is newer has a higher number: the milliseconds since 1970, as a DER integer. */
const numberOf = (ms: number): Uint8Array<ArrayBuffer> => {
  let hex = Math.floor(ms).toString(16);
  if (hex.length % 2 !== 0) hex = `0${hex}`;
  if (/^[89a-f]/.test(hex)) hex = `00${hex}`;
  const value = Buffer.from(hex, 'hex');
  return new Uint8Array([0x02, value.length, ...value]);
};

export interface CrlInput {
  /** PEM. */
  readonly ca: { readonly cert: string; readonly key: string };
  readonly revoked: readonly Revoked[];
  /** The list that stands: PEM as text, or DER; undefined: none. */
  readonly before: string | Uint8Array | undefined;
  readonly nowMs: number;
  readonly ttlS: number;
  readonly what: string;
}

const mayRevoke = (certificate: X509Certificate, key: KeyObject, what: string): void => {
  if (certificate.checkPrivateKey(key)) return;
  throw new IsthmusError('trust/invalid', `${what}: the key is not the key of its certificate`);
};

export interface Crl {
  readonly pem: string;
  /** etcd reads no other form. */
  readonly der: Uint8Array;
}

/** @throws IsthmusError trust/invalid */
export const makeCrl = async (input: CrlInput): Promise<Crl> => {
  const certificate = certificatesOf(input.ca.cert, input.what)[0]!;
  const key = privateKeyOf(input.ca.key, `${input.what} key`);
  mayRevoke(certificate, key, input.what);
  const entries = new Map<string, Revoked>();
  const before = input.before === undefined ? [] : readCrl(input.before, input.what);
  for (const one of [...before, ...input.revoked])
    if (!entries.has(plain(one.serial))) entries.set(plain(one.serial), one);
  const signing = signingKeyOf(key, `${input.what} key`);
  const parsed = new ParsedCertificate(new Uint8Array(certificate.raw));
  const keyId = parsed.getExtension(SubjectKeyIdentifierExtension)?.keyId;
  const second = (ms: number): Date => new Date(Math.floor(ms / 1_000) * 1_000);
  const crl = await X509CrlGenerator.create(
    {
      issuer: parsed.subjectName,
      thisUpdate: second(input.nowMs - 60_000),
      nextUpdate: second(input.nowMs + input.ttlS * 1_000),
      signingKey: signing.key,
      signingAlgorithm: signing.algorithm,
      entries: [...entries.values()].map(({ serial, atMs }) => ({
        serialNumber: even(serial),
        revocationDate: second(atMs),
        reason: X509CrlReason.cessationOfOperation,
      })),
      extensions: [
        new Extension(crlNumber, false, numberOf(input.nowMs)),
        ...(keyId === undefined ? [] : [new AuthorityKeyIdentifierExtension(keyId, false)]),
      ],
    },
    crypto,
  );
  const der = new Uint8Array(crl.rawData);
  return { pem: pemOf(der), der };
};
