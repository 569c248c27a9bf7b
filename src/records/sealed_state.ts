/**
 * The shipped state, closed to all but our own replicas.
 *
 * It stands where everybody reads, and names each service that was decided about; so it is sealed when one of them is for some members
 * alone. AES-256-GCM under a secret that follows from the record key, which the replicas share. The nonce follows from the content, so
 * that equal states are equal bytes and no two states share one.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, type KeyObject } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';

const magic = Buffer.from('isthmus sealed 1\n', 'latin1');
const nonceBytes = 12;
const tagBytes = 16;

export const stateSecretBytes = 32;
/** By how much a state grows when it is sealed. */
export const sealBytes = magic.length + nonceBytes + tagBytes;

/** @param recordKey - our own Ed25519 record key */
export const stateSecret = (recordKey: KeyObject): Uint8Array => {
  const { d } = recordKey.export({ format: 'jwk' });
  if (d === undefined) throw new Error('stateSecret: not a private key');
  return new Uint8Array(hkdfSync('sha256', Buffer.from(d, 'base64url'), '', 'isthmus/v1/state', stateSecretBytes));
};

const keyOf = (secret: Uint8Array, purpose: string): Buffer =>
  Buffer.from(hkdfSync('sha256', secret, '', `isthmus/v1/state/${purpose}`, 32));

/** @param secret - see `stateSecret` */
export const sealState = (secret: Uint8Array, state: Uint8Array): Uint8Array => {
  const nonce = createHmac('sha256', keyOf(secret, 'nonce')).update(state).digest().subarray(0, nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', keyOf(secret, 'key'), nonce);
  return new Uint8Array(Buffer.concat([magic, nonce, cipher.update(state), cipher.final(), cipher.getAuthTag()]));
};

const opened = (secret: Uint8Array, all: Buffer): Uint8Array | undefined => {
  const at = magic.length + nonceBytes;
  const decipher = createDecipheriv('aes-256-gcm', keyOf(secret, 'key'), all.subarray(magic.length, at));
  decipher.setAuthTag(all.subarray(-tagBytes));
  try {
    return new Uint8Array(Buffer.concat([decipher.update(all.subarray(at, -tagBytes)), decipher.final()]));
  } catch {
    return undefined;
  }
};

/** @param bytes - of a state, its beginning at least */
export const isSealed = (bytes: Uint8Array): boolean =>
  magic.compare(bytes, 0, Math.min(magic.length, bytes.length)) === 0;

/** One that is not sealed is passed through. @param secrets - each is tried. Errors: `record/malformed`. */
export const openState = (secrets: readonly Uint8Array[], bytes: Uint8Array): Result<Uint8Array> => {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (!isSealed(bytes)) return ok(bytes);
  if (all.length >= sealBytes) {
    for (const secret of secrets) {
      const state = opened(secret, all);
      if (state !== undefined) return ok(state);
    }
  }
  return fail('record/malformed', 'the shipped state is sealed, and not with a record key of ours');
};
