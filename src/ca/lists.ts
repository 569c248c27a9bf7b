/**
 * The revocation lists beside a cluster's CA: `ca-crl.pem`, as Istio has it, one list of each CA after the other.
 *
 * Who checks them differ. ztunnel refuses what is on a list and takes it that there is nothing to say where there is none. Envoy wants a list of
 * every CA of a chain, roots included, refuses the whole chain where one is missing or has ended, and so a list that helps one would cut
 * off others (tried with 1.40.0). istiod wants one of its own intermediate, or it takes no new key either. So a set of lists is
 * given to Envoy only when it is whole for the CAs that we know.
 */
import 'reflect-metadata';
import type { X509Certificate } from 'node:crypto';
import { X509Certificate as ParsedCertificate, X509Crl } from '@peculiar/x509';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Authority } from './authority.ts';
import { makeCrl } from './crl.ts';
import { pemOf } from './pem.ts';

export const listsFile = 'ca-crl.pem';

export interface RevocationList {
  /** Distinguished name. */
  readonly issuer: string;
  readonly pem: string;
  /** Certificates on it. */
  readonly count: number;
  readonly endMs: number;
}

const block = /-----BEGIN X509 CRL-----[A-Za-z0-9+/=\s]+-----END X509 CRL-----/g;
const clockSkewMs = 60_000;

const invalid = (message: string): IsthmusError =>
  new IsthmusError('trust/invalid', message, {
    hint: 'the last good lists stay in use; write it again with "isthmus revoke --trust-dir"',
  });

const nameOf = (certificate: X509Certificate): string =>
  new ParsedCertificate(new Uint8Array(certificate.raw)).subjectName.toString();

const named = (certificate: X509Certificate): string => certificate.subject.replaceAll('\n', ', ');

/**
 * The lists of a file, each by one issuer, checked against those of `cas` that issued one.
 * @throws IsthmusError trust/invalid: something that is no list, a signature that does not hold, two lists of one issuer
 */
export const readLists = async (
  text: string,
  cas: readonly X509Certificate[],
  what: string,
  nowMs: number,
): Promise<readonly RevocationList[]> => {
  if (text.length > limits.trustFileBytesMax) {
    throw invalid(`${what}: ${text.length} bytes, ${limits.trustFileBytesMax} allowed`);
  }
  const blocks = text.match(block) ?? [];
  if (text.replace(block, '').trim() !== '' || blocks.length === 0)
    throw invalid(`${what}: not revocation lists in PEM`);
  const lists = new Map<string, RevocationList>();
  for (const [i, pem] of blocks.entries()) {
    let crl: X509Crl;
    try {
      crl = new X509Crl(pem);
      const issuer = crl.issuerName.toString();
      const endMs = crl.nextUpdate?.getTime() ?? Number.POSITIVE_INFINITY;
      if (lists.has(issuer)) throw invalid(`${what}: two lists of ${issuer}`);
      lists.set(issuer, { issuer, pem: `${pem}\n`, count: crl.entries.length, endMs });
    } catch (cause) {
      if (cause instanceof IsthmusError) throw cause;
      throw invalid(`${what}: list ${i + 1} cannot be read`);
    }
    if (crl.thisUpdate.getTime() > nowMs + clockSkewMs) throw invalid(`${what}: list ${i + 1} begins in the future`);
    const issuers = cas.filter((ca) => nameOf(ca) === crl.issuerName.toString());
    if (issuers.length === 0) continue;
    const verified = await Promise.all(
      issuers.map((ca) => crl.verify({ publicKey: new ParsedCertificate(new Uint8Array(ca.raw)) }).catch(() => false)),
    );
    if (!verified.includes(true)) throw invalid(`${what}: list ${i + 1} is not signed by ${crl.issuerName.toString()}`);
  }
  return [...lists.values()];
};

/** Those of `cas` of which there is no list that is in force; for people. */
export const withoutList = (
  lists: readonly RevocationList[],
  cas: readonly X509Certificate[],
  nowMs: number,
): readonly string[] =>
  cas
    .filter((ca) => {
      const issuer = nameOf(ca);
      return !lists.some((list) => list.issuer === issuer && list.endMs > nowMs);
    })
    .map(named);

/** The lists, and one of the issuing CA where there is none: it is the one whose key is at hand, and nothing is on it. */
export const withOwnList = async (
  lists: readonly RevocationList[],
  authority: Authority,
  nowMs: number,
): Promise<readonly RevocationList[]> => {
  const { certificate, key } = authority;
  if (withoutList(lists, [certificate], nowMs).length === 0) return lists;
  const made = await emptyList(certificate, key.export({ type: 'pkcs8', format: 'pem' }).toString(), nowMs);
  const own = { issuer: nameOf(certificate), pem: made, count: 0, endMs: certificate.validToDate.getTime() };
  return [...lists.filter(({ issuer }) => issuer !== own.issuer), own];
};

/** A list with nothing on it. It ends with its CA: one that ends sooner would end everything that is checked by it. */
export const emptyList = async (ca: X509Certificate, keyPem: string, nowMs: number): Promise<string> => {
  const { pem } = await makeCrl({
    ca: { cert: pemOf(ca), key: keyPem },
    revoked: [],
    before: undefined,
    nowMs,
    ttlS: (ca.validToDate.getTime() - nowMs) / 1_000,
    what: named(ca),
  });
  return pem;
};
