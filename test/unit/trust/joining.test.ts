import { generateKeyPairSync, type KeyObject, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeJoinAnswer, decodeJoinRequest, decodeJoinToken } from '../../../src/records/joining.ts';
import { decodeRevocation } from '../../../src/records/revocation.ts';
import { encodeSigned, rawPublicKey } from '../../../src/records/signed.ts';
import {
  agreedTerms,
  signAnswer,
  signRequest,
  type Terms,
  verifyAnswer,
  verifyRequest,
} from '../../../src/trust/joining.ts';
import { signRevocation, verifyRevocation } from '../../../src/trust/revocation.ts';
import {
  authorityOfToken,
  checkTokenTime,
  readToken,
  type Token,
  tokenKey,
  tokenText,
  tokenVerifier,
} from '../../../src/trust/tokens.ts';
import { testMember } from './certificates.ts';

const ed25519 = (): KeyObject => generateKeyPairSync('ed25519').privateKey;
const authority = ed25519();
const noTerms: Terms = {
  region: '',
  zone: '',
  network: '',
  addressRanges: [],
  namespaces: [],
  serviceAccounts: [],
};
const tokenOf = (over: Partial<Token> = {}): Token => ({
  clusterset: 'demo',
  cluster: 'us-west',
  id: randomBytes(16).toString('hex'),
  secret: new Uint8Array(randomBytes(32)),
  authority: rawPublicKey(authority),
  expiresMs: 1_000_000,
  endpoints: ['https://etcd-0:2379'],
  etcdCa: 'ca',
  etcdCert: 'cert',
  etcdKey: 'key',
  ...over,
});
const textOf = (token: Token, key = authority): string => {
  const text = tokenText(token, key);
  if (!text.ok) throw text.error;
  return text.value;
};
const codeOf = (result: { ok: boolean; error?: { code: string } }): string => (result.ok ? 'ok' : result.error!.code);

describe('a join token', () => {
  it('says what was put into it, on one line', () => {
    const token = tokenOf();
    const text = textOf(token);
    expect(text).not.toMatch(/\s/);
    const read = readToken(` ${text}\n`);
    expect(read.ok && read.value).toEqual(token);
    expect(rawPublicKey(authorityOfToken(token))).toEqual(rawPublicKey(authority));
  });

  it('is refused when any character of it is another', () => {
    const text = textOf(tokenOf());
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    for (let at = 15; at < text.length; at++) {
      const other = letters[(letters.indexOf(text[at]!) + 1) % 64]!;
      expect(codeOf(readToken(text.slice(0, at) + other + text.slice(at + 1))), `at ${at}`).toBe('token/altered');
    }
    expect(codeOf(readToken(text.slice(0, -4)))).toBe('token/altered');
    expect(codeOf(readToken(`${text}AAAA`))).toBe('token/altered');
    expect(codeOf(readToken(`${text}!`))).toBe('token/altered');
    for (const none of ['', 'hello', text.slice(1), text.replace('1.', '2.'), 'x'.repeat(100_000)]) {
      expect(codeOf(readToken(none))).toBe('token/malformed');
    }
    // Signed by somebody else than it says.
    expect(codeOf(readToken(textOf(tokenOf(), ed25519())))).toBe('token/altered');
  });

  it('ends', () => {
    const token = tokenOf({ expiresMs: 5_000 });
    expect(codeOf(checkTokenTime(token, 4_999))).toBe('ok');
    expect(codeOf(checkTokenTime(token, 5_000))).toBe('token/expired');
  });

  it('leaves at the approver what proves the secret and does not make it', () => {
    const { secret } = tokenOf();
    expect(tokenVerifier(secret)).toEqual(rawPublicKey(tokenKey(secret)));
    expect(Buffer.from(tokenVerifier(secret)).includes(Buffer.from(secret.subarray(0, 8)))).toBe(false);
  });
});

const issuedOf = (token: Token) => ({ ...token, verifier: tokenVerifier(token.secret) });

