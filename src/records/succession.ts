/** The keys record and what its links hold. What a chain of them amounts to is decided in `trust/succession.ts`. */
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import {
  type KeysRecord,
  KeysRecordSchema,
  type KeysSeen,
  type SuccessionLink,
  SuccessionLinkSchema,
  type SuccessionOffer,
  SuccessionOfferSchema,
} from '../gen/isthmus/v1/keys_pb.ts';
import {
  criticalField,
  decoding,
  encoded,
  numberMax,
  readCritical,
  want,
  wantCount,
  wantDistinct,
  wantKnown,
  wantLabel,
} from './fields.ts';
import { WireReader } from './wire.ts';

const keyBytes = 32;
const proofBytesMax = 1_024;

const readSeen = (reader: WireReader): KeysSeen => {
  const seen: KeysSeen = { $typeName: 'isthmus.v1.KeysSeen', member: '', number: 0 };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) seen.member = reader.once('member').text('member', limits.nameLengthMax);
    else if (field === 2) seen.number = reader.once('number').uint32('number');
    else reader.skip();
  }
  wantLabel('keys.seen.member', seen.member);
  return seen;
};

const parseKeys = (bytes: Uint8Array): KeysRecord => {
  const record: KeysRecord = { $typeName: 'isthmus.v1.KeysRecord', links: [], seen: [], critical: [] };
  const reader = new WireReader(bytes, 'keys');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) {
      record.links.push(reader.bytes('links', limits.successionLinkBytesMax));
      wantCount('keys.links', record.links.length, limits.successionLinksMax);
    } else if (field === 2) {
      record.seen.push(reader.message('seen', readSeen));
      wantCount('keys.seen', record.seen.length, limits.membersMax);
    } else if (field === criticalField) readCritical(reader, record.critical);
    else reader.skip();
  }
  wantKnown('keys', record.critical, 2);
  wantDistinct(
    'keys.seen',
    record.seen.map(({ member }) => member),
  );
  return record;
};

export const decodeKeys = (bytes: Uint8Array): Result<KeysRecord> =>
  decoding('keys', bytes, limits.recordBytesMax, () => parseKeys(bytes));

export const encodeKeys = (record: KeysRecord): Result<Uint8Array> =>
  encoded(toBinary(KeysRecordSchema, record), decodeKeys);

const parseOffer = (bytes: Uint8Array): SuccessionOffer => {
  const offer: SuccessionOffer = {
    $typeName: 'isthmus.v1.SuccessionOffer',
    link: new Uint8Array(),
    recordKeyProof: new Uint8Array(),
    federationCaProof: new Uint8Array(),
  };
  const reader = new WireReader(bytes, 'offer');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) offer.link = reader.once('link').bytes('link', limits.successionLinkBytesMax);
    else if (field === 2)
      offer.recordKeyProof = reader.once('record_key_proof').bytes('record_key_proof', proofBytesMax);
    else if (field === 3) {
      offer.federationCaProof = reader.once('federation_ca_proof').bytes('federation_ca_proof', proofBytesMax);
    } else reader.skip();
  }
  return offer;
};

export const decodeOffer = (bytes: Uint8Array): Result<SuccessionOffer> =>
  decoding('offer', bytes, limits.successionLinkBytesMax, () => parseOffer(bytes));

export const encodeOffer = (offer: SuccessionOffer): Result<Uint8Array> =>
  encoded(toBinary(SuccessionOfferSchema, offer), decodeOffer);

const parseLink = (bytes: Uint8Array): SuccessionLink => {
  const link: SuccessionLink = {
    $typeName: 'isthmus.v1.SuccessionLink',
    clusterset: '',
    member: '',
    number: 0,
    previousKey: new Uint8Array(),
    recordKey: new Uint8Array(),
    federationCa: new Uint8Array(),
    madeMs: 0n,
    previousUntilMs: 0n,
    critical: [],
  };
  const reader = new WireReader(bytes, 'link');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) link.clusterset = reader.once('clusterset').text('clusterset', limits.nameLengthMax);
    else if (field === 2) link.member = reader.once('member').text('member', limits.nameLengthMax);
    else if (field === 3) link.number = reader.once('number').uint32('number');
    else if (field === 4) link.previousKey = reader.once('previous_key').bytes('previous_key', keyBytes);
    else if (field === 5) link.recordKey = reader.once('record_key').bytes('record_key', keyBytes);
    else if (field === 6) {
      link.federationCa = reader.once('federation_ca').bytes('federation_ca', limits.certificateBytesMax);
    } else if (field === 7) link.madeMs = reader.once('made_ms').uint64('made_ms', numberMax);
    else if (field === 8)
      link.previousUntilMs = reader.once('previous_until_ms').uint64('previous_until_ms', numberMax);
    else if (field === criticalField) readCritical(reader, link.critical);
    else reader.skip();
  }
  wantKnown('link', link.critical, 8);
  wantLabel('link.clusterset', link.clusterset);
  wantLabel('link.member', link.member);
  want(link.number > 0, 'link.number', link.number, 'above 0');
  want(link.previousKey.length === keyBytes, 'link.previous_key', link.previousKey.length, '32 bytes');
  want(link.recordKey.length === keyBytes, 'link.record_key', link.recordKey.length, '32 bytes');
  want(link.previousUntilMs > link.madeMs, 'link.previous_until_ms', link.previousUntilMs, 'after made_ms');
  return link;
};

export const decodeLink = (bytes: Uint8Array): Result<SuccessionLink> =>
  decoding('link', bytes, limits.successionLinkBytesMax, () => parseLink(bytes));

export const encodeLink = (link: SuccessionLink): Result<Uint8Array> =>
  encoded(toBinary(SuccessionLinkSchema, link), decodeLink);
