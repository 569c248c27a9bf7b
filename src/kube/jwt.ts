/**
 * Checks a service account token against cached signing keys, for the time when no API server answers.
 *
 * Only what the API server itself would check without its database: signature, issuer, audience, times. Whether the pod still
 * exists cannot be known here, so the caller accepts the result for identities it has met before, and a token without an
 * expiry is refused. A JWT library was passed over: it is sixty lines, and those decide who gets which identity.
 */
import { createPublicKey, type JsonWebKey, type KeyObject, verify } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';
import { count, isRecord, type Json, record, text, texts } from './json.ts';

export interface KeySet {
  readonly issuer: string;
  readonly keys: readonly JsonWebKey[];
}

/** Who a token speaks for. */
export interface TokenIdentity {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Of the ServiceAccount object: another one of the same name is somebody else. */
  readonly accountUid: string;
  readonly pod: { readonly name: string; readonly uid: string } | undefined;
  readonly node: string | undefined;
}

interface Algorithm {
  readonly kty: 'RSA' | 'EC';
  readonly crv?: string;
  readonly hash: string;
}

const algorithms: Readonly<Record<string, Algorithm>> = {
  RS256: { kty: 'RSA', hash: 'sha256' },
  RS384: { kty: 'RSA', hash: 'sha384' },
  RS512: { kty: 'RSA', hash: 'sha512' },
  ES256: { kty: 'EC', crv: 'P-256', hash: 'sha256' },
  ES384: { kty: 'EC', crv: 'P-384', hash: 'sha384' },
  ES512: { kty: 'EC', crv: 'P-521', hash: 'sha512' },
};

export interface ParsedToken {
  readonly header: Json;
  readonly claims: Json;
  readonly signed: Buffer;
  readonly signature: Buffer;
}

const part = (encoded: string): Json | undefined => {
  try {
    const value: unknown = JSON.parse(Buffer.from(encoded, 'base64url').toString('utf8'));
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
};

/** The parts of a compact JWT. Nothing is verified. */
export const parseToken = (token: string): ParsedToken | undefined => {
  const pieces = token.split('.');
  const [head, body, signature] = pieces;
  if (pieces.length !== 3 || !head || !body || !signature || !/^[\w.-]+$/.test(token)) return undefined;
  const header = part(head);
  const claims = part(body);
  if (header === undefined || claims === undefined) return undefined;
  return { header, claims, signed: Buffer.from(`${head}.${body}`), signature: Buffer.from(signature, 'base64url') };
};

/** `system:serviceaccount:<namespace>:<name>`, as subject or user name. */
export const parseSubject = (subject: string): { namespace: string; serviceAccount: string } | undefined => {
  const match = /^system:serviceaccount:([a-z0-9-]{1,63}):([a-z0-9.-]{1,253})$/.exec(subject);
  return match?.[1] && match[2] ? { namespace: match[1], serviceAccount: match[2] } : undefined;
};

const keyFor = (header: Json, algorithm: Algorithm, set: KeySet): KeyObject | undefined => {
  const kid = text(header, 'kid');
  for (const jwk of set.keys) {
    if (kid === '' || jwk.kid !== kid || jwk.kty !== algorithm.kty) continue;
    if (algorithm.crv !== undefined && jwk.crv !== algorithm.crv) continue;
    if (jwk.alg !== undefined && jwk.alg !== header.alg) continue;
    try {
      return createPublicKey({ key: jwk, format: 'jwk' });
    } catch {
      return undefined;
    }
  }
  return undefined;
};

/** How far two clocks may differ where a token starts to hold. Its end is taken as it is. */
const skewS = 60;

/** @returns the identity, or 'auth/unauthenticated' with the reason. */
export const verifyToken = (
  token: string,
  set: KeySet,
  audiences: readonly string[],
  wallMs: number,
): Result<TokenIdentity> => {
  const refuse = (reason: string) => fail<TokenIdentity>('auth/unauthenticated', `the token is refused: ${reason}`);
  const parsed = parseToken(token);
  if (parsed === undefined) return refuse('it is not a JWT');
  const { header, claims } = parsed;
  const algorithm = algorithms[text(header, 'alg')];
  if (algorithm === undefined || header.crit !== undefined) return refuse('its algorithm is not accepted');
  const key = keyFor(header, algorithm, set);
  if (key === undefined) return refuse('its signing key is not known');
  const how = algorithm.kty === 'EC' ? ({ key, dsaEncoding: 'ieee-p1363' } as const) : key;
  if (!verify(algorithm.hash, parsed.signed, how, parsed.signature)) return refuse('its signature is wrong');
  if (set.issuer === '' || text(claims, 'iss') !== set.issuer) return refuse('its issuer is another one');
  const audience = typeof claims.aud === 'string' ? [claims.aud] : texts(claims, 'aud');
  if (!audience.some((one) => audiences.includes(one))) return refuse('it is for another audience');
  const expires = count(claims, 'exp');
  const starts = count(claims, 'nbf') ?? count(claims, 'iat') ?? 0;
  if (expires === undefined) return refuse('it never expires');
  if (wallMs >= expires * 1_000) return refuse('it has expired');
  if (wallMs < (starts - skewS) * 1_000) return refuse('it is not valid yet');
  const subject = parseSubject(text(claims, 'sub'));
  if (subject === undefined) return refuse('it is not of a service account');
  const kubernetes = record(claims, 'kubernetes.io');
  const pod = record(kubernetes, 'pod');
  return ok({
    ...subject,
    accountUid: text(record(kubernetes, 'serviceaccount'), 'uid'),
    pod: text(pod, 'uid') === '' ? undefined : { name: text(pod, 'name'), uid: text(pod, 'uid') },
    node: text(record(kubernetes, 'node'), 'name') || undefined,
  });
};
