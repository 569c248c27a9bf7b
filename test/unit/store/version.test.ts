import { describe, expect, it } from 'vitest';
import { isSafeVersion, unsafeVersionError } from '../../../src/store/version.ts';

describe('etcd versions', () => {
  it.each([
    '3.5.33',
    '3.5.40',
    '3.6.14',
    '3.6.100',
    '3.7.1',
    '3.7.3',
    'v3.7.3',
    '3.7.3+vendor1',
    '3.8.0',
    '4.0.0',
    '3.7.2-rc.1',
  ])('%s is safe', (version) => {
    expect(isSafeVersion(version)).toBe(true);
  });

  it.each([
    '3.5.32',
    '3.5.0',
    '3.6.13',
    '3.6.9',
    '3.7.0',
    '3.7.1-rc.0',
    '3.4.42',
    '3.4.99',
    '3.3.27',
    '2.3.8',
    '',
    'unknown',
    '3.7',
    '3.7.x',
    '03.7.99999',
    '3.7.3 ',
    '-3.7.3',
    'not_decided',
  ])('"%s" is not', (version) => {
    expect(isSafeVersion(version)).toBe(false);
  });

  it('names the version, the holes, and the two ways out', () => {
    const error = unsafeVersionError('3.6.8', 'https://etcd:2379');
    expect(error.code).toBe('store/too-old');
    expect(error.message).toContain('3.6.8');
    for (const cve of ['CVE-2026-33343', 'CVE-2026-33413', 'CVE-2026-73499']) expect(error.message).toContain(cve);
    expect(error.hint).toContain('3.5.33, 3.6.14, 3.7.1');
    expect(error.hint).toContain('store.allowUnsafeVersion');
  });
});
