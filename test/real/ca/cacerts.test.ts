/** Trust material as people have it, made by openssl: taken as it is, and openssl verifies what is issued under it. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readCacerts } from '../../../src/ca/authority.ts';
import { issueLeaf } from '../../../src/ca/issue.ts';
import { newP256 } from '../../../src/ca/mint.ts';
import { importTrust, writeCacerts } from '../../../src/ca/trustfiles.ts';
import { random, type TestDir, tempDir } from '../../unit/ca/pki.ts';

let dir: TestDir;
beforeAll(() => {
  dir = tempDir();
});
afterAll(() => dir[Symbol.dispose]());

describe('material that others made', () => {
  const openssl = (cwd: string, ...args: string[]): void => {
    execFileSync('openssl', args, { cwd, stdio: 'pipe' });
  };
  /** Root and intermediate as people make them by hand: printable strings, an organization, PKCS#1 keys. */
  const byHand = (name: string, key: readonly string[]): string => {
    const cwd = join(dir.path, name);
    mkdirSync(cwd);
    writeFileSync(
      join(cwd, 'ca.cnf'),
      '[req]\ndistinguished_name=dn\nstring_mask=default\nprompt=no\n[dn]\nO=Example Org\nCN=Example Root\n' +
        '[root]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n' +
        '[mid]\nbasicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,digitalSignature\nsubjectKeyIdentifier=hash\n',
    );
    openssl(
      cwd,
      'req',
      '-x509',
      '-nodes',
      '-newkey',
      ...key,
      '-keyout',
      'root.key',
      '-out',
      'root-cert.pem',
      '-days',
      '3650',
      '-config',
      'ca.cnf',
      '-extensions',
      'root',
    );
    openssl(
      cwd,
      'req',
      '-new',
      '-nodes',
      '-newkey',
      ...key,
      '-keyout',
      'ca-key.pem',
      '-out',
      'ca.csr',
      '-config',
      'ca.cnf',
      '-subj',
      '/O=Example Org/CN=Intermediate',
    );
    openssl(
      cwd,
      'x509',
      '-req',
      '-in',
      'ca.csr',
      '-CA',
      'root-cert.pem',
      '-CAkey',
      'root.key',
      '-CAcreateserial',
      '-days',
      '730',
      '-out',
      'ca-cert.pem',
      '-extfile',
      'ca.cnf',
      '-extensions',
      'mid',
    );
    if (key[0] === 'rsa:2048') openssl(cwd, 'rsa', '-in', 'ca-key.pem', '-traditional', '-out', 'ca-key.pem');
    writeFileSync(
      join(cwd, 'cert-chain.pem'),
      readFileSync(join(cwd, 'ca-cert.pem'), 'utf8') + readFileSync(join(cwd, 'root-cert.pem'), 'utf8'),
    );
    return cwd;
  };

  test.each([
    ['RSA', ['rsa:2048']],
    ['P-256', ['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1']],
    ['P-384', ['ec', '-pkeyopt', 'ec_paramgen_curve:secp384r1']],
  ])('%s: is taken as it is, and openssl verifies what it issues', async (name, key) => {
    const cwd = byHand(name, key);
    const at = Date.now();
    const { authority, cacerts } = importTrust(cwd, at);
    for (const [file, text] of Object.entries(cacerts)) expect(text).toBe(readFileSync(join(cwd, file), 'utf8'));
    expect(importTrust({ ...cacerts }, at).authority.certificate.fingerprint256).toBe(
      authority.certificate.fingerprint256,
    );
    const identity = 'spiffe://cluster.local/ns/a/sa/b';
    const leaf = await issueLeaf(
      authority,
      { identity, publicKey: newP256().publicKey, ttlS: 60, ttlMaxS: 60, nowMs: at },
      random,
    );
    writeFileSync(join(cwd, 'leaf.pem'), leaf.toString());
    openssl(cwd, 'verify', '-x509_strict', '-CAfile', 'root-cert.pem', '-untrusted', 'ca-cert.pem', 'leaf.pem');
    // Some verifiers compare names byte by byte: the issuer must be written as the CA wrote its subject.
    const name_ = authority.certificate.raw.indexOf(Buffer.from('Intermediate'));
    const written = authority.certificate.raw.subarray(name_ - 2, name_ + 'Intermediate'.length);
    expect(leaf.raw.includes(written)).toBe(true);
    const copy = join(dir.path, `${name}-copy`);
    writeCacerts(copy, cacerts);
    expect(readCacerts(copy)).toEqual(cacerts);
  });
});
