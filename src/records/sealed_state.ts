/**
 * The shipped state, closed to all but our own replicas.
 *
 * It stands where everybody reads, and names each service that was decided about; so it is sealed when one of them is for some members
 * alone. AES-256-GCM under a key that follows from the record key, which the replicas share. The nonce follows from the content, so
 * that equal states are equal bytes and no two states share one.
 */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, type KeyObject } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';

const magic = Buffer.from('isthmus sealed 1\n', 'latin1');
const nonceBytes = 12;
const tagBytes = 16;

const keyOf = (recordKey: KeyObject, purpose: string): Buffer => {
  const { d } = recordKey.export({ format: 'jwk' });
  if (d === undefined) throw new Error('sealState: not a private key');
  return Buffer.from(hkdfSync('sha256', Buffer.from(d, 'base64url'), '', `isthmus/v1/state/${purpose}`, 32));
};

/** @param recordKey - our own Ed25519 record key */
export const sealState = (recordKey: KeyObject, state: Uint8Array): Uint8Array => {
  const nonce = createHmac('sha256', keyOf(recordKey, 'nonce')).update(state).digest().subarray(0, nonceBytes);
  const cipher = createCipheriv('aes-256-gcm', keyOf(recordKey, 'key'), nonce);
  return new Uint8Array(Buffer.concat([magic, nonce, cipher.update(state), cipher.final(), cipher.getAuthTag()]));
};

/** One that is not sealed is passed through. Errors: `record/malformed`. */
export const openState = (recordKey: KeyObject, bytes: Uint8Array): Result<Uint8Array> => {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (!all.subarray(0, magic.length).equals(magic)) return ok(bytes);
  const at = magic.length + nonceBytes;
  const unreadable = () => fail('record/malformed', 'the shipped state is sealed, and not with our record key');
  if (all.length < at + tagBytes) return unreadable();
  const decipher = createDecipheriv('aes-256-gcm', keyOf(recordKey, 'key'), all.subarray(magic.length, at));
  decipher.setAuthTag(all.subarray(-tagBytes));
  try {
    return ok(new Uint8Array(Buffer.concat([decipher.update(all.subarray(at, -tagBytes)), decipher.final()])));
  } catch {
    return unreadable();
  }
};
