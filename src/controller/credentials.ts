/** The keys and certificates of this member, from the bundle that `isthmus init` wrote. Each wrong file is named, its content never. */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Config } from '../config/controller.ts';
import { memberFile } from '../config/load.ts';
import { IsthmusError } from '../core/errors.ts';

export interface Credentials {
  readonly store: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };
  /** The authority's Ed25519 public key. */
  readonly authorityKey: KeyObject;
  /** Ed25519, signs this member's manifests. */
  readonly recordKey: KeyObject;
  readonly federation: { readonly certPem: string; readonly keyPem: string };
}

/** @param key - of the configuration, for the error */
export const readFile = (key: string, path: string): Buffer => {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new IsthmusError(
      'config/file',
      `${key}: "${path}" cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'error'})`,
      {
        hint: 'install the member bundle with `isthmus join`, or correct memberDir',
        subject: { key },
        cause,
      },
    );
  }
};

const ed25519 = (key: string, path: string, parse: (pem: Buffer) => KeyObject): KeyObject => {
  const pem = readFile(key, path);
  let parsed: KeyObject | undefined;
  try {
    parsed = parse(pem);
  } catch {
    parsed = undefined;
  }
  if (parsed?.asymmetricKeyType === 'ed25519') return parsed;
  throw new IsthmusError('files/invalid', `${key}: "${path}" does not hold an Ed25519 key in PEM`, {
    hint: 'use the file that `isthmus init` wrote',
    subject: { key },
  });
};

export const loadCredentials = (config: Config): Credentials => {
  const path = (file: string) => memberFile(config, file);
  const { store, keys } = config;
  return {
    store: {
      ca: readFile('store.caFile', path(store.caFile)),
      cert: readFile('store.certFile', path(store.certFile)),
      key: readFile('store.keyFile', path(store.keyFile)),
    },
    authorityKey: ed25519('keys.authorityFile', path(keys.authorityFile), (pem) => createPublicKey(pem)),
    recordKey: ed25519('keys.recordKeyFile', path(keys.recordKeyFile), (pem) => createPrivateKey(pem)),
    federation: {
      certPem: readFile('keys.federationCertFile', path(keys.federationCertFile)).toString('utf8'),
      keyPem: readFile('keys.federationKeyFile', path(keys.federationKeyFile)).toString('utf8'),
    },
  };
};
