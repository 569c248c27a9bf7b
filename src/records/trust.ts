/** The trust record: the SPIFFE bundle of a member's mesh. What the certificates must be is decided in `trust/bundle.ts`. */
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type TrustRecord, TrustRecordSchema } from '../gen/isthmus/v1/records_pb.ts';
import {
  criticalField,
  decoding,
  encoded,
  isTrustDomain,
  numberMax,
  readCritical,
  want,
  wantCount,
  wantDistinct,
  wantKnown,
} from './fields.ts';
import { WireReader } from './wire.ts';

const refreshHintMaxS = 30 * 86_400;

const parse = (bytes: Uint8Array): TrustRecord => {
  const record: TrustRecord = {
    $typeName: 'isthmus.v1.TrustRecord',
    trustDomain: '',
    roots: [],
    sequence: 0n,
    refreshHintS: 0,
    critical: [],
  };
  const reader = new WireReader(bytes, 'trust');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) record.trustDomain = reader.once('trust_domain').text('trust_domain', limits.hostnameLengthMax);
    else if (field === 2) {
      record.roots.push(reader.bytes('roots', limits.certificateBytesMax));
      wantCount('trust.roots', record.roots.length, limits.rootsPerMemberMax);
    } else if (field === 3) record.sequence = reader.once('sequence').uint64('sequence', numberMax);
    else if (field === 4) record.refreshHintS = reader.once('refresh_hint_s').uint32('refresh_hint_s', refreshHintMaxS);
    else if (field === criticalField) readCritical(reader, record.critical);
    else reader.skip();
  }
  wantKnown('trust', record.critical, 4);
  want(isTrustDomain(record.trustDomain), 'trust.trust_domain', record.trustDomain, 'a SPIFFE trust domain');
  want(record.roots.length > 0, 'trust.roots', 'none', 'a certificate');
  wantDistinct(
    'trust.roots',
    record.roots.map((root) => Buffer.from(root).toString('base64')),
  );
  return record;
};

export const decodeTrust = (bytes: Uint8Array): Result<TrustRecord> =>
  decoding('trust', bytes, limits.recordBytesMax, () => parse(bytes));

export const encodeTrust = (record: TrustRecord): Result<Uint8Array> =>
  encoded(toBinary(TrustRecordSchema, record), decodeTrust);
