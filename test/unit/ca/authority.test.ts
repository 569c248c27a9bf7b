import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Cacerts, loadAuthority, parseAuthority } from '../../../src/ca/authority.ts';
import { issueFederationCertificate, makeFederationCa, parseFederationCa } from '../../../src/ca/federation.ts';
import { issueLeaf } from '../../../src/ca/issue.ts';
import { newP256 } from '../../../src/ca/mint.ts';
import { issueServing, servingNames } from '../../../src/ca/serving.ts';
import { importTrust, initTrust } from '../../../src/ca/trustfiles.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import { newAuthority, nowMs, random, type TestDir, tempDir } from './pki.ts';

let dir: TestDir;
beforeAll(() => {
  dir = tempDir();
});
afterAll(() => dir[Symbol.dispose]());

const refusal = (run: () => unknown): string => {
  try {
    run();
    return 'accepted';
  } catch (error) {
    if (!(error instanceof IsthmusError)) throw error;
    return `${error.code}: ${error.message}`;
  }
};
const leafOf = (authority: ReturnType<typeof parseAuthority>, at = nowMs) =>
  issueLeaf(
    authority,
    { identity: 'spiffe://cluster.local/ns/a/sa/b', publicKey: newP256().publicKey, ttlS: 60, ttlMaxS: 60, nowMs: at },
    random,
  );

describe('trust init', () => {
  test('makes a root and an intermediate per cluster, which read back and issue', async () => {
    const outDir = join(dir.path, 'one');
    const made = await initTrust({ outDir, trustDomain: 'cluster.local', clusters: ['east', 'west'], nowMs }, random);
    expect(made.files).toHaveLength(10);
    const [east, west] = ['east', 'west'].map((cluster) => loadAuthority(join(outDir, cluster), nowMs));
    expect(east!.roots.map((root) => root.fingerprint256)).toEqual(west!.roots.map((root) => root.fingerprint256));
    expect(east!.certificate.fingerprint256).not.toBe(west!.certificate.fingerprint256);
    expect(east!.intermediates).toHaveLength(1);
    expect(readFileSync(join(outDir, 'east', 'root-cert.pem'), 'utf8')).toBe(
      readFileSync(join(outDir, 'root', 'root-cert.pem'), 'utf8'),
    );
    for (const key of ['east/ca-key.pem', 'root/root-key.pem'])
      expect(statSync(join(outDir, key)).mode & 0o077).toBe(0);
    const leaf = await leafOf(east!);
    expect(leaf.verify(east!.certificate.publicKey)).toBe(true);
    expect(leaf.verify(west!.certificate.publicKey)).toBe(false);
  });

  test('or a root per cluster', async () => {
    const outDir = join(dir.path, 'each');
    await initTrust(
      { outDir, trustDomain: 'cluster.local', clusters: ['east', 'west'], rootPerCluster: true, nowMs },
      random,
    );
    const [east, west] = ['east', 'west'].map((cluster) => loadAuthority(join(outDir, cluster), nowMs));
    expect(east!.roots[0]!.fingerprint256).not.toBe(west!.roots[0]!.fingerprint256);
  });

  test('never overwrites, and refuses bad names', async () => {
    const input = { outDir: join(dir.path, 'again'), trustDomain: 'cluster.local', clusters: ['east'], nowMs };
    await initTrust(input, random);
    await expect(initTrust(input, random)).rejects.toMatchObject({ code: 'files/invalid' });
    for (const clusters of [[], ['East'], ['a', 'a'], ['root'], ['../x']]) {
      await expect(initTrust({ ...input, clusters }, random)).rejects.toMatchObject({ code: 'usage/invalid' });
    }
  });
});

