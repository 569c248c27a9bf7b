/** Certificate requests, honest and otherwise. */
import 'reflect-metadata';
import { createHash, generateKeyPairSync, webcrypto as webCrypto, type webcrypto } from 'node:crypto';
import { CertificationRequest } from '@peculiar/asn1-csr';
import { AsnConvert } from '@peculiar/asn1-schema';
import {
  type Attribute,
  type Extension,
  type JsonGeneralNames,
  PemConverter,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
} from '@peculiar/x509';

const crypto = webCrypto as webcrypto.Crypto;

export interface Oddities {
  readonly subject?: string;
  readonly names?: JsonGeneralNames;
  readonly extensions?: readonly Extension[];
  readonly attributes?: readonly Attribute[];
  readonly algorithm?: webcrypto.EcKeyGenParams & { hash: string };
}

const p256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

export const makeCsr = async (uris: readonly string[], odd: Oddities = {}): Promise<string> => {
  const algorithm = odd.algorithm ?? p256;
  const keys = (await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const names = [...uris.map((value) => ({ type: 'url' as const, value })), ...(odd.names ?? [])];
  const request = await Pkcs10CertificateRequestGenerator.create(
    {
      ...(odd.subject === undefined ? {} : { name: odd.subject }),
      keys,
      signingAlgorithm: algorithm,
      extensions: [
        ...(names.length === 0 ? [] : [new SubjectAlternativeNameExtension(names)]),
        ...(odd.extensions ?? []),
      ],
      attributes: [...(odd.attributes ?? [])],
    },
    crypto,
  );
  return request.toString('pem');
};

export const makeRsaCsr = async (bits: number): Promise<string> => {
  const algorithm = {
    name: 'RSASSA-PKCS1-v1_5',
    hash: 'SHA-256',
    modulusLength: bits,
    publicExponent: new Uint8Array([1, 0, 1]),
  };
  const keys = (await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const request = await Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: algorithm }, crypto);
  return request.toString('pem');
};

export const derOf = (pem: string): Uint8Array => new Uint8Array(PemConverter.decodeFirst(pem));
export const pemOf = (der: Uint8Array): string => PemConverter.encode(new Uint8Array(der), 'CERTIFICATE REQUEST');

/** The request with something changed inside, its signature left as it was. */
export const tamper = (pem: string, change: (request: CertificationRequest) => void): string => {
  const request = AsnConvert.parse(derOf(pem), CertificationRequest);
  change(request);
  return pemOf(new Uint8Array(AsnConvert.serialize(request)));
};

/** A public key of that many bits that nobody has the private half of: making a real one takes minutes. */
export const hugeRsaKey = (bits: number): ArrayBuffer => {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const modulus = Buffer.alloc(bits / 8, createHash('sha512').update('modulus').digest());
  modulus[0]! |= 0x80;
  const jwk = publicKey.export({ format: 'jwk' });
  const integer = (bytes: Buffer): Buffer =>
    tlv(0x02, bytes[0]! >= 0x80 ? Buffer.concat([Buffer.from([0]), bytes]) : bytes);
  const key = tlv(0x30, Buffer.concat([integer(modulus), integer(Buffer.from(jwk.e!, 'base64url'))]));
  return new Uint8Array(key).buffer;
};

const tlv = (tag: number, content: Buffer): Buffer => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length, 0);
  return Buffer.concat([Buffer.from([tag, 0x84]), length, content]);
};
