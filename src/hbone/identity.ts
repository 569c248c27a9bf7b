/**
 * Who is at the other end: the one SPIFFE identity in a certificate.
 *
 * OpenSSL checks the chain; names are ours to check, because Node's own check compares host names. Exactly one URI SAN
 * is wanted, as SPIFFE says and as ztunnel does: with two of them, two checks that look at different ones can disagree.
 * Taking the text of `subjectAltName` is safe since Node quotes every value that could be mistaken for a separator.
 */
import type { X509Certificate } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';

const spiffe = /^spiffe:\/\/([a-z0-9._-]{1,255})(\/[A-Za-z0-9._-]+)+$/;

/** Splits `URI:a, DNS:b, URI:"c, d"` at the commas outside quotes. */
const names = (text: string): string[] => text.match(/[^\s,:][^:,"]*:(?:"(?:[^"\\]|\\.)*"|[^,"]*)/g) ?? [];

/** The identity in a certificate: `spiffe://<trust domain>/<path>`. Fails with `path/identity`, naming what is wrong. */
export const identityOf = (certificate: X509Certificate | undefined): Result<string> => {
  const hint = 'the peer must present a mesh or federation certificate with exactly one SPIFFE URI';
  if (certificate === undefined) return fail('path/identity', 'the peer presented no certificate', { hint });
  const uris = names(certificate.subjectAltName ?? '').filter((name) => name.startsWith('URI:'));
  const [uri, second] = uris;
  if (uri === undefined) return fail('path/identity', "the peer's certificate has no URI name", { hint });
  if (second !== undefined) {
    return fail('path/identity', `the peer's certificate has ${uris.length} URI names (${uris.join(', ')})`, { hint });
  }
  const identity = uri.slice('URI:'.length);
  if (identity.length > 2_048 || !spiffe.test(identity)) {
    return fail('path/identity', `the peer's URI name "${identity.slice(0, 200)}" is not a SPIFFE identity`, { hint });
  }
  return ok(identity);
};

/** `spiffe://td/…` → `td`. */
export const trustDomainOf = (identity: string): string => identity.slice('spiffe://'.length).split('/', 1)[0] ?? '';
