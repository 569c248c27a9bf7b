/**
 * The authority's key and the passphrase that opens it: from a file, from the environment, or typed by a person. Never from an
 * argument, for those are in everybody's process list.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import { closeSync, constants, fstatSync, fsyncSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { IsthmusError } from '../core/errors.ts';
import { rawPublicKey } from '../records/signed.ts';
import {
  authorityFingerprint,
  isSealed,
  openAuthority,
  sealAuthority,
  sealRandomBytes,
} from '../trust/authority_file.ts';
import { readNamed } from './files.ts';

export interface PassphraseOptions {
  readonly passphraseFile?: string;
  /** Lies open on the disk: for labs. */
  readonly passphrase?: boolean;
}

export const passphraseVariable = 'ISTHMUS_AUTHORITY_PASSPHRASE';

const askHidden = (question: string): Promise<string> => {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: silent, terminal: true });
  process.stderr.write(question);
  return new Promise((resolve, reject) => {
    lines.once('SIGINT', () => {
      lines.close();
      reject(new IsthmusError('authority/passphrase', 'no passphrase was typed'));
    });
    lines.question('', (answer) => {
      lines.close();
      process.stderr.write('\n');
      resolve(answer);
    });
  });
};

/** `twice`: a new one, which a slip of the finger would lose. @throws IsthmusError authority/passphrase */
export const passphraseOf = async (options: PassphraseOptions, twice: boolean): Promise<string> => {
  if (options.passphraseFile !== undefined) {
    mustBePrivate('--passphrase-file', options.passphraseFile);
    return readNamed('--passphrase-file', options.passphraseFile).replace(/\r?\n$/, '');
  }
  const given = process.env[passphraseVariable];
  if (given !== undefined && given !== '') return given;
  if (process.stdin.isTTY !== true) {
    throw new IsthmusError('authority/passphrase', 'nobody is here to type the authority’s passphrase', {
      hint: `give --passphrase-file, or set ${passphraseVariable}${twice ? '; in a lab, --no-passphrase' : ''}`,
    });
  }
  const typed = await askHidden('Passphrase of the authority’s key: ');
  if (twice && (await askHidden('Once more: ')) !== typed) {
    throw new IsthmusError('authority/passphrase', 'the two passphrases differ', { hint: 'run it again' });
  }
  return typed;
};

/** A secret that others can read is not one any more. @throws IsthmusError files/invalid */
export const mustBePrivate = (what: string, path: string): void => {
  let mode: number;
  try {
    const file = openSync(path, 'r');
    mode = fstatSync(file).isFile() ? fstatSync(file).mode : 0;
    closeSync(file);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'error';
    throw new IsthmusError('config/file', `${what} "${path}" cannot be read (${code})`, {
      hint: 'name a file that exists and is yours',
      cause,
    });
  }
  if ((mode & 0o077) === 0) return;
  throw new IsthmusError(
    'files/invalid',
    `${what} "${path}" can be read by others (mode ${(mode & 0o777).toString(8)})`,
    { hint: `chmod 600 "${path}", and ask who has read it` },
  );
};

/** Written once, synced, its owner's alone. @throws IsthmusError files/invalid when it is there already */
export const writeSecretOnce = (path: string, content: string): void => {
  let file: number;
  try {
    file = openSync(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'error';
    throw new IsthmusError('files/invalid', `"${path}" cannot be made (${code})`, {
      hint: code === 'EEXIST' ? 'it is there already, and is never overwritten' : 'check the directory',
      cause,
    });
  }
  try {
    writeFileSync(file, content);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
};

/** A new key in a new file. With `passphrase: false` it lies there open. */
export const makeAuthority = async (path: string, options: PassphraseOptions): Promise<KeyObject> => {
  const { privateKey } = generateKeyPairSync('ed25519');
  await writeAuthority(path, privateKey, options);
  return privateKey;
};

export const writeAuthority = async (path: string, key: KeyObject, options: PassphraseOptions): Promise<void> => {
  if (options.passphrase === false) {
    writeSecretOnce(path, key.export({ type: 'pkcs8', format: 'pem' }) as string);
    return;
  }
  const sealed = sealAuthority(key, await passphraseOf(options, true), randomBytes(sealRandomBytes));
  if (!sealed.ok) throw sealed.error;
  writeSecretOnce(path, sealed.value);
};

/** @throws IsthmusError files/invalid, authority/passphrase, config/file */
export const readAuthority = async (option: string, path: string, options: PassphraseOptions): Promise<KeyObject> => {
  mustBePrivate(option, path);
  const text = readFileSync(path, 'utf8');
  const key = isSealed(text) ? await unseal(text, options) : open(option, path, text);
  if (key.asymmetricKeyType !== 'ed25519') {
    throw new IsthmusError('files/invalid', `${option} "${path}" is a key of type ${key.asymmetricKeyType}`, {
      hint: 'name the authority-key.pem that "isthmus init" wrote',
    });
  }
  return key;
};

const unseal = async (text: string, options: PassphraseOptions): Promise<KeyObject> => {
  const opened = openAuthority(text, await passphraseOf(options, false));
  if (!opened.ok) throw opened.error;
  return opened.value;
};

const open = (option: string, path: string, text: string): KeyObject => {
  try {
    return createPrivateKey(text);
  } catch (cause) {
    throw new IsthmusError('files/invalid', `${option} "${path}" holds no private key`, {
      hint: 'name the authority-key.pem that "isthmus init" wrote',
      cause,
    });
  }
};

export const fingerprintOf = (key: KeyObject): string => authorityFingerprint(rawPublicKey(key));
