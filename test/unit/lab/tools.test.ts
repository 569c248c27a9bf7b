import { expect, test } from 'vitest';
import { parseVersion, versionAtLeast } from '../../../scenarios/lab/tools.ts';

test('a version is found in what each tool prints', () => {
  expect(parseVersion('etcd Version: 3.7.3\nGit SHA: Not provided\n')).toBe('3.7.3');
  expect(parseVersion('Kubernetes v1.36.3\n')).toBe('1.36.3');
  expect(parseVersion('/x/envoy  version: 8b2b2a0c0a1d/1.40.0/Clean/RELEASE/BoringSSL')).toBe('1.40.0');
  expect(parseVersion('command not found')).toBeUndefined();
});

test('versions compare by number, not by text', () => {
  expect(versionAtLeast('3.7.1', '3.7.1')).toBe(true);
  expect(versionAtLeast('3.10.0', '3.7.1')).toBe(true);
  expect(versionAtLeast('3.7.0', '3.7.1')).toBe(false);
  expect(versionAtLeast('2.9.9', '3.7.1')).toBe(false);
});