describe('bad material', () => {
  test('is refused with the file and the reason', async () => {
    const { cacerts } = await newAuthority();
    const { cacerts: other } = await newAuthority();
    const parse = (files: Partial<Cacerts>, at = nowMs) =>
      refusal(() => parseAuthority({ ...cacerts, ...files }, 'x', at));
    expect(parse({})).toBe('accepted');
    expect(parse({ 'ca-key.pem': other['ca-key.pem'] })).toMatch(/ca-key.pem: not the key/);
    expect(parse({ 'root-cert.pem': other['root-cert.pem'] })).toMatch(/no root in root-cert.pem issued/);
    expect(parse({ 'ca-cert.pem': 'garbage' })).toMatch(/ca-cert.pem: holds no certificate/);
    expect(parse({ 'root-cert.pem': '' })).toMatch(/root-cert.pem: holds no certificate/);
    expect(
      parse({ 'ca-key.pem': '-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n' }),
    ).toMatch(/not a private key/);
    expect(parse({ 'cert-chain.pem': 'x'.repeat(10_000_000) })).toMatch(/allowed/);
    expect(parse({}, nowMs + 3 * 365 * 86_400_000)).toMatch(/expired/);
    expect(parse({}, nowMs - 86_400_000)).toMatch(/check the clock|valid from/);
    expect(refusal(() => importTrust({ 'ca-cert.pem': 'x' }, nowMs))).toMatch(/trust\/invalid: secret: /);
    expect(refusal(() => loadAuthority(join(dir.path, 'nowhere')))).toMatch(/^files\/invalid/);
  });

  test('a leaf is no CA, and a CA below a CA that allows none is refused', async () => {
    const { authority, cacerts } = await newAuthority();
    const pair = newP256();
    const leaf = await issueLeaf(
      authority,
      { identity: 'spiffe://a/ns/b/sa/c', publicKey: pair.publicKey, ttlS: 0, ttlMaxS: 3600, nowMs },
      random,
    );
    const files = { ...cacerts, 'ca-cert.pem': leaf.toString(), 'ca-key.pem': pair.keyPem };
    expect(refusal(() => parseAuthority(files, 'x', nowMs))).toMatch(/not a CA/);
    const { mint } = await import('../../../src/ca/mint.ts');
    const below = newP256();
    const ca = await mint(
      { certificate: authority.certificate, signing: authority.signing },
      {
        commonName: 'below',
        publicKey: below.publicKey,
        caPathLength: 0,
        notBeforeMs: nowMs - 1_000,
        notAfterMs: nowMs + 1e6,
      },
      random,
    );
    const chained = { ...cacerts, 'ca-cert.pem': ca.toString(), 'ca-key.pem': below.keyPem };
    expect(refusal(() => parseAuthority(chained, 'x', nowMs))).toMatch(/may have 0 CAs below it/);
  });

  test('weak or unusual keys are refused', async () => {
    const { cacerts } = await newAuthority();
    const keys = [
      generateKeyPairSync('rsa', { modulusLength: 1024 }).privateKey,
      generateKeyPairSync('ed25519').privateKey,
    ].map((key) => key.export({ type: 'pkcs8', format: 'pem' }) as string);
    for (const key of keys)
      expect(refusal(() => parseAuthority({ ...cacerts, 'ca-key.pem': key }, 'x', nowMs))).toMatch(/trust\/invalid/);
  });
});

describe('federation and serving', () => {
  test('a member issues its gateways an identity of its own, under its own CA', async () => {
    const input = { clusterset: 'prod', member: 'east', ttlS: 3_600, nowMs };
    const ca = await makeFederationCa({ ...input, ttlS: 1e7 }, random);
    const parsed = parseFederationCa(ca.cert, ca.key, 'federation CA');
    const issued = await issueFederationCertificate(parsed, input, random);
    const leaf = new X509Certificate(issued.cert);
    expect(leaf.subjectAltName).toBe('URI:spiffe://prod/cluster/east');
    expect(leaf.verify(parsed.certificate.publicKey)).toBe(true);
    expect(parsed.certificate.verify(parsed.certificate.publicKey)).toBe(true);
    const other = await makeFederationCa({ ...input, member: 'west' }, random);
    expect(refusal(() => parseFederationCa(ca.cert, other.key, 'CA'))).toMatch(/not the key/);
    expect(refusal(() => parseFederationCa(issued.cert, issued.key, 'CA'))).toMatch(/not a CA/);
  });

  test('the serving certificate has all names under which the controller is reached', async () => {
    const { authority } = await newAuthority();
    const dns = servingNames('isthmus-system', 'cluster.local');
    const serving = await issueServing(authority, { dns, ips: ['10.0.0.9'], ttlS: 3_600, nowMs }, random);
    const leaf = new X509Certificate(serving.cert);
    for (const name of [
      'isthmus-controller.isthmus-system.svc',
      'istiod.istio-system.svc',
      'istiod.istio-system.svc.cluster.local',
    ]) {
      expect(leaf.checkHost(name)).toBe(name);
    }
    expect(leaf.checkIP('10.0.0.9')).toBe('10.0.0.9');
    expect(serving.cert.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  });
});
