/**
 * Revocation: the authority's word that a member is out.
 *
 * The mark closes every membership of a name up to a sequence. So it needs no list of certificates, it holds whatever older membership a
 * restored store brings back, and the name can be let in again by a membership with a higher sequence. Of two marks the higher wins,
 * and none is ever taken back: a store can withhold one, and that is why marks are kept in the saved state too.
 */
import type { KeyObject } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { decodeRevocation, encodeRevocation } from '../records/revocation.ts';
import { decodeSigned, encodeSigned, signatureHolds } from '../records/signed.ts';

export interface RevocationMark {
  readonly clusterset: string;
  readonly member: string;
  /** Memberships of the name up to this one are closed. */
  readonly sequence: bigint;
  readonly reason: string;
  readonly wallMs: number;
}

/** @param authorityKey - Ed25519, private */
export const signRevocation = (mark: RevocationMark, authorityKey: KeyObject): Result<Uint8Array> => {
  const payload = encodeRevocation({
    $typeName: 'isthmus.v1.Revocation',
    ...mark,
    wallMs: BigInt(mark.wallMs),
    critical: [],
  });
  return payload.ok ? encodeSigned('revocation', payload.value, limits.revocationBytesMax, authorityKey) : payload;
};

export interface RevocationContext {
  readonly clusterset: string;
  /** The name in the record's key. */
  readonly name: string;
  readonly authorityKey: KeyObject;
}

/** Errors: `member/signature`, `record/…`. */
export const verifyRevocation = (bytes: Uint8Array, context: RevocationContext): Result<RevocationMark> => {
  const { name, clusterset } = context;
  const signed = decodeSigned(bytes, limits.revocationBytesMax);
  if (!signed.ok) return signed;
  const subject = { member: name };
  if (!signatureHolds('revocation', signed.value, context.authorityKey)) {
    return fail('member/signature', `the revocation of ${name} is not signed by this cluster set's authority`, {
      hint: 'nobody was revoked by it; somebody writes to this etcd who should not',
      subject,
    });
  }
  const mark = decodeRevocation(signed.value.payload);
  if (!mark.ok) return mark;
  if (mark.value.clusterset !== clusterset || mark.value.member !== name) {
    const of = `${mark.value.clusterset}/${mark.value.member}`;
    return fail('member/signature', `the revocation of ${of} stands under ${clusterset}/${name}`, { subject });
  }
  const { member, sequence, reason, wallMs } = mark.value;
  return ok({ clusterset, member, sequence, reason, wallMs: Number(wallMs) });
};
