/**
 * Join tokens: what the authority gives to whoever runs a new cluster.
 *
 * A token is signed by the authority whose key it carries, so that a changed one is refused before anything is done with it. Its secret is
 * the seed of a key that signs the join request: the approver keeps the public key alone, and neither its disk nor etcd holds what
 * would let anybody in. A shared secret with an HMAC was passed over for that reason: whoever checks one can also make one.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { JoinToken } from '../gen/isthmus/v1/joining_pb.ts';
import { decodeJoinToken, encodeJoinToken } from '../records/joining.ts';
import { decodeSigned, encodeSigned, publicKeyOf, rawPublicKey, signatureHolds } from '../records/signed.ts';

export interface Token {
  readonly clusterset: string;
  readonly cluster: string;
  readonly id: string;
  /** 32 random bytes. */
  readonly secret: Uint8Array;
  /** The authority's raw public key. */
  readonly authority: Uint8Array;
  readonly expiresMs: number;
  readonly endpoints: readonly string[];
  /** URLs of store gateways that take the writes; none: etcd itself does. */
  readonly writeEndpoints?: readonly string[] | undefined;
  /** PEM. */
  readonly etcdCa: string;
  readonly etcdCert: string;
  readonly etcdKey: string;
}

const prefix = 'isthmus-join-1.';
const textForm = /^isthmus-join-1\.[A-Za-z0-9_-]+$/;
const ed25519Seed = Buffer.from('302e020100300506032b657004220420', 'hex');

/** The key that signs the request of a token. */
export const tokenKey = (secret: Uint8Array): KeyObject =>
  createPrivateKey({ key: Buffer.concat([ed25519Seed, secret]), format: 'der', type: 'pkcs8' });

/** What the approver keeps of a secret: it proves one, and makes none. */
export const tokenVerifier = (secret: Uint8Array): Uint8Array => rawPublicKey(tokenKey(secret));

/** etcd's user and role for a token, also its certificate's common name. It has dots, which no member's name has. */
export const tokenUser = (id: string): string => `isthmus.join.${id}`;

const tokenUserForm = /^isthmus\.join\.([0-9a-f]{32})$/;

/** The token whose user this is; undefined: it is no token's. */
export const tokenOfUser = (user: string): string | undefined => tokenUserForm.exec(user)?.[1];

const buffer = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

/** One line of text. @param authorityKey - Ed25519, private, of `token.authority` */
export const tokenText = (token: Token, authorityKey: KeyObject): Result<string> => {
  const message: JoinToken = {
    $typeName: 'isthmus.v1.JoinToken',
    clusterset: token.clusterset,
    cluster: token.cluster,
    id: token.id,
    secret: token.secret,
    authority: token.authority,
    expiresMs: BigInt(token.expiresMs),
    endpoints: [...token.endpoints],
    writeEndpoints: [...(token.writeEndpoints ?? [])],
    etcdCa: buffer(token.etcdCa),
    etcdCert: buffer(token.etcdCert),
    etcdKey: buffer(token.etcdKey),
    critical: [],
  };
  const payload = encodeJoinToken(message);
  if (!payload.ok) return payload;
  const signed = encodeSigned('join-token', payload.value, limits.joinTokenBytesMax, authorityKey);
  return signed.ok ? ok(`${prefix}${Buffer.from(signed.value).toString('base64url')}`) : signed;
};

const altered = (why: string): Result<never> =>
  fail('token/altered', `the token was changed or cut on its way: ${why}`, {
    hint: 'copy it again, whole; if that does not help, ask for a new one',
  });

/** Errors: `token/malformed` (no token at all), `token/altered`. Its time is for the caller to check. */
export const readToken = (text: string): Result<Token> => {
  const line = text.trim();
  if (line.length > limits.joinTokenBytesMax * 2) {
    return fail('token/malformed', `the token has ${line.length} characters: it is none`);
  }
  if (!line.startsWith(prefix)) {
    return fail('token/malformed', 'this is no join token', {
      hint: `a token is one line that begins with ${prefix}; "isthmus token create" makes one`,
    });
  }
  if (!textForm.test(line)) return altered('it holds a character that no token holds');
  const bytes = Buffer.from(line.slice(prefix.length), 'base64url');
  if (bytes.toString('base64url') !== line.slice(prefix.length)) return altered('its last character is not one');
  const signed = decodeSigned(bytes, limits.joinTokenBytesMax);
  if (!signed.ok) return altered(signed.error.message);
  const decoded = decodeJoinToken(signed.value.payload);
  if (!decoded.ok) return altered(decoded.error.message);
  const key = publicKeyOf(decoded.value.authority);
  if (!key.ok || !signatureHolds('join-token', signed.value, key.value)) return altered('its signature does not hold');
  const { clusterset, cluster, id, secret, authority, expiresMs, endpoints, writeEndpoints } = decoded.value;
  const { etcdCa, etcdCert, etcdKey } = decoded.value;
  const text_ = (pem: Uint8Array): string => Buffer.from(pem).toString('latin1');
  return ok({
    ...{ clusterset, cluster, id, secret, authority, expiresMs: Number(expiresMs), endpoints },
    ...(writeEndpoints.length > 0 && { writeEndpoints }),
    ...{ etcdCa: text_(etcdCa), etcdCert: text_(etcdCert), etcdKey: text_(etcdKey) },
  });
};

/** Errors: `token/expired`. */
export const checkTokenTime = (token: Pick<Token, 'expiresMs' | 'id'>, wallMs: number): Result<void> => {
  if (wallMs < token.expiresMs) return ok(undefined);
  return fail('token/expired', `token ${token.id} expired on ${isoText(token.expiresMs)}`, {
    hint: 'ask for a new one (isthmus token create), and check the clock of this machine',
    subject: { token: token.id },
  });
};

const isoText = (ms: number): string => new Date(ms).toISOString();

/** The public key of the signer of a token, as a key. */
export const authorityOfToken = (token: Token): KeyObject =>
  createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(token.authority).toString('base64url') },
    format: 'jwk',
  });
