/** What passes between a cluster that joins and the authority. What it must amount to is checked in `trust/joining.ts`. */
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import {
  type JoinAnswer,
  JoinAnswerSchema,
  type JoinRequest,
  JoinRequestSchema,
  type JoinTerms,
  type JoinToken,
  JoinTokenSchema,
} from '../gen/isthmus/v1/joining_pb.ts';
import {
  criticalField,
  decoding,
  encoded,
  fingerprintBytes,
  numberMax,
  readCritical,
  want,
  wantCount,
  wantFingerprints,
  wantKnown,
  wantLabel,
  wantOptionalLabelValue,
} from './fields.ts';
import { checkLists, readListed } from './terms.ts';
import { WireReader } from './wire.ts';

const pemBytesMax = 16 * 1024;
const endpointsMax = 16;
const refusalLengthMax = 512;
const tokenId = /^[0-9a-f]{32}$/;

export const isTokenId = (text: string): boolean => tokenId.test(text);

const wantToken = (field: string, value: string): void => want(isTokenId(value), field, value, '32 hexadecimal digits');

export const noTerms = (): JoinTerms => ({
  $typeName: 'isthmus.v1.JoinTerms',
  region: '',
  zone: '',
  network: '',
  addressRanges: [],
  namespaces: [],
  serviceAccounts: [],
  trustRoots: [],
});

const readTerms = (reader: WireReader): JoinTerms => {
  const terms = noTerms();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) terms.region = reader.once('region').text('region', limits.nameLengthMax);
    else if (field === 2) terms.zone = reader.once('zone').text('zone', limits.nameLengthMax);
    else if (field === 3) terms.network = reader.once('network').text('network', limits.nameLengthMax);
    else if (field === 4) readListed(reader, 'terms', 'addressRanges', terms);
    else if (field === 5) readListed(reader, 'terms', 'namespaces', terms);
    else if (field === 6) readListed(reader, 'terms', 'serviceAccounts', terms);
    else if (field === 7) {
      terms.trustRoots.push(reader.bytes('trust_roots', fingerprintBytes));
      wantCount('terms.trust_roots', terms.trustRoots.length, limits.registeredRootsMax);
    } else reader.skip();
  }
  wantFingerprints('terms.trust_roots', terms.trustRoots);
  for (const name of ['region', 'zone', 'network'] as const) wantOptionalLabelValue(`terms.${name}`, terms[name]);
  checkLists('terms', terms);
  return terms;
};

const parseToken = (bytes: Uint8Array): JoinToken => {
  const token: JoinToken = {
    $typeName: 'isthmus.v1.JoinToken',
    clusterset: '',
    cluster: '',
    id: '',
    secret: new Uint8Array(),
    authority: new Uint8Array(),
    expiresMs: 0n,
    endpoints: [],
    writeEndpoints: [],
    etcdCa: new Uint8Array(),
    etcdCert: new Uint8Array(),
    etcdKey: new Uint8Array(),
    critical: [],
  };
  const reader = new WireReader(bytes, 'token');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) token.clusterset = reader.once('clusterset').text('clusterset', limits.nameLengthMax);
    else if (field === 2) token.cluster = reader.once('cluster').text('cluster', limits.nameLengthMax);
    else if (field === 3) token.id = reader.once('id').text('id', 32);
    else if (field === 4) token.secret = reader.once('secret').bytes('secret', 32);
    else if (field === 5) token.authority = reader.once('authority').bytes('authority', 32);
    else if (field === 6) token.expiresMs = reader.once('expires_ms').uint64('expires_ms', numberMax);
    else if (field === 7) {
      token.endpoints.push(reader.text('endpoints', limits.hostnameLengthMax + 16));
      wantCount('token.endpoints', token.endpoints.length, endpointsMax);
    } else if (field === 8) token.etcdCa = reader.once('etcd_ca').bytes('etcd_ca', pemBytesMax);
    else if (field === 9) token.etcdCert = reader.once('etcd_cert').bytes('etcd_cert', pemBytesMax);
    else if (field === 10) token.etcdKey = reader.once('etcd_key').bytes('etcd_key', pemBytesMax);
    else if (field === 11) {
      token.writeEndpoints.push(reader.text('write_endpoints', limits.hostnameLengthMax + 16));
      wantCount('token.write_endpoints', token.writeEndpoints.length, endpointsMax);
    } else if (field === criticalField) readCritical(reader, token.critical);
    else reader.skip();
  }
  wantKnown('token', token.critical, 11);
  wantLabel('token.clusterset', token.clusterset);
  wantLabel('token.cluster', token.cluster);
  wantToken('token.id', token.id);
  want(token.secret.length === 32, 'token.secret', token.secret.length, '32 bytes');
  want(token.authority.length === 32, 'token.authority', token.authority.length, '32 bytes');
  want(token.endpoints.length > 0, 'token.endpoints', 'none', 'an address of etcd');
  return token;
};

