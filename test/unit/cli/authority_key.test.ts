import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { fingerprintOf, makeAuthority, readAuthority } from '../../../src/cli/authority_key.ts';

describe('the authority’s key file', () => {
  let dir: string;
  let key: string;
  let words: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'isthmus-authority-'));
    key = join(dir, 'authority-key.pem');
    words = join(dir, 'words');
    writeFileSync(words, 'four words nobody says\n', { mode: 0o600 });
    vi.stubEnv('ISTHMUS_AUTHORITY_PASSPHRASE', '');
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(dir, { recursive: true, force: true });
  });
  const read = (options = {}) => readAuthority('--authority', key, options);

  it('is sealed, its owner’s alone, and never written over', async () => {
    const made = await makeAuthority(key, { passphraseFile: words });
    expect(statSync(key).mode & 0o777).toBe(0o600);
    expect(readFileSync(key, 'utf8')).not.toContain('PRIVATE KEY');
    expect(fingerprintOf(await read({ passphraseFile: words }))).toBe(fingerprintOf(made));
    vi.stubEnv('ISTHMUS_AUTHORITY_PASSPHRASE', 'four words nobody says');
    expect(fingerprintOf(await read())).toBe(fingerprintOf(made));
    const before = readFileSync(key, 'utf8');
    await expect(makeAuthority(key, { passphraseFile: words })).rejects.toMatchObject({ code: 'files/invalid' });
    expect(readFileSync(key, 'utf8')).toBe(before);
  });

  it('asks for a passphrase, and says where it may come from', async () => {
    await expect(makeAuthority(key, {})).rejects.toMatchObject({
      code: 'authority/passphrase',
      hint: expect.stringContaining('--passphrase-file'),
    });
    await makeAuthority(key, { passphraseFile: words });
    await expect(read()).rejects.toMatchObject({ code: 'authority/passphrase' });
    vi.stubEnv('ISTHMUS_AUTHORITY_PASSPHRASE', 'something else entirely');
    await expect(read()).rejects.toMatchObject({ code: 'authority/passphrase' });
  });

  it('lies open only when told so, and is refused when others can read it', async () => {
    const made = await makeAuthority(key, { passphrase: false });
    expect(fingerprintOf(await read())).toBe(fingerprintOf(made));
    chmodSync(key, 0o640);
    await expect(read()).rejects.toMatchObject({ code: 'files/invalid', hint: expect.stringContaining('chmod 600') });
    chmodSync(key, 0o600);
    chmodSync(words, 0o644);
    await expect(makeAuthority(join(dir, 'other'), { passphraseFile: words })).rejects.toMatchObject({
      code: 'files/invalid',
    });
    await expect(readAuthority('--authority', join(dir, 'none'), {})).rejects.toMatchObject({ code: 'config/file' });
    writeFileSync(key, 'nonsense');
    await expect(read()).rejects.toMatchObject({ code: 'files/invalid' });
  });
});
