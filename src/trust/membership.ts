/**
 * Membership: what the authority says of a member. Nothing that a member says about itself can widen it.
 *
 * It is signed by the cluster set's authority key, which every member has from the day it joined; the store only carries it. So
 * whoever controls the store can withhold a membership, never change one, and never bring back an older one.
 */
import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import { fail, IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Membership } from '../gen/isthmus/v1/records_pb.ts';
import { decodeMembership, encodeMembership } from '../records/membership.ts';
import { decodeSigned, encodeSigned, publicKeyOf, signatureHolds } from '../records/signed.ts';
import { AddressRanges } from './addresses.ts';
import { parseRoot } from './bundle.ts';

export interface Member {
  readonly clusterset: string;
  readonly name: string;
  readonly sequence: bigint;
  readonly region: string;
  readonly zone: string;
  readonly network: string;
  /** CIDRs, IPv4 or IPv6. */
  readonly addressRanges: readonly string[];
  /** Granted namespaces; `*` alone grants all. */
  readonly namespaces: readonly string[];
  /** `namespace/name`; empty grants every account of the granted namespaces. */
  readonly serviceAccounts: readonly string[];
  /**
   * SHA-256 of each certificate that its trust bundle may hold, hexadecimal. None, or absent: the authority named none, and the bundle is
   * checked for its form alone.
   */
  readonly trustRoots?: readonly string[] | undefined;
  /** DER certificate. */
  readonly federationCa: Uint8Array;
  /** Raw Ed25519 public key, 32 bytes. */
  readonly recordKey: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** The newest membership of a name that a reader has seen: no older one is taken, and no other one of the same number. */
export interface MembershipMark {
  readonly sequence: bigint;
  /** SHA-256 of the signed payload, hexadecimal. */
  readonly digest: string;
}

export interface MembershipContext {
  readonly clusterset: string;
  /** The name in the record's key. */
  readonly name: string;
  /** The authority's Ed25519 public key. */
  readonly authorityKey: KeyObject;
  /** Undefined to leave its window unchecked: expiry gates admission, never what is already in use. */
  readonly wallMs: number | undefined;
  readonly highWater: MembershipMark | undefined;
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const toMember = (membership: Membership): Member => ({
  clusterset: membership.clusterset,
  name: membership.member,
  sequence: membership.sequence,
  region: membership.region,
  zone: membership.zone,
  network: membership.network,
  addressRanges: membership.addressRanges,
  namespaces: membership.namespaces,
  serviceAccounts: membership.serviceAccounts,
  ...(membership.trustRoots.length > 0 && { trustRoots: membership.trustRoots.map(hexOf) }),
  federationCa: membership.federationCa,
  recordKey: membership.recordKey,
  notBeforeMs: Number(membership.notBeforeMs),
  notAfterMs: Number(membership.notAfterMs),
});

const toMembership = (member: Member): Membership => ({
  $typeName: 'isthmus.v1.Membership',
  clusterset: member.clusterset,
  member: member.name,
  sequence: member.sequence,
  region: member.region,
  zone: member.zone,
  network: member.network,
  addressRanges: [...member.addressRanges],
  namespaces: [...member.namespaces],
  serviceAccounts: [...member.serviceAccounts],
  trustRoots: (member.trustRoots ?? []).map((root) => new Uint8Array(Buffer.from(root, 'hex'))),
  federationCa: member.federationCa,
  recordKey: member.recordKey,
  notBeforeMs: BigInt(member.notBeforeMs),
  notAfterMs: BigInt(member.notAfterMs),
  critical: [],
});

/** What the record's shape does not say: ranges, certificate and key are usable, the window is one. */
const checkMember = (member: Member): Result<Member> => {
  const ranges = AddressRanges.parse(member.addressRanges);
  if (!ranges.ok) return ranges;
  const key = publicKeyOf(member.recordKey);
  if (!key.ok) return key;
  const ca = parseRoot(member.federationCa, `member ${member.name}, federation CA`);
  if (!ca.ok) return ca;
  if (member.notAfterMs <= member.notBeforeMs) {
    return fail(
      'record/malformed',
      `member ${member.name}: not_after_ms ${member.notAfterMs} is not after not_before_ms`,
    );
  }
  return ok(member);
};

/** The signed bytes of a membership. Fails with what its readers would say. @param authorityKey - Ed25519, private */
export const signMembership = (member: Member, authorityKey: KeyObject): Result<Uint8Array> => {
  const checked = checkMember(member);
  if (!checked.ok) return checked;
  const payload = encodeMembership(toMembership(member));
  return payload.ok ? encodeSigned('membership', payload.value, limits.membershipBytesMax, authorityKey) : payload;
};

/**
 * A membership as the authority signed it, for the member that its key names, not older than one seen before.
 * Errors: `member/signature`, `member/stale`, `member/expired` (also: not valid yet), `record/…`, `trust/…`.
 */
export const verifyMembership = (
  bytes: Uint8Array,
  context: MembershipContext,
): Result<{ readonly member: Member; readonly mark: MembershipMark }> => {
  const { name } = context;
  const subject = { member: name };
  const signed = decodeSigned(bytes, limits.membershipBytesMax);
  if (!signed.ok) return signed;
  if (!signatureHolds('membership', signed.value, context.authorityKey)) {
    return fail('member/signature', `membership of ${name}: the signature is not by this cluster set's authority`, {
      hint: 'compare the authority key in this configuration with the one that "isthmus init" made',
      subject,
    });
  }
  const decoded = decodeMembership(signed.value.payload);
  if (!decoded.ok) return decoded;
  const member = toMember(decoded.value);
  if (member.clusterset !== context.clusterset) {
    return fail('member/signature', `membership of ${name} is for cluster set ${member.clusterset}`, { subject });
  }
  if (member.name !== name) {
    return fail('member/duplicate', `the membership of ${member.name} stands under the name ${name} as well`, {
      subject,
    });
  }
  const checked = checkMember(member);
  if (!checked.ok) return checked;
  const mark = {
    sequence: member.sequence,
    digest: createHash('sha256').update(signed.value.payload).digest('hex'),
  };
  const stale = staleness(name, mark, context.highWater);
  if (!stale.ok) return stale;
  const outside = context.wallMs === undefined ? ok(undefined) : outsideWindow(member, context.wallMs);
  return outside.ok ? ok({ member, mark }) : outside;
};

const staleness = (name: string, mark: MembershipMark, highWater: MembershipMark | undefined): Result<void> => {
  if (highWater === undefined || mark.sequence > highWater.sequence) return ok(undefined);
  if (mark.sequence === highWater.sequence && mark.digest === highWater.digest) return ok(undefined);
  const what = mark.sequence === highWater.sequence ? 'differs from the one already seen' : 'is older than one seen';
  return fail('member/stale', `membership of ${name}: sequence ${mark.sequence} ${what} (${highWater.sequence})`, {
    subject: { member: name },
  });
};

/** When it holds, for an error that says why not now. */
export const validityText = ({ name, notBeforeMs, notAfterMs }: Member, wallMs: number): string => {
  const [from, to, now] = [notBeforeMs, notAfterMs, wallMs].map((ms) => new Date(ms).toISOString());
  return `the membership of ${name} is valid from ${from} to ${to}, now is ${now}`;
};

const outsideWindow = (member: Member, wallMs: number): Result<void> => {
  if (wallMs >= member.notBeforeMs && wallMs < member.notAfterMs) return ok(undefined);
  const late = wallMs >= member.notAfterMs;
  return fail(
    'member/expired',
    `membership of ${member.name} ${late ? 'ended' : 'starts'} at ${new Date(late ? member.notAfterMs : member.notBeforeMs).toISOString()}, now is ${new Date(wallMs).toISOString()}`,
    { hint: 'have the authority renew it, and check the clocks', subject: { member: member.name } },
  );
};

/** By key, not by certificate: a CA that was issued again under another name is the same CA. */
const caKey = (member: Member): string =>
  new X509Certificate(member.federationCa).publicKey.export({ type: 'spki', format: 'der' }).toString('hex');

/** What only one member may have. `what` is for people, `claim` is to compare. */
export const claimsOf = (member: Member): readonly { readonly what: string; readonly claim: string }[] =>
  [
    ['name', member.name],
    ['record key', Buffer.from(member.recordKey).toString('hex')],
    ['federation CA', caKey(member)],
  ].map(([what, value]) => ({ what: what!, claim: `${what} ${value}` }));

/**
 * Members that cannot be told apart: two with one name, one record key or one federation CA. The first of each stays.
 * @returns the error (`member/duplicate`) for each member that has to go, by its place in the list
 */
export const duplicateMembers = (members: readonly Member[]): ReadonlyMap<number, IsthmusError> => {
  const owner = new Map<string, string>();
  const duplicates = new Map<number, IsthmusError>();
  for (const [i, member] of members.entries()) {
    const claims = claimsOf(member);
    const taken = claims.find(({ claim }) => owner.has(claim));
    if (taken === undefined) {
      for (const { claim } of claims) owner.set(claim, member.name);
      continue;
    }
    const message = `member ${member.name} has the same ${taken.what} as member ${owner.get(taken.claim)}`;
    duplicates.set(i, new IsthmusError('member/duplicate', message, { subject: { member: member.name } }));
  }
  return duplicates;
};
