/**
 * Signatures over records: Ed25519 over `isthmus/v1/<kind>\0` and the payload's own bytes.
 *
 * The kind in front separates domains: a signature made for a manifest never passes for a membership. The payload is signed
 * as bytes and decoded afterwards, so that nobody's encoder has to agree with anybody else's.
 */
import { createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import { fail, ok, type Result } from '../core/errors.ts';
import { type Signed, SignedSchema } from '../gen/isthmus/v1/records_pb.ts';
import { decoding, encoded, want } from './fields.ts';
import { WireReader } from './wire.ts';

export type SignedKind =
  | 'manifest'
  | 'write'
  | 'membership'
  | 'policy'
  | 'revocation'
  | 'succession'
  | 'succession-key'
  | 'join-token'
  | 'join-keys'
  | 'join-request'
  | 'join-answer'
  | 'journal-segment'
  | 'journal-seal'
  | 'journal-export'
  | 'journal-end';

const signatureBytes = 64;
/** Tags and lengths around payload and signature. */
const envelopeBytes = 80;

const message = (kind: SignedKind, payload: Uint8Array): Uint8Array =>
  Buffer.concat([Buffer.from(`isthmus/v1/${kind}\0`, 'latin1'), payload]);

const parse = (bytes: Uint8Array, payloadMax: number): Signed => {
  const signed: Signed = {
    $typeName: 'isthmus.v1.Signed',
    payload: new Uint8Array(),
    signature: new Uint8Array(),
  };
  const reader = new WireReader(bytes, 'signed');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) signed.payload = reader.once('payload').bytes('payload', payloadMax);
    else if (field === 2) signed.signature = reader.once('signature').bytes('signature', signatureBytes);
    else reader.skip();
  }
  want(signed.signature.length === signatureBytes, 'signed.signature', signed.signature.length, '64 bytes');
  want(signed.payload.length > 0, 'signed.payload', 'empty', 'a payload');
  return signed;
};

export const decodeSigned = (bytes: Uint8Array, payloadMax: number): Result<Signed> =>
  decoding('signed', bytes, payloadMax + envelopeBytes, () => parse(bytes, payloadMax));

/** 64 bytes, to be kept beside the payload. @param key - an Ed25519 private key */
export const signatureOf = (kind: SignedKind, payload: Uint8Array, key: KeyObject): Uint8Array =>
  new Uint8Array(sign(null, message(kind, payload), key));

/** @param key - an Ed25519 private key */
export const encodeSigned = (
  kind: SignedKind,
  payload: Uint8Array,
  payloadMax: number,
  key: KeyObject,
): Result<Uint8Array> => {
  const signature = signatureOf(kind, payload, key);
  const bytes = toBinary(SignedSchema, { $typeName: 'isthmus.v1.Signed', payload, signature });
  return encoded(bytes, (back) => {
    const decoded = decodeSigned(back, payloadMax);
    return decoded.ok ? ok(back) : decoded;
  });
};

export const signatureHolds = (
  kind: SignedKind,
  signed: Pick<Signed, 'payload' | 'signature'>,
  key: KeyObject,
): boolean => verify(null, message(kind, signed.payload), key, signed.signature);

/** @param raw - the 32 bytes of an Ed25519 public key */
export const publicKeyOf = (raw: Uint8Array): Result<KeyObject> => {
  if (raw.length !== 32) return fail('trust/invalid', `record key: ${raw.length} bytes, an Ed25519 key has 32`);
  try {
    const x = Buffer.from(raw).toString('base64url');
    return ok(createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' }));
  } catch (cause) {
    return fail('trust/invalid', 'record key: not an Ed25519 public key', { cause });
  }
};

/** The raw 32 bytes of an Ed25519 key, public or private. */
export const rawPublicKey = (key: KeyObject): Uint8Array => {
  const { x } = (key.type === 'private' ? createPublicKey(key) : key).export({ format: 'jwk' });
  if (x === undefined || key.asymmetricKeyType !== 'ed25519') throw new Error('rawPublicKey: not an Ed25519 key');
  return new Uint8Array(Buffer.from(x, 'base64url'));
};
