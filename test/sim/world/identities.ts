/**
 * Members with real keys and certificates, made once a process. Signatures are real; checking the same one again, as every reader
 * does, is remembered: a run would spend most of its time there otherwise.
 */
import crypto, { type KeyObject } from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { authority, type TestMember, testMember } from '../../unit/trust/certificates.ts';

export { authority };

const rememberedMax = 20_000;
const remembered = new Map<string, boolean>();
const names = new WeakMap<KeyObject, string>();
let counted = 0;

const nameOf = (key: KeyObject): string => {
  let name = names.get(key);
  if (name === undefined) {
    name = key.type === 'public' ? (key.export({ format: 'jwk' }).x ?? `key ${counted++}`) : `key ${counted++}`;
    names.set(key, name);
  }
  return name;
};

const realVerify = crypto.verify as (...args: unknown[]) => unknown;

/** From here on `verify` remembers what it found for the same bytes, signature and key. */
export const rememberSignatures = (): void => {
  const verify = (algorithm: unknown, data: Uint8Array, key: KeyObject, signature: Uint8Array): unknown => {
    if (algorithm !== null || !(key instanceof crypto.KeyObject)) return realVerify(algorithm, data, key, signature);
    const packed = (bytes: Uint8Array): string =>
      Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    const what = `${nameOf(key)}|${packed(signature)}|${packed(data)}`;
    const before = remembered.get(what);
    if (before !== undefined) return before;
    const holds = realVerify(algorithm, data, key, signature) as boolean;
    if (remembered.size >= rememberedMax) remembered.clear();
    remembered.set(what, holds);
    return holds;
  };
  (crypto as { verify: unknown }).verify = verify;
  syncBuiltinESMExports();
};

const known = new Map<string, Promise<TestMember>>();

/** The keys and the CA of a member of that name; what the authority says besides is the scenario's. */
export const identityOf = (name: string): Promise<TestMember> => {
  const before = known.get(name) ?? testMember(name);
  known.set(name, before);
  return before;
};
