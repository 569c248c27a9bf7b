import { execFileSync } from 'node:child_process';
import { randomBytes, X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { makeCrl, readCrl } from '../../../src/ca/crl.ts';
import { issueEtcdClient, newEtcdRequest } from '../../../src/ca/etcd_request.ts';
import { makeFederationCa } from '../../../src/ca/federation.ts';
import { newTestCa } from '../../real/pki.ts';

const nowMs = Date.now();
const random = (bytes: number) => new Uint8Array(randomBytes(bytes));
const testCa = async () => {
  const made = await newTestCa();
  return { cert: made.cert.toString(), key: made.key.toString() };
};
const input = { before: undefined, nowMs, ttlS: 3_600, what: 'test CA' };

describe('a certificate for a key that was made elsewhere', () => {
  it('has the name that the authority gives, for a client alone', async () => {
    const ca = await testCa();
    const { request, key } = await newEtcdRequest();
    const issued = await issueEtcdClient(ca, request, { commonName: 'us-west', ttlS: 60, nowMs }, random);
    const certificate = new X509Certificate(issued.cert);
    expect([certificate.subject, certificate.keyUsage]).toEqual(['CN=us-west', ['1.3.6.1.5.5.7.3.2']]);
    expect(certificate.verify(new X509Certificate(ca.cert).publicKey)).toBe(true);
    expect(key).toContain('PRIVATE KEY');
    expect(issued.serial).toBe(certificate.serialNumber.toLowerCase());
    await expect(
      issueEtcdClient(
        ca,
        request.replace(/.{5}(\s*-----END)/, 'AAAAA$1'),
        { commonName: 'x', ttlS: 60, nowMs },
        random,
      ),
    ).rejects.toMatchObject({ code: expect.stringMatching(/^csr\//) });
  });
});

describe('a revocation list', () => {
  it('names what was revoked, keeps what it named before, in both forms', async () => {
    const ca = await testCa();
    const first = await makeCrl({ ...input, ca, revoked: [{ serial: '0aff', atMs: nowMs }] });
    const second = await makeCrl({ ...input, ca, before: first.der, revoked: [{ serial: 'ff01', atMs: nowMs }] });
    expect(readCrl(second.pem, 'list').map((r) => r.serial)).toEqual(['aff', 'ff01']);
    expect(readCrl(second.der, 'list').map((r) => r.serial)).toEqual(['aff', 'ff01']);
    const again = await makeCrl({ ...input, ca, before: second.pem, revoked: [{ serial: '00FF01', atMs: nowMs }] });
    expect(readCrl(again.pem, 'list')).toHaveLength(2);
    const shown = execFileSync('openssl', ['crl', '-noout', '-text'], { input: second.pem, encoding: 'utf8' });
    expect(shown).toMatch(/Serial Number: 0AFF[\s\S]*Serial Number: FF01/);
  });

  it('is made by the CA’s own key alone, from a list that is one', async () => {
    const ca = await testCa();
    const other = await makeFederationCa({ clusterset: 'demo', member: 'x', ttlS: 60, nowMs }, random);
    await expect(makeCrl({ ...input, ca: { ...ca, key: other.key }, revoked: [] })).rejects.toMatchObject({
      code: 'trust/invalid',
    });
    await expect(makeCrl({ ...input, ca, before: 'nonsense', revoked: [] })).rejects.toMatchObject({
      code: 'trust/invalid',
    });
  });
});