export const decodeJoinToken = (bytes: Uint8Array): Result<JoinToken> =>
  decoding('token', bytes, limits.joinTokenBytesMax, () => parseToken(bytes));

export const encodeJoinToken = (token: JoinToken): Result<Uint8Array> =>
  encoded(toBinary(JoinTokenSchema, token), decodeJoinToken);

const parseRequest = (bytes: Uint8Array): JoinRequest => {
  const request: JoinRequest = {
    $typeName: 'isthmus.v1.JoinRequest',
    clusterset: '',
    cluster: '',
    token: '',
    wallMs: 0n,
    recordKey: new Uint8Array(),
    federationCa: new Uint8Array(),
    etcdRequest: new Uint8Array(),
    critical: [],
  };
  const reader = new WireReader(bytes, 'join');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) request.clusterset = reader.once('clusterset').text('clusterset', limits.nameLengthMax);
    else if (field === 2) request.cluster = reader.once('cluster').text('cluster', limits.nameLengthMax);
    else if (field === 3) request.token = reader.once('token').text('token', 32);
    else if (field === 4) request.wallMs = reader.once('wall_ms').uint64('wall_ms', numberMax);
    else if (field === 5) request.recordKey = reader.once('record_key').bytes('record_key', 32);
    else if (field === 6) {
      request.federationCa = reader.once('federation_ca').bytes('federation_ca', limits.certificateBytesMax);
    } else if (field === 7) {
      request.etcdRequest = reader.once('etcd_request').bytes('etcd_request', limits.csrBytesMax);
    } else if (field === 8) request.proposed = reader.once('proposed').message('proposed', readTerms);
    else if (field === criticalField) readCritical(reader, request.critical);
    else reader.skip();
  }
  wantKnown('join', request.critical, 8);
  wantLabel('join.clusterset', request.clusterset);
  wantLabel('join.cluster', request.cluster);
  wantToken('join.token', request.token);
  want(request.recordKey.length === 32, 'join.record_key', request.recordKey.length, '32 bytes');
  return request;
};

export const decodeJoinRequest = (bytes: Uint8Array): Result<JoinRequest> =>
  decoding('join', bytes, limits.joinRequestBytesMax, () => parseRequest(bytes));

export const encodeJoinRequest = (request: JoinRequest): Result<Uint8Array> =>
  encoded(toBinary(JoinRequestSchema, request), decodeJoinRequest);

const parseAnswer = (bytes: Uint8Array): JoinAnswer => {
  const answer: JoinAnswer = {
    $typeName: 'isthmus.v1.JoinAnswer',
    clusterset: '',
    cluster: '',
    token: '',
    request: new Uint8Array(),
    refused: '',
    membership: new Uint8Array(),
    etcdCert: new Uint8Array(),
    writeEndpoints: [],
    critical: [],
  };
  const reader = new WireReader(bytes, 'answer');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) answer.clusterset = reader.once('clusterset').text('clusterset', limits.nameLengthMax);
    else if (field === 2) answer.cluster = reader.once('cluster').text('cluster', limits.nameLengthMax);
    else if (field === 3) answer.token = reader.once('token').text('token', 32);
    else if (field === 4) answer.request = reader.once('request').bytes('request', 32);
    else if (field === 5) answer.refused = reader.once('refused').text('refused', refusalLengthMax);
    else if (field === 6) {
      answer.membership = reader.once('membership').bytes('membership', limits.membershipBytesMax + 1024);
    } else if (field === 7) answer.etcdCert = reader.once('etcd_cert').bytes('etcd_cert', pemBytesMax);
    else if (field === 8) {
      answer.writeEndpoints.push(reader.text('write_endpoints', limits.hostnameLengthMax + 16));
      wantCount('answer.write_endpoints', answer.writeEndpoints.length, endpointsMax);
    } else if (field === criticalField) readCritical(reader, answer.critical);
    else reader.skip();
  }
  wantKnown('answer', answer.critical, 8);
  wantLabel('answer.clusterset', answer.clusterset);
  wantLabel('answer.cluster', answer.cluster);
  wantToken('answer.token', answer.token);
  want(answer.request.length === 32, 'answer.request', answer.request.length, '32 bytes');
  return answer;
};

export const decodeJoinAnswer = (bytes: Uint8Array): Result<JoinAnswer> =>
  decoding('answer', bytes, limits.joinAnswerBytesMax, () => parseAnswer(bytes));

export const encodeJoinAnswer = (answer: JoinAnswer): Result<Uint8Array> =>
  encoded(toBinary(JoinAnswerSchema, answer), decodeJoinAnswer);

/** For the text of a refusal: every text in a record is printable ASCII, and bounded. */
export const refusalText = (text: string): string =>
  text
    .replaceAll('’', "'")
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, refusalLengthMax);
