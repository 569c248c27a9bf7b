/**
 * How a member's record key and federation CA follow each other without the authority.
 *
 * The membership names the first; each link names the next, is signed by the record key before it, and carries a proof by both new keys,
 * so that nobody announces what is another's. The links are a chain from the key of the membership, so a reader that was away for two
 * rotations, or that is new, follows it from what the authority said. Memberships with new keys were passed over: the authority's key is
 * offline, and would be needed each time. What a thief of an old key could do ends with its overlap, where the newer link was seen.
 */
import { createHash, createPrivateKey, type KeyObject, sign, verify, X509Certificate } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { SuccessionLink } from '../gen/isthmus/v1/keys_pb.ts';
import {
  decodeSigned,
  encodeSigned,
  publicKeyOf,
  rawPublicKey,
  signatureHolds,
  signatureOf,
} from '../records/signed.ts';
import { decodeLink, decodeOffer, encodeLink, encodeOffer } from '../records/succession.ts';
import { parseRoot } from './bundle.ts';

export interface Link {
  readonly number: number;
  readonly previousKey: Uint8Array;
  /** Raw Ed25519 public key, 32 bytes. */
  readonly recordKey: Uint8Array;
  /** DER certificate. */
  readonly federationCa: Uint8Array;
  readonly madeMs: number;
  readonly previousUntilMs: number;
  /** SHA-256 of the link as it was signed, hexadecimal. */
  readonly digest: string;
}

export interface NewLink {
  readonly clusterset: string;
  readonly member: string;
  readonly number: number;
  /** Ed25519, private: the one that signs now. */
  readonly signer: KeyObject;
  readonly recordKey: KeyObject;
  readonly federation: { readonly certPem: string; readonly keyPem: string };
  readonly madeMs: number;
  readonly previousUntilMs: number;
}

const caMessage = (link: Uint8Array): Uint8Array =>
  Buffer.concat([Buffer.from('isthmus/v1/succession-ca\0', 'latin1'), link]);

/** The signed bytes of a link. Fails with what its readers would say. */
export const signLink = (made: NewLink): Result<Uint8Array> => {
  const { clusterset, member, number, signer, recordKey, federation } = made;
  const link = encodeLink({
    $typeName: 'isthmus.v1.SuccessionLink',
    ...{ clusterset, member, number },
    previousKey: rawPublicKey(signer),
    recordKey: rawPublicKey(recordKey),
    federationCa: new Uint8Array(new X509Certificate(federation.certPem).raw),
    madeMs: BigInt(Math.floor(made.madeMs)),
    previousUntilMs: BigInt(Math.floor(made.previousUntilMs)),
    critical: [],
  });
  if (!link.ok) return link;
  const offer = encodeOffer({
    $typeName: 'isthmus.v1.SuccessionOffer',
    link: link.value,
    recordKeyProof: signatureOf('succession-key', link.value, recordKey),
    federationCaProof: new Uint8Array(sign('sha256', caMessage(link.value), createPrivateKey(federation.keyPem))),
  });
  if (!offer.ok) return offer;
  const signed = encodeSigned('succession', offer.value, limits.successionLinkBytesMax, signer);
  if (!signed.ok) return signed;
  const back = readLink(signed.value, { clusterset, member });
  if (!back.ok) return back;
  const holds = verifyLink(signed.value, back.value);
  return holds.ok ? signed : holds;
};

export interface SuccessionContext {
  readonly clusterset: string;
  readonly member: string;
}

const refuse = <T>(member: string, why: string): Result<T> =>
  fail('member/signature', `keys of ${member}: ${why}`, {
    hint: 'the keys that were known stay in use; somebody writes to this etcd who should not, or has a key that was replaced',
    subject: { member },
  });

const parts = (bytes: Uint8Array) => {
  const signed = decodeSigned(bytes, limits.successionLinkBytesMax);
  if (!signed.ok) return signed;
  const offer = decodeOffer(signed.value.payload);
  return offer.ok ? ok({ signed: signed.value, offer: offer.value }) : offer;
};

