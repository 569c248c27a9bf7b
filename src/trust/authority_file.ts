/**
 * The authority's key at rest: sealed with a passphrase, in a file that says how.
 *
 * scrypt makes each guess cost 128 MiB and a good part of a second; AES-256-GCM shows a wrong passphrase and an altered file, its header
 * included. PKCS#8's own encryption was passed over: node:crypto writes it with 2,048 rounds of PBKDF2, which a graphics card tries
 * by the million. The public key stands in the clear, so that a file can be told from another without its passphrase.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  type KeyObject,
  scryptSync,
} from 'node:crypto';
import { fail, IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { rawPublicKey } from '../records/signed.ts';

const label = 'ISTHMUS SEALED AUTHORITY KEY';
const first = `-----BEGIN ${label}-----`;
const last = `-----END ${label}-----`;
const saltBytes = 16;
const nonceBytes = 12;
const tagBytes = 16;
/** 128 MiB and about half a second a guess. */
const cost = { n: 2 ** 17, r: 8, p: 1 } as const;
/** What a file may ask of whoever opens it: a hostile one must not exhaust the machine. */
const costMax = { n: 2 ** 20, r: 16, p: 4 } as const;
const costMin = { n: 2 ** 14, r: 8, p: 1 } as const;

/** For a file, 28 random bytes that are used once: a salt and a nonce. */
export const sealRandomBytes = saltBytes + nonceBytes;

interface Header {
  readonly version: 1;
  readonly publicKey: string;
  readonly kdf: { readonly name: 'scrypt'; readonly n: number; readonly r: number; readonly p: number };
  readonly salt: string;
  readonly cipher: 'aes-256-gcm';
  readonly nonce: string;
}

/** What people compare over the telephone: SHA-256 of the raw public key, in groups of four digits. */
export const authorityFingerprint = (rawKey: Uint8Array): string =>
  createHash('sha256')
    .update(rawKey)
    .digest('hex')
    .slice(0, 32)
    .replace(/(.{4})(?=.)/g, '$1-');

const keyOf = (passphrase: string, salt: Buffer, { n, r, p }: { n: number; r: number; p: number }): Buffer =>
  scryptSync(Buffer.from(passphrase.normalize('NFKC'), 'utf8'), salt, 32, {
    N: n,
    r,
    p,
    maxmem: 160 * n * r + 2 ** 20,
  });

export const isSealed = (text: string): boolean => text.trimStart().startsWith(first);

/** @param random - `sealRandomBytes` random bytes, never used before. Errors: `authority/passphrase` when it is too short. */
export const sealAuthority = (key: KeyObject, passphrase: string, random: Uint8Array): Result<string> => {
  if (passphrase.length < limits.passphraseLengthMin) {
    return fail(
      'authority/passphrase',
      `the passphrase has ${passphrase.length} characters, at least ${limits.passphraseLengthMin} are needed`,
      { hint: 'take several words that nobody else would put together' },
    );
  }
  if (random.length !== sealRandomBytes) throw new Error(`sealAuthority: ${random.length} random bytes`);
  const salt = Buffer.from(random.subarray(0, saltBytes));
  const nonce = Buffer.from(random.subarray(saltBytes));
  const header: Header = {
    version: 1,
    publicKey: Buffer.from(rawPublicKey(key)).toString('base64'),
    kdf: { name: 'scrypt', ...cost },
    salt: salt.toString('base64'),
    cipher: 'aes-256-gcm',
    nonce: nonce.toString('base64'),
  };
  const headerText = JSON.stringify(header);
  const cipher = createCipheriv('aes-256-gcm', keyOf(passphrase, salt, cost), nonce);
  cipher.setAAD(Buffer.from(headerText));
  const plain = key.export({ type: 'pkcs8', format: 'der' });
  const sealed = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  plain.fill(0);
  return ok(`${first}\n${headerText}\n\n${sealed.toString('base64')}\n${last}\n`);
};

const malformed = (why: string): IsthmusError =>
  new IsthmusError('files/invalid', `the authority's key file is not readable: ${why}`, {
    hint: 'take the copy that was put away when "isthmus init" made it',
  });

