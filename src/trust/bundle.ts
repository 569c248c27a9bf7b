/**
 * Trust bundles: the roots that a member's mesh is known by.
 *
 * A root that is no CA, or has a weak key, would be dropped later by some proxies and kept by others. So the whole bundle is
 * refused with a reason, and the last good one stays in use.
 */
import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';

const rsaBitsMin = 2048;
const rsaBitsMax = 8192;
const curves = new Set(['prime256v1', 'secp384r1', 'secp521r1']);

const keyProblem = (key: KeyObject): string | undefined => {
  const details = key.asymmetricKeyDetails;
  if (key.asymmetricKeyType === 'rsa' || key.asymmetricKeyType === 'rsa-pss') {
    const bits = details?.modulusLength ?? 0;
    return bits >= rsaBitsMin && bits <= rsaBitsMax ? undefined : `its RSA key has ${bits} bits`;
  }
  if (key.asymmetricKeyType === 'ec') {
    const curve = details?.namedCurve ?? 'unknown';
    return curves.has(curve) ? undefined : `its key is on curve ${curve}`;
  }
  return `its key is of type ${key.asymmetricKeyType}, which not every proxy verifies`;
};

/**
 * A certificate that may stand as a root: DER without trailing bytes, CA:TRUE, a key that every proxy verifies.
 * Errors: `trust/root-refused`. Validity in time is not checked: expiry is shown to people, never applied by surprise.
 */
export const parseRoot = (der: Uint8Array, what: string): Result<X509Certificate> => {
  const refuse = (why: string, cause?: unknown) =>
    fail<X509Certificate>('trust/root-refused', `${what}: ${why}`, cause === undefined ? {} : { cause });
  if (der.length > limits.certificateBytesMax) {
    return refuse(`${der.length} bytes, ${limits.certificateBytesMax} allowed`);
  }
  let certificate: X509Certificate;
  let key: KeyObject;
  try {
    certificate = new X509Certificate(der);
    key = certificate.publicKey;
  } catch (cause) {
    return refuse('not an X.509 certificate in DER', cause);
  }
  if (!certificate.raw.equals(der)) return refuse('not exactly one X.509 certificate in DER');
  if (!certificate.ca) return refuse('not a CA (basicConstraints CA:TRUE is missing)');
  const problem = keyProblem(key);
  return problem === undefined ? ok(certificate) : refuse(problem);
};

/** SHA-256 of a certificate, hexadecimal: what memberships register, and `openssl x509 -fingerprint -sha256` shows. */
export const rootFingerprint = (der: Uint8Array): string => createHash('sha256').update(der).digest('hex');

/** For people: enough of it to compare. */
export const shortFingerprint = (hex: string): string => hex.slice(0, 16);

/**
 * The bundle of a member: roots that are usable, and registered for it if the authority registered any. One that is not spoils the whole
 * bundle, so that what is in use is always what the member and the authority both said. Errors: `trust/root-refused`.
 */
export const checkBundle = (
  roots: readonly Uint8Array[],
  member: { readonly name: string; readonly trustRoots?: readonly string[] | undefined },
): Result<readonly X509Certificate[]> => {
  const { name, trustRoots } = member;
  const bundle = parseBundle(roots, `trust of ${name}`);
  if (!bundle.ok || trustRoots === undefined || trustRoots.length === 0) return bundle;
  for (const [i, der] of roots.entries()) {
    const found = rootFingerprint(der);
    if (trustRoots.includes(found)) continue;
    return fail(
      'trust/root-refused',
      `trust of ${name}, root ${i} (${shortFingerprint(found)}): not registered for ${name}`,
      {
        hint: `if it is ${name}'s, register it at the authority's desk: isthmus trust register --cluster ${name} --root <file>; the bundle in use stays`,
        subject: { member: name, root: found },
      },
    );
  }
  return bundle;
};

/** All roots of a bundle, none twice. Errors: `trust/root-refused`. */
export const parseBundle = (roots: readonly Uint8Array[], what: string): Result<readonly X509Certificate[]> => {
  if (roots.length === 0) return fail('trust/root-refused', `${what}: no root left`);
  if (roots.length > limits.rootsPerMemberMax) {
    return fail('trust/root-refused', `${what}: ${roots.length} roots, ${limits.rootsPerMemberMax} allowed`);
  }
  const parsed: X509Certificate[] = [];
  for (const [i, der] of roots.entries()) {
    const root = parseRoot(der, `${what}, root ${i}`);
    if (!root.ok) return root;
    const twin = parsed.findIndex(({ fingerprint256 }) => fingerprint256 === root.value.fingerprint256);
    if (twin >= 0) return fail('trust/root-refused', `${what}: root ${i} is the same as root ${twin}`);
    parsed.push(root.value);
  }
  return ok(parsed);
};
