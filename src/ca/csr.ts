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
import { webcrypto as webCrypto, type webcrypto } from 'node:crypto';
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

const derOf = (text: string): Uint8Array<ArrayBuffer> => {
  if (text.length > limits.csrBytesMax) {
    throw refuse('csr/malformed', `${text.length} bytes, ${limits.csrBytesMax} allowed`, 'use a P-256 key');
  }
  const match = pem.exec(text);
  if (match === null) throw refuse('csr/malformed', 'not one PEM block of type CERTIFICATE REQUEST');
  const der = Buffer.from(match[1]!, 'base64');
  if (!isOneSequence(der)) throw refuse('csr/malformed', 'not one DER sequence');
  return new Uint8Array(der);
};

/** One SEQUENCE with a definite, minimal length that ends where the bytes end. */
const isOneSequence = (der: Buffer): boolean => {
  if (der.length < 2 || der[0] !== 0x30) return false;
  const first = der[1]!;
  if (first < 0x80) return der.length === 2 + first;
  const count = first - 0x80;
  if (count < 1 || count > 2 || der.length < 2 + count) return false;
  const length = der.readUIntBE(2, count);
  return length >= (count === 1 ? 0x80 : 0x100) && der.length === 2 + count + length;
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
export const readRequest = async (text: string): Promise<CheckedRequest> => {
  const request = parse(derOf(text));
  let publicKey: Uint8Array<ArrayBuffer>;
  let uri: string | undefined;
  let proven: boolean;
  try {
    publicKey = publicKeyOf(request);
    uri = uriOf(request);
    proven = await request.verify(webCrypto as webcrypto.Crypto);
  } catch (error) {
    if (error instanceof IsthmusError) throw error;
    throw refuse('csr/malformed', 'its parts cannot be read', undefined, error);
  }
  if (!proven) throw refuse('csr/malformed', 'its signature is not by its own key');
  return { publicKey, uri };
};