describe('a join request', () => {
  const request = async (token: Token, recordKey = ed25519(), proposed: Terms = noTerms): Promise<Uint8Array> => {
    const { member } = await testMember('us-west');
    const { federationCa } = member;
    const signed = signRequest(token, { wallMs: 1, federationCa, etcdRequest: 'csr', proposed }, recordKey);
    if (!signed.ok) throw signed.error;
    return signed.value;
  };

  it('proves the secret and the record key', async () => {
    const token = tokenOf();
    const recordKey = ed25519();
    const bytes = await request(token, recordKey, { ...noTerms, region: 'us-west', addressRanges: ['10.2.0.0/16'] });
    const verified = verifyRequest(bytes, issuedOf(token));
    expect(verified.ok && verified.value).toMatchObject({
      recordKey: rawPublicKey(recordKey),
      etcdRequest: 'csr',
      proposed: { region: 'us-west', addressRanges: ['10.2.0.0/16'] },
    });
    expect(codeOf(verifyRequest(bytes, issuedOf(tokenOf())))).toBe('join/refused');
    for (let at = 0; at < bytes.length; at += 7) {
      const changed = bytes.slice();
      changed[at]! ^= 1;
      expect(codeOf(verifyRequest(changed, issuedOf(token))), `at ${at}`).toBe('join/refused');
    }
  });

  it('is for one cluster, and brings a key and a CA of its own', async () => {
    const token = tokenOf();
    for (const other of [{ cluster: 'us-east' }, { clusterset: 'prod' }, { id: '0'.repeat(32) }]) {
      const bytes = await request({ ...token, ...other });
      expect(codeOf(verifyRequest(bytes, issuedOf(token)))).toBe('token/mismatch');
    }
    // A record key that its sender does not have.
    const { member } = await testMember('us-west');
    const stolen = { ...token };
    const good = await request(token);
    const inner = encodeSigned('join-keys', good, 65_536, ed25519());
    if (!inner.ok) throw inner.error;
    const outer = encodeSigned('join-request', inner.value, 65_536, tokenKey(stolen.secret));
    expect(outer.ok && codeOf(verifyRequest(outer.value, issuedOf(token)))).toBe('join/refused');
    // A leaf certificate as a CA.
    const bytes = signRequest(
      token,
      { wallMs: 1, federationCa: member.federationCa.slice(0, -1), etcdRequest: '', proposed: noTerms },
      ed25519(),
    );
    expect(bytes.ok && codeOf(verifyRequest(bytes.value, issuedOf(token)))).toBe('trust/root-refused');
  });

  it('is answered by the authority, for this request alone', async () => {
    const token = tokenOf();
    const bytes = await request(token);
    const answer = { refused: '', membership: new Uint8Array([1]), etcdCert: 'cert' };
    const signed = signAnswer(issuedOf(token), bytes, answer, authority);
    if (!signed.ok) throw signed.error;
    const key = authorityOfToken(token);
    expect(verifyAnswer(signed.value, token, bytes, key)).toEqual({ ok: true, value: answer });
    expect(codeOf(verifyAnswer(signed.value, token, await request(token), key))).toBe('token/used');
    expect(codeOf(verifyAnswer(signed.value, tokenOf(), bytes, key))).toBe('token/mismatch');
    const forged = signAnswer(issuedOf(token), bytes, answer, ed25519());
    expect(forged.ok && codeOf(verifyAnswer(forged.value, token, bytes, key))).toBe('member/signature');
    const no = signAnswer(issuedOf(token), bytes, { ...answer, refused: 'too late' }, authority);
    expect(no.ok && verifyAnswer(no.value, token, bytes, key)).toMatchObject({
      error: { code: 'join/refused', message: expect.stringContaining('too late') },
    });
  });

  it('fills in what the token left open, and nothing else', () => {
    const granted = { ...noTerms, region: 'us-west', namespaces: ['shop'] };
    const proposed = {
      region: 'eu',
      zone: 'a',
      network: 'n',
      addressRanges: ['10.0.0.0/8'],
      namespaces: ['*'],
      serviceAccounts: ['x/y'],
    };
    expect(agreedTerms(granted, proposed)).toEqual({
      terms: { ...proposed, region: 'us-west', namespaces: ['shop'], serviceAccounts: [] },
      open: ['zone a', 'network n', 'address ranges 10.0.0.0/8'],
    });
  });
});

describe('a revocation', () => {
  const mark = { clusterset: 'demo', member: 'us-west', sequence: 7n, reason: 'laptop stolen', wallMs: 5 };
  const context = { clusterset: 'demo', name: 'us-west', authorityKey: authority };
  const signed = signRevocation(mark, authority);
  if (!signed.ok) throw signed.error;

  it('is the authority’s word on one name', () => {
    expect(verifyRevocation(signed.value, context)).toEqual({ ok: true, value: mark });
    expect(codeOf(verifyRevocation(signed.value, { ...context, authorityKey: ed25519() }))).toBe('member/signature');
    expect(codeOf(verifyRevocation(signed.value, { ...context, name: 'us-east' }))).toBe('member/signature');
    expect(codeOf(verifyRevocation(signed.value, { ...context, clusterset: 'prod' }))).toBe('member/signature');
    expect(codeOf(signRevocation({ ...mark, sequence: 0n }, authority))).toBe('record/malformed');
  });
});

it('decodes any bytes to an answer or an error', () => {
  const decoders = [decodeJoinToken, decodeJoinRequest, decodeJoinAnswer, decodeRevocation];
  const seeds = [new Uint8Array([10, 4, 100, 101, 109, 111, 18, 7, 117, 115, 45, 119, 101, 115, 116])];
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.constantFrom(...seeds)), (bytes) => {
      for (const decode of decoders) {
        const result = decode(bytes);
        expect(result.ok || /^record\//.test(result.error.code)).toBe(true);
      }
    }),
    { numRuns: 2_000 },
  );
});
