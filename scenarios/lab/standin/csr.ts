/**
 * A certificate request: P-256, empty subject, one URI name, as ztunnel asks. Forty lines of DER instead of a library keep
 * the process light; dozens of these run on one machine.
 */
import { createPublicKey, type KeyObject, sign } from 'node:crypto';

const der = (tag: number, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  const size = body.length;
  const head = size < 128 ? [tag, size] : size < 256 ? [tag, 0x81, size] : [tag, 0x82, size >> 8, size & 0xff];
  return Buffer.concat([Buffer.from(head), body]);
};

const sequence = (...parts: readonly Buffer[]): Buffer => der(0x30, ...parts);
const extensionRequest = Buffer.from('06092a864886f70d01090e', 'hex');
const subjectAltName = Buffer.from('0603551d11', 'hex');
const ecdsaWithSha256 = Buffer.from('06082a8648ce3d040302', 'hex');

/** PEM. `key` is a P-256 private key. */
export const certificateRequest = (key: KeyObject, uri: string): string => {
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const name = sequence(der(0x86, Buffer.from(uri, 'ascii')));
  // Critical, as it must be where the subject is empty.
  const extension = sequence(subjectAltName, Buffer.from('0101ff', 'hex'), der(0x04, name));
  const attribute = sequence(extensionRequest, der(0x31, sequence(extension)));
  const info = sequence(Buffer.from('020100', 'hex'), sequence(), spki, der(0xa0, attribute));
  const signature = sign('sha256', info, key);
  const request = sequence(info, sequence(ecdsaWithSha256), der(0x03, Buffer.from([0]), signature));
  const lines = request.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE REQUEST-----\n${lines.join('\n')}\n-----END CERTIFICATE REQUEST-----\n`;
};
