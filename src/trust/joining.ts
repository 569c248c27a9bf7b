/**
 * The request of a cluster that joins, and the authority's answer.
 *
 * The request stands in etcd, where anybody with access may change it: it is signed by the record key that it brings, which proves that
 * its sender has it, and that by the key of the token, which proves the secret. The answer is signed by the authority and names the
 * request by its digest, so that neither can be put beside another.
 */
import { createHash, type KeyObject, type X509Certificate } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { JoinAnswer, JoinTerms } from '../gen/isthmus/v1/joining_pb.ts';
import {
  decodeJoinAnswer,
  decodeJoinRequest,
  encodeJoinAnswer,
  encodeJoinRequest,
  noTerms,
} from '../records/joining.ts';
import { decodeSigned, encodeSigned, publicKeyOf, rawPublicKey, signatureHolds } from '../records/signed.ts';
import { parseRoot } from './bundle.ts';
import type { Token } from './tokens.ts';
import { tokenKey } from './tokens.ts';

/** What a membership says besides keys and times. */
export interface Terms {
  readonly region: string;
  readonly zone: string;
  readonly network: string;
  readonly addressRanges: readonly string[];
  readonly namespaces: readonly string[];
  readonly serviceAccounts: readonly string[];
  /** SHA-256 of each root that its trust bundle may hold, hexadecimal. */
  readonly trustRoots?: readonly string[] | undefined;
}

export interface Request {
  readonly wallMs: number;
  /** Raw Ed25519. */
  readonly recordKey: Uint8Array;
  /** DER. */
  readonly federationCa: Uint8Array;
  /** PEM, PKCS#10. It is checked by whoever issues the certificate. */
  readonly etcdRequest: string;
  readonly proposed: Terms;
}

export interface Answer {
  /** Empty: approved. */
  readonly refused: string;
  /** As signed. */
  readonly membership: Uint8Array;
  /** PEM. */
  readonly etcdCert: string;
  /** URLs of store gateways that take the member's writes; none: etcd itself does. */
  readonly writeEndpoints?: readonly string[] | undefined;
}

export const requestDigest = (bytes: Uint8Array): Uint8Array =>
  new Uint8Array(createHash('sha256').update(bytes).digest());

const toTerms = (terms: JoinTerms): Terms => ({
  region: terms.region,
  zone: terms.zone,
  network: terms.network,
  addressRanges: terms.addressRanges,
  namespaces: terms.namespaces,
  serviceAccounts: terms.serviceAccounts,
  ...(terms.trustRoots.length > 0 && { trustRoots: terms.trustRoots.map((root) => Buffer.from(root).toString('hex')) }),
});

/** @param recordKey - Ed25519, private, made by the cluster that joins */
export const signRequest = (
  token: Token,
  request: Omit<Request, 'recordKey'>,
  recordKey: KeyObject,
): Result<Uint8Array> => {
  const { proposed } = request;
  const payload = encodeJoinRequest({
    $typeName: 'isthmus.v1.JoinRequest',
    clusterset: token.clusterset,
    cluster: token.cluster,
    token: token.id,
    wallMs: BigInt(request.wallMs),
    recordKey: rawPublicKey(recordKey),
    federationCa: request.federationCa,
    etcdRequest: new Uint8Array(Buffer.from(request.etcdRequest)),
    proposed: {
      ...{ $typeName: 'isthmus.v1.JoinTerms', ...proposed },
      addressRanges: [...proposed.addressRanges],
      namespaces: [...proposed.namespaces],
      serviceAccounts: [...proposed.serviceAccounts],
      trustRoots: (proposed.trustRoots ?? []).map((root) => new Uint8Array(Buffer.from(root, 'hex'))),
    },
    critical: [],
  });
  if (!payload.ok) return payload;
  const proven = encodeSigned('join-keys', payload.value, limits.joinRequestBytesMax, recordKey);
  return proven.ok
    ? encodeSigned('join-request', proven.value, limits.joinRequestBytesMax, tokenKey(token.secret))
    : proven;
};

/** What the approver kept of a token. */
export interface IssuedToken {
  readonly clusterset: string;
  readonly cluster: string;
  readonly id: string;
  /** Raw Ed25519 public key of the token's secret. */
  readonly verifier: Uint8Array;
}

const refused = (token: string, why: string): Result<never> =>
  fail('join/refused', `the request for token ${token} is refused: ${why}`, {
    hint: 'somebody without the token wrote it, or it was changed in etcd: make a new token',
    subject: { token },
  });

