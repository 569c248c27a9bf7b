import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { rawPublicKey } from '../../../src/records/signed.ts';
import {
  authorityFingerprint,
  isSealed,
  openAuthority,
  sealAuthority,
  sealedPublicKey,
  sealRandomBytes,
} from '../../../src/trust/authority_file.ts';

const passphrase = 'four words nobody says';
const { privateKey } = generateKeyPairSync('ed25519');
const seal = (text = passphrase): string => {
  const sealed = sealAuthority(privateKey, text, randomBytes(sealRandomBytes));
  if (!sealed.ok) throw sealed.error;
  return sealed.value;
};
const code = (text: string, word = passphrase): string => {
  const opened = openAuthority(text, word);
  return opened.ok ? 'opened' : opened.error.code;
};

describe('the authority’s key at rest', () => {
  const file = seal();

  it('opens with its passphrase alone, and names its public key without it', () => {
    const opened = openAuthority(file, passphrase);
    expect(opened.ok && opened.value.export({ type: 'pkcs8', format: 'pem' })).toEqual(
      privateKey.export({ type: 'pkcs8', format: 'pem' }),
    );
    expect(isSealed(file)).toBe(true);
    const named = sealedPublicKey(file);
    expect(named.ok && authorityFingerprint(named.value)).toBe(authorityFingerprint(rawPublicKey(privateKey)));
    expect(code(file, `${passphrase} `)).toBe('authority/passphrase');
    // The same words in another normal form are the same words.
    expect(code(seal('caf\u00e9 au lait noir'), 'cafe\u0301 au lait noir')).toBe('opened');
    expect(file).not.toContain(privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64').slice(20, 50));
  });

  it('refuses a short passphrase and never writes the same bytes twice', () => {
    expect(sealAuthority(privateKey, 'short', randomBytes(sealRandomBytes))).toMatchObject({
      ok: false,
      error: { code: 'authority/passphrase' },
    });
    expect(seal()).not.toBe(file);
  });

  it('shows every change', () => {
    const lines = file.split('\n');
    const header = JSON.parse(lines[1]!);
    const withHeader = (over: object): string => lines.with(1, JSON.stringify({ ...header, ...over })).join('\n');
    const other = Buffer.from(rawPublicKey(generateKeyPairSync('ed25519').privateKey)).toString('base64');
    expect(code(withHeader({ publicKey: other }))).toBe('authority/passphrase');
    expect(code(withHeader({ kdf: { ...header.kdf, n: 2 ** 14 } }))).toBe('authority/passphrase');
    // Before any work is done for it.
    for (const kdf of [
      { ...header.kdf, n: 2 ** 30 },
      { ...header.kdf, n: 3 * 2 ** 15 },
      { ...header.kdf, n: 1 },
      { ...header.kdf, r: 1000 },
      { ...header.kdf, p: 0.5 },
      { ...header.kdf, name: 'pbkdf2' },
      null,
    ])
      expect(code(withHeader({ kdf })), JSON.stringify(kdf)).toBe('files/invalid');
    for (const over of [{ version: 2 }, { salt: 'x' }, { nonce: 7 }, { cipher: 'none' }]) {
      expect(code(withHeader(over))).toBe('files/invalid');
    }
    const body = lines[3]!;
    const flipped = body.replace(/^./, body[0] === 'A' ? 'B' : 'A');
    expect(code(lines.with(3, flipped).join('\n'))).toBe('authority/passphrase');
    for (const cut of [file.slice(0, 100), '', lines.slice(0, 4).join('\n'), `${file}x`, file.repeat(500)]) {
      expect(code(cut)).toBe('files/invalid');
    }
  });
});
