/** Workload certificates: one identity, both usages, no CA, no longer than anything above it. */
import type { X509Certificate } from 'node:crypto';
import { limits } from '../core/limits.ts';
import { type Authority, fullFingerprint } from './authority.ts';
import { mint, type RandomBytes, validity } from './mint.ts';
import { pemOf, unique } from './pem.ts';

export interface LeafRequest {
  /** `spiffe://…`; the only name in the certificate. */
  readonly identity: string;
  /** SubjectPublicKeyInfo of a P-256 key, DER. */
  readonly publicKey: Uint8Array<ArrayBuffer>;
  /** Seconds; 0: the longest allowed. */
  readonly ttlS: number;
  /** Longest life allowed, seconds; never more than `limits.certificateTtlMaxS`. */
  readonly ttlMaxS: number;
  readonly nowMs: number;
}

/** @throws IsthmusError 'trust/invalid' when the issuing CA has ended. */
export const issueLeaf = (
  authority: Authority,
  request: LeafRequest,
  random: RandomBytes,
): Promise<X509Certificate> => {
  const ttlMaxS = Math.min(request.ttlMaxS, limits.certificateTtlMaxS);
  const ttlS = request.ttlS > 0 ? Math.min(request.ttlS, ttlMaxS) : ttlMaxS;
  return mint(
    { certificate: authority.certificate, signing: authority.signing },
    {
      commonName: '',
      uris: [request.identity],
      publicKey: request.publicKey,
      ...validity(request.nowMs, ttlS, authority),
    },
    random,
  );
};

/**
 * As ztunnel reads it: leaf, intermediates one to an element, and all roots together as the last element. `moreRoots`: of
 * the members whose workloads this cluster's trade with.
 */
export const certChain = (
  leaf: X509Certificate,
  authority: Authority,
  moreRoots: readonly X509Certificate[],
): readonly string[] => [
  pemOf(leaf),
  ...authority.intermediates.map(pemOf),
  unique([...authority.roots, ...moreRoots])
    .map(pemOf)
    .join(''),
];

const given = new WeakMap<
  Authority,
  { readonly more: readonly X509Certificate[]; readonly roots: readonly string[] }
>();

/** Fingerprints of what comes as the last element; the same array while neither changes. */
export const givenRoots = (authority: Authority, moreRoots: readonly X509Certificate[]): readonly string[] => {
  const before = given.get(authority);
  if (before !== undefined && before.more === moreRoots) return before.roots;
  const roots = unique([...authority.roots, ...moreRoots])
    .map(fullFingerprint)
    .sort();
  given.set(authority, { more: moreRoots, roots });
  return roots;
};
