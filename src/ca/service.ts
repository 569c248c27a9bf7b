/**
 * The certificate service: decides who gets which identity, from who calls and from nothing else.
 *
 * A pod gets the identity of its own service account. The one exception is a ztunnel that serves a whole node: it may ask for an
 * account of which a pod runs on that node. What the request names is compared with what was granted; if it differs it is
 * refused rather than corrected, since a certificate that nobody asked for helps nobody.
 */
import type { X509Certificate } from 'node:crypto';
import type { Clock, Rng } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { parseWorkloadId, workloadId } from '../trust/spiffe.ts';
import { Admission } from './admission.ts';
import { type Authority, fullFingerprint } from './authority.ts';
import { readRequest } from './csr.ts';
import { certChain, givenRoots, issueLeaf } from './issue.ts';
import type { RandomBytes } from './mint.ts';

/** Whom the caller's token speaks for. */
export interface Caller {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly pod: { readonly name: string; readonly uid: string } | undefined;
  readonly node: string | undefined;
}

export interface CertificateCall {
  /** PEM. */
  readonly csr: string;
  /** Seconds; 0: no wish. */
  readonly validityS: number;
  /** A SPIFFE id, when a shared ztunnel asks for a workload. */
  readonly impersonatedIdentity: string | undefined;
}

export interface Issued {
  readonly identity: string;
  readonly chain: readonly string[];
  readonly notAfterMs: number;
  /** The roots that came with it, and the one that its own chain ends in: SHA-256, hexadecimal. */
  readonly roots: readonly string[];
  readonly issuer: string;
}

export interface CertificateServiceOptions {
  readonly trustDomain: string;
  /** The issuing CA as it is now. */
  authority(): Authority;
  /** Roots of the members that this cluster's workloads trade with. */
  moreRoots(): readonly X509Certificate[];
  /** The account of node-wide ztunnels; none when every ztunnel is a workload's own. */
  readonly sharedZtunnel?: { readonly namespace: string; readonly serviceAccount: string };
  /** Whether a pod of the account runs on the node, as the API server last said. */
  accountOnNode(namespace: string, serviceAccount: string, node: string): boolean;
  /** Longest life of a certificate, seconds. */
  readonly ttlMaxS: number;
  readonly clock: Clock;
  /** Lives are shortened by up to a tenth, so that those who asked together do not renew together. Absent: they are not. */
  readonly rng?: Rng;
  readonly random: RandomBytes;
  /** Called for each certificate, and for each refusal. */
  issued?(issued: Issued, caller: Caller): void;
  refused?(error: IsthmusError): void;
}

/** Proxies renew at half of a certificate's life, all of them in the same way. */
const jitter = 0.1;

export type CertificateService = (call: CertificateCall, caller: Caller) => Promise<readonly string[]>;

/** The identity that the caller gets. @throws IsthmusError 'csr/denied', naming whose it is not. */
export const grantedIdentity = (
  options: Pick<CertificateServiceOptions, 'trustDomain' | 'sharedZtunnel' | 'accountOnNode'>,
  wanted: string | undefined,
  caller: Caller,
): string => {
  const { trustDomain, sharedZtunnel } = options;
  const own = workloadId(trustDomain, caller.namespace, caller.serviceAccount);
  if (wanted === undefined || wanted === own) return own;
  const deny = (why: string): IsthmusError =>
    new IsthmusError('csr/denied', `${own} may not have a certificate for ${wanted.slice(0, 300)}: ${why}`);
  const isShared =
    sharedZtunnel?.namespace === caller.namespace && sharedZtunnel.serviceAccount === caller.serviceAccount;
  if (!isShared) throw deny('it is not its own identity');
  const parsed = parseWorkloadId(wanted);
  if (!parsed.ok) throw deny('it is not a workload identity');
  const { namespace, account } = parsed.value;
  if (parsed.value.trustDomain !== trustDomain) throw deny(`the trust domain here is ${trustDomain}`);
  if (caller.node === undefined) throw deny('the token names no node');
  if (!options.accountOnNode(namespace, account, caller.node)) {
    throw deny(`no pod of ${namespace}/${account} runs on node ${caller.node}`);
  }
  return workloadId(trustDomain, namespace, account);
};

export const createCertificateService = (options: CertificateServiceOptions): CertificateService => {
  const { clock } = options;
  const admission = new Admission(clock);
  const answer = async (call: CertificateCall, caller: Caller): Promise<Issued> => {
    const identity = grantedIdentity(options, call.impersonatedIdentity, caller);
    const place = caller.pod?.uid ?? caller.node ?? `${caller.namespace}/${caller.serviceAccount}`;
    return admission.run(`${identity} from ${place}`, async () => {
      const request = readRequest(call.csr);
      if (request.uri !== undefined && request.uri !== identity) {
        throw new IsthmusError(
          'csr/denied',
          `the request names ${request.uri.slice(0, 300)}, the caller is ${identity}`,
        );
      }
      const authority = options.authority();
      const leaf = await issueLeaf(
        authority,
        {
          identity,
          publicKey: request.publicKey,
          ttlS: call.validityS,
          ttlMaxS: Math.ceil(options.ttlMaxS * (1 - jitter * (options.rng?.() ?? 0))),
          nowMs: clock.wallMs(),
        },
        options.random,
      );
      const moreRoots = options.moreRoots();
      return {
        identity,
        chain: certChain(leaf, authority, moreRoots),
        notAfterMs: leaf.validToDate.getTime(),
        roots: givenRoots(authority, moreRoots),
        issuer: fullFingerprint(authority.root),
      };
    });
  };
  return async (call, caller) => {
    try {
      const issued = await answer(call, caller);
      options.issued?.(issued, caller);
      return issued.chain;
    } catch (error) {
      if (error instanceof IsthmusError) options.refused?.(error);
      throw error;
    }
  };
};
