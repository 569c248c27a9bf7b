/** The mark of a member that was put out: bytes under the authority's signature. What follows from it is `trust/revocation.ts`. */
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type Revocation, RevocationSchema } from '../gen/isthmus/v1/joining_pb.ts';
import { criticalField, decoding, encoded, numberMax, readCritical, want, wantKnown, wantLabel } from './fields.ts';
import { WireReader } from './wire.ts';

export const revocationReasonMax = 256;

const parse = (bytes: Uint8Array): Revocation => {
  const mark: Revocation = {
    $typeName: 'isthmus.v1.Revocation',
    clusterset: '',
    member: '',
    sequence: 0n,
    reason: '',
    wallMs: 0n,
    critical: [],
  };
  const reader = new WireReader(bytes, 'revocation');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) mark.clusterset = reader.once('clusterset').text('clusterset', limits.nameLengthMax);
    else if (field === 2) mark.member = reader.once('member').text('member', limits.nameLengthMax);
    else if (field === 3) mark.sequence = reader.once('sequence').uint64('sequence', numberMax);
    else if (field === 4) mark.reason = reader.once('reason').text('reason', revocationReasonMax);
    else if (field === 5) mark.wallMs = reader.once('wall_ms').uint64('wall_ms', numberMax);
    else if (field === criticalField) readCritical(reader, mark.critical);
    else reader.skip();
  }
  wantKnown('revocation', mark.critical, 5);
  wantLabel('revocation.clusterset', mark.clusterset);
  wantLabel('revocation.member', mark.member);
  want(mark.sequence > 0n, 'revocation.sequence', mark.sequence, 'above 0');
  return mark;
};

export const decodeRevocation = (bytes: Uint8Array): Result<Revocation> =>
  decoding('revocation', bytes, limits.revocationBytesMax, () => parse(bytes));

export const encodeRevocation = (mark: Revocation): Result<Uint8Array> =>
  encoded(toBinary(RevocationSchema, mark), decodeRevocation);
