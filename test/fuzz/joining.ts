/** What passes between a cluster that joins and the authority, the authority's own file, marks, and keys that follow each other. */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { makeFederationCa } from '../../src/ca/federation.ts';
import type { Result } from '../../src/core/errors.ts';
import { parseRevocations, revocationsText } from '../../src/federation/revocation_text.ts';
import type { JoinAnswer, JoinRequest, JoinToken, Revocation } from '../../src/gen/isthmus/v1/joining_pb.ts';
import {
  decodeJoinAnswer,
  decodeJoinRequest,
  decodeJoinToken,
  encodeJoinAnswer,
  encodeJoinRequest,
  encodeJoinToken,
} from '../../src/records/joining.ts';
import { decodeRevocation, encodeRevocation } from '../../src/records/revocation.ts';
import { rawPublicKey } from '../../src/records/signed.ts';
import { decodeKeys, encodeKeys } from '../../src/records/succession.ts';
import { openAuthority, sealAuthority, sealedPublicKey, sealRandomBytes } from '../../src/trust/authority_file.ts';
import { signRevocation, verifyRevocation } from '../../src/trust/revocation.ts';
import { signLink, verifyChain } from '../../src/trust/succession.ts';
import { readToken, tokenText } from '../../src/trust/tokens.ts';
import { certificate } from '../unit/trust/certificates.ts';
import type { Target } from './target.ts';

const value = <T>(result: Result<T>): T => {
  if (!result.ok) throw result.error;
  return result.value;
};
const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const id = '0123456789abcdef0123456789abcdef';
const text = (words: string): Uint8Array => new Uint8Array(Buffer.from(words));
const authority = rawPublicKey(publicKey);

const token: JoinToken = {
  $typeName: 'isthmus.v1.JoinToken',
  clusterset: 'demo',
  cluster: 'us-west',
  id,
  secret: new Uint8Array(32).fill(7),
  authority,
  expiresMs: 1_000_000n,
  endpoints: ['https://etcd-0:2379'],
  writeEndpoints: ['https://gateway.example:15024'],
  etcdCa: text('ca'),
  etcdCert: text('cert'),
  etcdKey: text('key'),
  critical: [],
};
const request: JoinRequest = {
  $typeName: 'isthmus.v1.JoinRequest',
  clusterset: 'demo',
  cluster: 'us-west',
  token: id,
  wallMs: 5n,
  recordKey: authority,
  federationCa: await certificate('ca of us-west'),
  etcdRequest: text('request'),
  proposed: {
    $typeName: 'isthmus.v1.JoinTerms',
    region: 'r',
    zone: 'z',
    network: 'n',
    addressRanges: ['10.1.0.0/16'],
    namespaces: ['shop'],
    serviceAccounts: ['shop/checkout'],
    trustRoots: [],
  },
  critical: [],
};
const answer: JoinAnswer = {
  $typeName: 'isthmus.v1.JoinAnswer',
  clusterset: 'demo',
  cluster: 'us-west',
  token: id,
  request: new Uint8Array(32),
  refused: '',
  membership: new Uint8Array(40),
  etcdCert: text('cert'),
  writeEndpoints: ['https://gateway.example:15024'],
  critical: [],
};
const refused: JoinAnswer = { ...answer, refused: 'no', membership: new Uint8Array(), etcdCert: new Uint8Array() };
const revocation: Revocation = {
  $typeName: 'isthmus.v1.Revocation',
  clusterset: 'demo',
  member: 'us-west',
  sequence: 3n,
  reason: 'lost',
  wallMs: 5n,
  critical: [],
};

const both = <T>(
  name: string,
  seeds: readonly T[],
  encode: (of: T) => Result<Uint8Array>,
  decode: (bytes: Uint8Array) => Result<T>,
): Target<Uint8Array> => ({
  name,
  seeds: seeds.map((seed) => value(encode(seed))),
  run: decode,
  again: (decoded) => decode(value(encode(decoded as T))),
});

const marked = value(
  signRevocation({ clusterset: 'demo', member: 'us-west', sequence: 3n, reason: 'lost', wallMs: 5 }, privateKey),
);

const next = await makeFederationCa(
  { clusterset: 'demo', member: 'us-west', ttlS: 86_400, nowMs: 1_000 },
  (bytes) => new Uint8Array(randomBytes(bytes)),
);
const link = value(
  signLink({
    ...{ clusterset: 'demo', member: 'us-west', number: 1, signer: privateKey, madeMs: 1, previousUntilMs: 2 },
    recordKey: generateKeyPairSync('ed25519').privateKey,
    federation: { certPem: next.cert, keyPem: next.key },
  }),
);
const keysRecord = {
  $typeName: 'isthmus.v1.KeysRecord' as const,
  links: [link],
  seen: [{ $typeName: 'isthmus.v1.KeysSeen' as const, member: 'us-east', number: 3 }],
  critical: [],
};

export const joiningBytes: readonly Target<Uint8Array>[] = [
  both('join-token', [token], encodeJoinToken, decodeJoinToken),
  both('join-request', [request], encodeJoinRequest, decodeJoinRequest),
  both('join-answer', [answer, refused], encodeJoinAnswer, decodeJoinAnswer),
  both('revocation', [revocation], encodeRevocation, decodeRevocation),
  {
    name: 'revocation-signed',
    seeds: [marked],
    run: (bytes) => verifyRevocation(bytes, { clusterset: 'demo', name: 'us-west', authorityKey: publicKey }),
  },
  both('keys', [keysRecord], encodeKeys, decodeKeys),
  {
    name: 'keys-link',
    seeds: [link],
    run: (bytes) => verifyChain([bytes], { clusterset: 'demo', member: 'us-west' }, authority, undefined),
  },
];

const sealed = value(sealAuthority(privateKey, 'correct horse battery', new Uint8Array(randomBytes(sealRandomBytes))));
const written = value(
  tokenText(
    { ...token, secret: token.secret, expiresMs: 1_000_000, etcdCa: 'ca', etcdCert: 'cert', etcdKey: 'key' },
    privateKey,
  ),
);

export const joiningTexts: readonly Target<string>[] = [
  { name: 'token-text', seeds: [written], run: readToken },
  { name: 'revocations', seeds: [revocationsText('0123456789abcdef', [['us-west', marked]])], run: parseRevocations },
  { name: 'authority-file', seeds: [sealed], run: sealedPublicKey },
  // Each good try costs what a passphrase must cost.
  {
    name: 'authority-open',
    seeds: [sealed],
    slowMs: 5_000,
    memoryPerByte: 2_000_000,
    most: 30,
    run: (file) => openAuthority(file, 'correct horse battery'),
  },
];