const base64 = /^[A-Za-z0-9+/]+={0,2}$/;

const bytesOf = (value: unknown, field: string, length: number): Buffer => {
  const bytes = typeof value === 'string' && base64.test(value) ? Buffer.from(value, 'base64') : undefined;
  if (bytes?.length !== length) throw malformed(`${field} is not ${length} bytes in base64`);
  return bytes;
};

const within = (value: unknown, field: string, min: number, max: number): number => {
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
  throw malformed(`kdf.${field} is not a number from ${min} to ${max}`);
};

interface Sealed {
  readonly headerText: string;
  readonly publicKey: Buffer;
  readonly cost: { readonly n: number; readonly r: number; readonly p: number };
  readonly salt: Buffer;
  readonly nonce: Buffer;
  readonly sealed: Buffer;
}

const parse = (text: string): Sealed => {
  if (text.length > limits.authorityFileBytesMax) throw malformed(`${text.length} bytes`);
  const lines = text.trim().split(/\r?\n/);
  const [head = '', headerText = '', blank, body = '', tail = ''] = lines;
  if (head !== first || tail !== last || blank !== '' || lines.length !== 5)
    throw malformed('it is cut or was changed');
  let header: Partial<Record<keyof Header, unknown>>;
  try {
    header = JSON.parse(headerText) as Partial<Record<keyof Header, unknown>>;
  } catch {
    throw malformed('its second line is no JSON');
  }
  if (typeof header !== 'object' || header === null || header.version !== 1) throw malformed('its version is not 1');
  const kdf = (header.kdf ?? {}) as Record<string, unknown>;
  if (kdf['name'] !== 'scrypt' || header.cipher !== 'aes-256-gcm') throw malformed('its kdf or cipher is unknown');
  const n = within(kdf['n'], 'n', costMin.n, costMax.n);
  if ((n & (n - 1)) !== 0) throw malformed('kdf.n is not a power of two');
  const sealed = base64.test(body) ? Buffer.from(body, 'base64') : Buffer.alloc(0);
  if (sealed.length <= tagBytes) throw malformed('it is cut or was changed');
  return {
    headerText,
    publicKey: bytesOf(header.publicKey, 'publicKey', 32),
    cost: {
      n,
      r: within(kdf['r'], 'r', costMin.r, costMax.r),
      p: within(kdf['p'], 'p', costMin.p, costMax.p),
    },
    salt: bytesOf(header.salt, 'salt', saltBytes),
    nonce: bytesOf(header.nonce, 'nonce', nonceBytes),
    sealed,
  };
};

const attempt = <T>(run: () => T): Result<T> => {
  try {
    return ok(run());
  } catch (error) {
    if (error instanceof IsthmusError) return { ok: false, error };
    throw error;
  }
};

/** The public key that a sealed file names. It is proven only by opening it. */
export const sealedPublicKey = (text: string): Result<Uint8Array> =>
  attempt(() => new Uint8Array(parse(text).publicKey));

/** Errors: `files/invalid`, and `authority/passphrase`, which a changed file looks like too. */
export const openAuthority = (text: string, passphrase: string): Result<KeyObject> =>
  attempt(() => {
    const file = parse(text);
    const decipher = createDecipheriv('aes-256-gcm', keyOf(passphrase, file.salt, file.cost), file.nonce);
    decipher.setAAD(Buffer.from(file.headerText));
    decipher.setAuthTag(file.sealed.subarray(-tagBytes));
    let plain: Buffer;
    try {
      plain = Buffer.concat([decipher.update(file.sealed.subarray(0, -tagBytes)), decipher.final()]);
    } catch {
      throw new IsthmusError('authority/passphrase', 'the passphrase does not open the authority’s key', {
        hint: 'give the passphrase of this very file; if the file was changed, take the copy that was put away',
      });
    }
    const key = createPrivateKey({ key: plain, format: 'der', type: 'pkcs8' });
    plain.fill(0);
    if (!file.publicKey.equals(rawPublicKey(key))) throw malformed('its public key is another key’s');
    return key;
  });
