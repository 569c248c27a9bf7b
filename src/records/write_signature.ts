/**
 * The signature over a write that goes through the store gateway: Ed25519 by the member's record key over the digest of the request's
 * bytes. It lies beside the request, not in it.
 *
 * A manifest signs all of a member's records, but a large tick is written in parts of which the last alone has one. So that no byte gets in
 * that the member's record key has not signed, each request is signed as a whole. What a request compares is signed too: one that was
 * kept is good for nothing once the manifest has moved on.
 */
import { createHash, type KeyObject } from 'node:crypto';
import { signatureHolds, signatureOf } from './signed.ts';

/** Where it lies among a call's metadata. */
export const writeSignatureField = 'isthmus-write-signature-bin';
export const writeSignatureBytes = 64;

const digest = (request: Uint8Array): Uint8Array => createHash('sha256').update(request).digest();

/** @param key - the member's Ed25519 private record key */
export const signWrite = (request: Uint8Array, key: KeyObject): Uint8Array =>
  signatureOf('write', digest(request), key);

/** @param keys - those that count for the member now */
export const writeSignatureHolds = (
  request: Uint8Array,
  signature: Uint8Array,
  keys: readonly KeyObject[],
): boolean => {
  if (signature.length !== writeSignatureBytes) return false;
  const payload = digest(request);
  return keys.some((key) => signatureHolds('write', { payload, signature }, key));
};
