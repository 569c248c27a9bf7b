/**
 * A certificate, its key and the roots to trust, and the TLS context made from them.
 *
 * A context costs about a millisecond to build (parsing, key check), so one is kept per credentials object: rotating a
 * certificate means handing out a new object. TLS 1.3 only and X25519 first, as ztunnel and Envoy have it; hybrid
 * post-quantum shares are left out because the peers do not take them and they cost a kilobyte per handshake.
 */
import { createSecureContext, type SecureContext } from 'node:tls';
import { IsthmusError } from '../core/errors.ts';

export interface Credentials {
  /** Leaf first, then intermediates. */
  readonly certificatePem: string;
  readonly keyPem: string;
  /** One or more concatenated roots. */
  readonly rootsPem: string;
}

const contexts = new WeakMap<Credentials, SecureContext>();

/** Throws `trust/invalid` when OpenSSL refuses the material. */
export const contextOf = (credentials: Credentials): SecureContext => {
  const known = contexts.get(credentials);
  if (known !== undefined) return known;
  try {
    const context = createSecureContext({
      cert: credentials.certificatePem,
      key: credentials.keyPem,
      ca: credentials.rootsPem,
      minVersion: 'TLSv1.3',
      ecdhCurve: 'X25519:P-256',
    });
    contexts.set(credentials, context);
    return context;
  } catch (cause) {
    throw new IsthmusError('trust/invalid', `a certificate, key or root is not usable: ${(cause as Error).message}`, {
      hint: 'the key must belong to the first certificate, and all must be PEM',
      cause,
    });
  }
};
