/** Certificates that the controller gives itself for minutes, to probe and to trace by: they never leave this process. */
import { randomBytes, type X509Certificate } from 'node:crypto';
import type { Authority } from '../ca/authority.ts';
import { certChain, issueLeaf } from '../ca/issue.ts';
import { newP256 } from '../ca/mint.ts';
import type { Clock } from '../core/clock.ts';
import type { Credentials } from '../hbone/credentials.ts';

export interface SelfIssued {
  readonly authority: Authority;
  /** Trusted besides our own. */
  readonly moreRoots: readonly X509Certificate[];
  /** SPIFFE id. */
  readonly identity: string;
  readonly ttlS: number;
  readonly clock: Clock;
}

export const selfIssued = async ({ authority, moreRoots, identity, ttlS, clock }: SelfIssued): Promise<Credentials> => {
  const pair = newP256();
  const request = { identity, publicKey: pair.publicKey, ttlS, ttlMaxS: ttlS, nowMs: clock.wallMs() };
  const leaf = await issueLeaf(authority, request, (bytes) => new Uint8Array(randomBytes(bytes)));
  const chain = certChain(leaf, authority, moreRoots);
  return { certificatePem: chain.slice(0, -1).join(''), keyPem: pair.keyPem, rootsPem: chain.at(-1)! };
};
