import 'reflect-metadata';
import {
  Attribute,
  BasicConstraintsExtension,
  ChallengePasswordAttribute,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
} from '@peculiar/x509';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { makeRequest } from '../../../src/ca/client.ts';
import { readRequest } from '../../../src/ca/csr.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import { derOf, hugeRsaKey, makeCsr, makeRsaCsr, pemOf, tamper } from './requests.ts';

const id = 'spiffe://cluster.local/ns/shop/sa/checkout';
const refusal = async (text: string): Promise<string> => {
  try {
    readRequest(text);
    return 'accepted';
  } catch (error) {
    if (!(error instanceof IsthmusError)) throw error;
    return error.code;
  }
};

describe('accepted', () => {
  test('what ztunnel sends: P-256, one URI, empty subject', async () => {
    const { csr } = await makeRequest(id);
    const request = readRequest(csr);
    expect(request.uri).toBe(id);
    expect(request.publicKey.length).toBe(91);
  });
  test('no name at all, for the request decides nothing', async () => {
    expect(readRequest(await makeCsr([])).uri).toBeUndefined();
  });
  test('a subject, which is ignored', async () => {
    expect(readRequest(await makeCsr([id], { subject: 'CN=admin,O=system:masters' })).uri).toBe(id);
  });
  test('Windows line ends and space around', async () => {
    const csr = await makeCsr([id]);
    expect(readRequest(`\r\n${csr.replaceAll('\n', '\r\n')}\r\n\n`).uri).toBe(id);
  });
});

describe('refused', () => {
  test('two URIs, or other names', async () => {
    expect(await refusal(await makeCsr([id, 'spiffe://cluster.local/ns/shop/sa/admin']))).toBe('csr/denied');
    expect(await refusal(await makeCsr([id, id]))).toBe('csr/denied');
    expect(await refusal(await makeCsr([id], { names: [{ type: 'dns', value: 'istiod.istio-system.svc' }] }))).toBe(
      'csr/denied',
    );
    expect(await refusal(await makeCsr([], { names: [{ type: 'dns', value: 'a.b' }] }))).toBe('csr/denied');
    expect(await refusal(await makeCsr([], { names: [{ type: 'ip', value: '10.0.0.1' }] }))).toBe('csr/denied');
    expect(await refusal(await makeCsr([], { names: [{ type: 'email', value: 'a@b.c' }] }))).toBe('csr/denied');
    const twice = { extensions: [new SubjectAlternativeNameExtension([{ type: 'url', value: id }])] };
    expect(await refusal(await makeCsr([id], twice))).toBe('csr/denied');
  });
  test('anything else that it asks for', async () => {
    expect(await refusal(await makeCsr([id], { extensions: [new BasicConstraintsExtension(true, 3, true)] }))).toBe(
      'csr/denied',
    );
    expect(await refusal(await makeCsr([id], { extensions: [new BasicConstraintsExtension(false)] }))).toBe(
      'csr/denied',
    );
    expect(
      await refusal(await makeCsr([id], { extensions: [new KeyUsagesExtension(KeyUsageFlags.keyCertSign)] })),
    ).toBe('csr/denied');
    expect(
      await refusal(await makeCsr([id], { extensions: [new ExtendedKeyUsageExtension(['1.3.6.1.5.5.7.3.3'])] })),
    ).toBe('csr/denied');
    expect(await refusal(await makeCsr([id], { attributes: [new ChallengePasswordAttribute('x')] }))).toBe(
      'csr/denied',
    );
    expect(await refusal(await makeCsr([], { attributes: [new Attribute('1.2.3.4', [new Uint8Array([5, 0])])] }))).toBe(
      'csr/denied',
    );
  });
  test('keys that are not P-256', async () => {
    expect(await refusal(await makeRsaCsr(2048))).toBe('csr/key');
    const p384 = { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' };
    expect(await refusal(await makeCsr([id], { algorithm: p384 }))).toBe('csr/key');
    expect(
      await refusal(await makeCsr([id], { algorithm: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-512' } })),
    ).toBe('csr/key');
  });
  test('a key of 16k bits: nothing is computed with it', async () => {
    const csr = tamper(await makeRsaCsr(2048), (request) => {
      request.certificationRequestInfo.subjectPKInfo.subjectPublicKey = hugeRsaKey(16_384);
    });
    expect(['csr/key', 'csr/malformed']).toContain(await refusal(csr));
  });
  test('a point that is not on the curve', async () => {
    const csr = tamper(await makeCsr([id]), (request) => {
      new Uint8Array(request.certificationRequestInfo.subjectPKInfo.subjectPublicKey)[40]! ^= 1;
    });
    expect(await refusal(csr)).toBe('csr/malformed');
  });
  test('a signature that is not by its own key', async () => {
    const [one, other] = [await makeCsr([id]), await makeCsr([id])];
    expect(
      await refusal(
        tamper(one, (request) => {
          tamper(other, (another) => {
            request.signature = another.signature;
          });
        }),
      ),
    ).toBe('csr/malformed');
    const otherName = tamper(one, (request) => {
      const attribute = request.certificationRequestInfo.attributes[0]!;
      const value = Buffer.from(attribute.values[0]!);
      value.write('spiffe://cluster.local/ns/shop/sa/checkou7', value.indexOf('spiffe'));
      attribute.values[0] = new Uint8Array(value).buffer;
    });
    expect(await refusal(otherName)).toBe('csr/malformed');
  });
  test('bytes after the request, or missing from it', async () => {
    const der = derOf(await makeCsr([id]));
    expect(await refusal(pemOf(Buffer.concat([der, Buffer.from([0])])))).toBe('csr/malformed');
    expect(await refusal(pemOf(der.subarray(0, -1)))).toBe('csr/malformed');
    const csr = await makeCsr([id]);
    expect(await refusal(csr + csr)).toBe('csr/malformed');
    expect(await refusal(csr.replace('REQUEST', 'REQUESTS'))).toBe('csr/malformed');
    expect(await refusal('')).toBe('csr/malformed');
  });
  test('too many bytes, before anything is parsed', async () => {
    const csr = await makeCsr([`${id}${'x'.repeat(limits.csrBytesMax)}`]);
    expect(await refusal(csr)).toBe('csr/malformed');
    expect(await refusal(' '.repeat(10_000_000))).toBe('csr/malformed');
  });
  test('garbage, without any other error', async () => {
    const good = derOf(await makeCsr([id]));
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 600 }), async (bytes) => {
        expect(await refusal(pemOf(bytes))).not.toBe('accepted');
        expect(await refusal(Buffer.from(bytes).toString('latin1'))).toBe('csr/malformed');
      }),
      { numRuns: 200 },
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const bytes = Uint8Array.from(good);
        bytes[at]! ^= flip;
        expect(await refusal(pemOf(bytes))).not.toBe('accepted');
      }),
      { numRuns: 1_500 },
    );
  });
  test('ASN.1 nested a thousand deep', async () => {
    let nested = Buffer.from([0x30, 0x00]);
    for (let i = 0; i < 1_000; i++) {
      const head =
        nested.length < 0x80
          ? [0x30, nested.length]
          : nested.length < 0x100
            ? [0x30, 0x81, nested.length]
            : [0x30, 0x82, nested.length >> 8, nested.length & 0xff];
      nested = Buffer.concat([Buffer.from(head), nested]);
    }
    expect(await refusal(pemOf(nested))).toBe('csr/malformed');
  });
});
