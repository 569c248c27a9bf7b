/**
 * A certificate request, read as little as possible and believed not at all.
 *
 * What is issued follows from who calls; the request contributes a public key, and proves that its sender has the
 * private one. It may also say which identity it expects, which is compared, never copied. Everything else that it asks for
 * (CA, DNS names, key usages) is a reason to refuse it, for somebody misunderstands or tries something. Sizes are checked on
 * bytes before any parser runs, and the key must be P-256 by a comparison of bytes, so that nobody can make the server
 * verify a signature of a 16k RSA key.
 */
import 'reflect-metadata';
import { createPublicKey, verify } from 'node:crypto';
import { Pkcs10CertificateRequest, SubjectAlternativeNameExtension } from '@peculiar/x509';
import { type ErrorCode, IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';

export interface CheckedRequest {
  /** SubjectPublicKeyInfo of a P-256 key, DER. */
  readonly publicKey: Uint8Array<ArrayBuffer>;
  /** The one URI that the request names, if it names one. */
  readonly uri: string | undefined;
}

const refuse = (code: ErrorCode, message: string, hint?: string, cause?: unknown): IsthmusError =>
  new IsthmusError(code, `certificate request: ${message}`, {
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  });

const pem =
  /^\s*-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----\r?\n?([A-Za-z0-9+/=\r\n]+)-----END (?:NEW )?CERTIFICATE REQUEST-----\s*$/;
/** SubjectPublicKeyInfo of an uncompressed P-256 point, up to the point. */
const p256Prefix = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex');
const p256Length = p256Prefix.length + 64;
const extensionRequest = '1.2.840.113549.1.9.14';
const subjectAlternativeName = '2.5.29.17';
const uriText = /^[\x21-\x7e]+$/;

const derOf = (text: string): Buffer => {
  if (text.length > limits.csrBytesMax) {
    throw refuse('csr/malformed', `${text.length} bytes, ${limits.csrBytesMax} allowed`, 'use a P-256 key');
  }
  const match = pem.exec(text);
  if (match === null) throw refuse('csr/malformed', 'not one PEM block of type CERTIFICATE REQUEST');
  return Buffer.from(match[1]!, 'base64');
};

/** The element at `at`: tag, and where its content begins and ends. Definite, minimal lengths below 64 KiB only. */
const elementAt = (
  der: Buffer,
  at: number,
): { readonly tag: number; readonly start: number; readonly end: number } | undefined => {
  const tag = der[at];
  const first = der[at + 1];
  if (tag === undefined || first === undefined) return undefined;
  const count = first < 0x80 ? 0 : first - 0x80;
  if (count > 2 || (first >= 0x80 && count === 0) || at + 2 + count > der.length) return undefined;
  const length = count === 0 ? first : der.readUIntBE(at + 2, count);
  const minimal = count === 0 || length >= (count === 1 ? 0x80 : 0x100);
  const start = at + 2 + count;
  return minimal && start + length <= der.length ? { tag, start, end: start + length } : undefined;
};

interface Envelope {
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

/**
 * One SEQUENCE that ends where the bytes end, of: what is signed, the algorithm, and a bit string. The general parser is more
 * lenient than that, and two encodings of one request are one too many.
 */
const envelopeOf = (der: Buffer): Envelope | undefined => {
  const whole = elementAt(der, 0);
  if (whole?.tag !== 0x30 || whole.end !== der.length) return undefined;
  const signed = elementAt(der, whole.start);
  const algorithm = signed && elementAt(der, signed.end);
  const signature = algorithm && elementAt(der, algorithm.end);
  if (signed?.tag !== 0x30 || algorithm?.tag !== 0x30 || signature?.tag !== 0x03) return undefined;
  if (signature.end !== der.length || der[signature.start] !== 0) return undefined;
  return { signed: der.subarray(whole.start, signed.end), signature: der.subarray(signature.start + 1) };
};

/** By OpenSSL, which also refuses a point that is not on the curve. */
const isProven = ({ signed, signature }: Envelope, publicKey: Uint8Array): boolean => {
  const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
  return verify('sha256', signed, { key, dsaEncoding: 'der' }, signature);
};

const parse = (der: Uint8Array<ArrayBuffer>): Pkcs10CertificateRequest => {
  try {
    return new Pkcs10CertificateRequest(der);
  } catch (cause) {
    throw refuse('csr/malformed', 'not a PKCS#10 request', undefined, cause);
  }
};

const publicKeyOf = (request: Pkcs10CertificateRequest): Uint8Array<ArrayBuffer> => {
  const spki = new Uint8Array(request.publicKey.rawData);
  if (spki.length !== p256Length || !p256Prefix.equals(spki.subarray(0, p256Prefix.length))) {
    throw refuse('csr/key', 'its key is not an uncompressed P-256 key', 'generate an ECDSA P-256 key');
  }
  // Absent parameters are part of the algorithm (RFC 5758): anything else after the name makes it another one.
  const { name, hash } = request.signatureAlgorithm as { name: string; hash?: { name: string } };
  if (name !== 'ECDSA' || hash?.name !== 'SHA-256') throw refuse('csr/key', 'not signed by ECDSA with SHA-256');
  return spki;
};

const uriOf = (request: Pkcs10CertificateRequest): string | undefined => {
  if (request.attributes.some(({ type }) => type !== extensionRequest) || request.attributes.length > 1) {
    throw refuse('csr/denied', 'asks for more than an extension request');
  }
  if ((request.attributes[0]?.values.length ?? 1) !== 1)
    throw refuse('csr/malformed', 'more than one extension request');
  const other = request.extensions.find(({ type }) => type !== subjectAlternativeName);
  if (other !== undefined) {
    throw refuse(
      'csr/denied',
      `asks for extension ${other.type}`,
      'ask for a subject alternative name only; all else is decided here',
    );
  }
  if (request.extensions.length > 1) throw refuse('csr/denied', 'has two subject alternative name extensions');
  const extension = request.extensions[0];
  if (extension === undefined) return undefined;
  const names = new SubjectAlternativeNameExtension(extension.rawData).names.items;
  const [name] = names;
  if (names.length !== 1 || name === undefined) {
    throw refuse('csr/denied', `names ${names.length} subjects`, 'a workload has one identity');
  }
  if (name.type !== 'url') throw refuse('csr/denied', `names a ${name.type}, not a URI`, 'name the SPIFFE id alone');
  if (!uriText.test(name.value)) throw refuse('csr/malformed', 'its URI is not plain ASCII');
  return name.value;
};

/** @throws IsthmusError `csr/malformed` (unreadable, oversize), `csr/key`, or `csr/denied` (asks for what it may not have). */
export const readRequest = (text: string): CheckedRequest => {
  const der = derOf(text);
  const envelope = envelopeOf(der);
  if (envelope === undefined) throw refuse('csr/malformed', 'not a PKCS#10 request in DER');
  const request = parse(new Uint8Array(der));
  try {
    const publicKey = publicKeyOf(request);
    const uri = uriOf(request);
    if (!isProven(envelope, publicKey)) throw refuse('csr/malformed', 'its signature is not by its own key');
    return { publicKey, uri };
  } catch (error) {
    if (error instanceof IsthmusError) throw error;
    throw refuse('csr/malformed', 'its parts cannot be read', undefined, error);
  }
};