/** What a link says, nothing of it believed yet. Errors: `member/signature` (another's), `record/…`. */
const readLink = (bytes: Uint8Array, { clusterset, member }: SuccessionContext): Result<Link> => {
  const read = parts(bytes);
  if (!read.ok) return read;
  const decoded: Result<SuccessionLink> = decodeLink(read.value.offer.link);
  if (!decoded.ok) return decoded;
  const link = decoded.value;
  if (link.clusterset !== clusterset || link.member !== member) {
    return refuse(member, `a link of ${link.clusterset}/${link.member} stands under ${clusterset}/${member}`);
  }
  const { number, previousKey, recordKey, federationCa } = link;
  const digest = createHash('sha256').update(read.value.offer.link).digest('hex');
  const [madeMs, previousUntilMs] = [Number(link.madeMs), Number(link.previousUntilMs)];
  return ok({ number, previousKey, recordKey, federationCa, madeMs, previousUntilMs, digest });
};

/** By the key before it, and agreed to by both new ones. */
const verifyLink = (bytes: Uint8Array, link: Link): Result<void> => {
  const read = parts(bytes);
  if (!read.ok) return read;
  const { signed, offer } = read.value;
  const which = `link ${link.number}`;
  const before = publicKeyOf(link.previousKey);
  if (!before.ok) return before;
  const next = publicKeyOf(link.recordKey);
  if (!next.ok) return next;
  if (!signatureHolds('succession', signed, before.value))
    return refuse('it', `${which} is not signed by the key before it`);
  const proof = { payload: offer.link, signature: offer.recordKeyProof };
  const agreed = proof.signature.length === 64 && signatureHolds('succession-key', proof, next.value);
  if (!agreed) return refuse('it', `${which} has no proof by its record key`);
  const ca = parseRoot(link.federationCa, `federation CA ${link.number}`);
  if (!ca.ok) return ca;
  const { publicKey } = ca.value;
  const byCa = verify('sha256', caMessage(offer.link), publicKey, offer.federationCaProof);
  return byCa ? ok(undefined) : refuse('it', `${which} has no proof by its federation CA`);
};

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** The key that the first of these links follows; undefined: there is none. Nothing is verified by it. */
export const firstKey = (links: readonly Uint8Array[], context: SuccessionContext): Uint8Array | undefined => {
  const first = links[0] === undefined ? undefined : readLink(links[0], context);
  return first?.ok === true ? first.value.previousKey : undefined;
};

/**
 * The links that follow the key of the membership, verified; none when the membership names the newest itself, or keys apart from all.
 * @param known - the newest link verified so far: the chain must go on from it, and what comes before is not verified again
 */
export const verifyChain = (
  links: readonly Uint8Array[],
  context: SuccessionContext,
  baseKey: Uint8Array,
  known: Pick<Link, 'number' | 'digest'> | undefined,
): Result<readonly Link[]> => {
  const { member } = context;
  const read: Link[] = [];
  for (const bytes of links) {
    const link = readLink(bytes, context);
    if (!link.ok) return link;
    read.push(link.value);
  }
  const start = read.findIndex((link) => same(link.previousKey, baseKey));
  const chain = start < 0 ? [] : read.slice(start);
  for (const [i, link] of chain.entries()) {
    const before = chain[i - 1];
    if (before !== undefined && (!same(link.previousKey, before.recordKey) || link.number !== before.number + 1)) {
      return refuse(member, `link ${link.number} does not follow link ${before.number}`);
    }
  }
  const there = chain.find(({ number }) => number === known?.number);
  if (known !== undefined && there?.digest !== known.digest) {
    const message =
      there === undefined
        ? `keys of ${member}: the chain ends at ${chain.at(-1)?.number ?? 'the membership'}, and link ${known.number} was seen before`
        : `keys of ${member}: link ${known.number} differs from the one seen before`;
    return fail('member/stale', message, {
      hint: 'the store was restored or is tampered with, or a key that was replaced is in other hands; the newest link seen stays in use',
      subject: { member },
    });
  }
  for (const [i, link] of chain.entries()) {
    // Up to the known one they were verified when it was.
    if (known !== undefined && link.number <= known.number) continue;
    const holds = verifyLink(links[start + i]!, link);
    if (!holds.ok) return refuse(member, holds.error.message.replace('keys of it: ', ''));
  }
  return ok(chain);
};
