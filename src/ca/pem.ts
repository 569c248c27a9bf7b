/** PEM, read strictly and within bounds. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';

const block = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

const invalid = (message: string, hint?: string, cause?: unknown): IsthmusError =>
  new IsthmusError('trust/invalid', message, {
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  });

/** All certificates of a file, in their order; none at all is an error. `what` names the file. */
export const certificatesOf = (pem: string, what: string): readonly X509Certificate[] => {
  if (pem.length > limits.trustFileBytesMax)
    throw invalid(`${what}: ${pem.length} bytes, ${limits.trustFileBytesMax} allowed`);
  const blocks = pem.match(block) ?? [];
  if (blocks.length === 0)
    throw invalid(`${what}: holds no certificate`, 'it must be PEM (-----BEGIN CERTIFICATE-----)');
  return blocks.map((text, i) => {
    try {
      return new X509Certificate(text);
    } catch (cause) {
      throw invalid(`${what}: certificate ${i + 1} cannot be read`, undefined, cause);
    }
  });
};

/** A private key: PKCS#8, PKCS#1 or SEC1, not encrypted. */
export const privateKeyOf = (pem: string, what: string): KeyObject => {
  if (pem.length > limits.trustFileBytesMax)
    throw invalid(`${what}: ${pem.length} bytes, ${limits.trustFileBytesMax} allowed`);
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    const hint = pem.includes('ENCRYPTED')
      ? 'encrypted keys are not supported; decrypt it'
      : 'it must be an unencrypted PEM key';
    throw invalid(`${what}: not a private key`, hint, cause);
  }
};

/** One certificate with a newline at its end, so that texts can be joined. */
export const pemOf = (certificate: X509Certificate): string => `${certificate.toString().trimEnd()}\n`;

/** Certificates without those that came before, compared by their bytes. */
export const unique = (certificates: Iterable<X509Certificate>): readonly X509Certificate[] => {
  const seen = new Map<string, X509Certificate>();
  for (const certificate of certificates) {
    if (!seen.has(certificate.fingerprint256)) seen.set(certificate.fingerprint256, certificate);
  }
  return [...seen.values()];
};