/** Errors: `join/refused`, `token/mismatch`, `record/…`, `trust/…`. The secret is proven before anything is read. */
export const verifyRequest = (bytes: Uint8Array, token: IssuedToken): Result<Request> => {
  const outer = decodeSigned(bytes, limits.joinRequestBytesMax);
  if (!outer.ok) return refused(token.id, outer.error.message);
  const verifier = publicKeyOf(token.verifier);
  if (!verifier.ok) return verifier;
  if (!signatureHolds('join-request', outer.value, verifier.value)) {
    return refused(token.id, 'it is not signed with the secret of the token');
  }
  const inner = decodeSigned(outer.value.payload, limits.joinRequestBytesMax);
  if (!inner.ok) return refused(token.id, inner.error.message);
  const request = decodeJoinRequest(inner.value.payload);
  if (!request.ok) return refused(token.id, request.error.message);
  const { clusterset, cluster, recordKey, federationCa, etcdRequest, proposed, wallMs } = request.value;
  const key = publicKeyOf(recordKey);
  if (!key.ok || !signatureHolds('join-keys', inner.value, key.value)) {
    return refused(token.id, 'its sender does not have the record key that it names');
  }
  if (clusterset !== token.clusterset || cluster !== token.cluster || request.value.token !== token.id) {
    const asked = `${clusterset}/${cluster}`;
    return fail(
      'token/mismatch',
      `token ${token.id} is for ${token.clusterset}/${token.cluster}, the request is of ${asked}`,
      { hint: 'make a token for that cluster', subject: { token: token.id, cluster } },
    );
  }
  const ca = ownCa(federationCa, cluster);
  if (!ca.ok) return ca;
  return ok({
    wallMs: Number(wallMs),
    recordKey,
    federationCa,
    etcdRequest: Buffer.from(etcdRequest).toString('latin1'),
    proposed: toTerms(proposed ?? noTerms()),
  });
};

/** Signed by its own key: one that somebody else issued would make two members' gateways the same to a reader. */
const ownCa = (der: Uint8Array, cluster: string): Result<X509Certificate> => {
  const ca = parseRoot(der, `cluster ${cluster}, federation CA`);
  if (!ca.ok) return ca;
  const certificate = ca.value;
  if (certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey)) return ca;
  return fail('trust/root-refused', `cluster ${cluster}, federation CA: not signed by its own key`);
};

/**
 * The terms of the token, and where it left one open, what the cluster proposed.
 * @returns also which of them were proposed, for a person to look at
 */
export const agreedTerms = (
  granted: Terms,
  proposed: Terms,
): { readonly terms: Terms; readonly open: readonly string[] } => {
  const open: string[] = [];
  const text = (name: 'region' | 'zone' | 'network'): string => {
    if (granted[name] !== '' || proposed[name] === '') return granted[name];
    open.push(`${name} ${proposed[name]}`);
    return proposed[name];
  };
  const list = (name: 'addressRanges' | 'namespaces', shown: string): readonly string[] => {
    if (granted[name].length > 0 || proposed[name].length === 0) return granted[name];
    open.push(`${shown} ${proposed[name].join(' ')}`);
    return proposed[name];
  };
  const roots = (granted.trustRoots?.length ?? 0) > 0 ? granted.trustRoots : proposed.trustRoots;
  const terms = {
    region: text('region'),
    zone: text('zone'),
    network: text('network'),
    addressRanges: list('addressRanges', 'address ranges'),
    namespaces: list('namespaces', 'namespaces'),
    serviceAccounts: granted.serviceAccounts,
    // As its keys: whoever proves the token says what they are, unless the token does.
    ...(roots === undefined || roots.length === 0 ? {} : { trustRoots: roots }),
  };
  return { terms, open };
};

export const signAnswer = (
  token: IssuedToken,
  request: Uint8Array,
  answer: Answer,
  authorityKey: KeyObject,
): Result<Uint8Array> => {
  const message: JoinAnswer = {
    $typeName: 'isthmus.v1.JoinAnswer',
    clusterset: token.clusterset,
    cluster: token.cluster,
    token: token.id,
    request: requestDigest(request),
    refused: answer.refused,
    membership: answer.membership,
    etcdCert: new Uint8Array(Buffer.from(answer.etcdCert)),
    writeEndpoints: [...(answer.writeEndpoints ?? [])],
    critical: [],
  };
  const payload = encodeJoinAnswer(message);
  return payload.ok ? encodeSigned('join-answer', payload.value, limits.joinAnswerBytesMax, authorityKey) : payload;
};

/** Errors: `member/signature`, `token/used` (it answers another request), `join/refused`, `token/mismatch`, `record/…`. */
export const verifyAnswer = (
  bytes: Uint8Array,
  token: Token,
  request: Uint8Array,
  authorityKey: KeyObject,
): Result<Answer> => {
  const signed = decodeSigned(bytes, limits.joinAnswerBytesMax);
  if (!signed.ok) return signed;
  if (!signatureHolds('join-answer', signed.value, authorityKey)) {
    return fail('member/signature', 'the answer in etcd is not signed by the authority that the token names', {
      hint: 'somebody else writes to this etcd: nothing was installed; tell whoever gave you the token',
    });
  }
  const answer = decodeJoinAnswer(signed.value.payload);
  if (!answer.ok) return answer;
  const { clusterset, cluster, refused: why, membership, etcdCert, writeEndpoints } = answer.value;
  if (clusterset !== token.clusterset || cluster !== token.cluster || answer.value.token !== token.id) {
    return fail('token/mismatch', `the answer is for ${clusterset}/${cluster}, not for ${token.cluster}`);
  }
  if (!Buffer.from(answer.value.request).equals(requestDigest(request))) {
    return fail('token/used', `token ${token.id} was used by somebody else`, {
      hint: 'if that was not you, have the member revoked (isthmus revoke) and ask for a new token',
      subject: { token: token.id },
    });
  }
  if (why !== '') return fail('join/refused', `the authority refused: ${why}`, { subject: { token: token.id } });
  return ok({
    ...{ refused: '', membership, etcdCert: Buffer.from(etcdCert).toString('latin1') },
    ...(writeEndpoints.length > 0 && { writeEndpoints }),
  });
};
