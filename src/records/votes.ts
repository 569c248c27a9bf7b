/** The votes record: the regions that a member holds for down. That it may not accuse its own is for `federation/` to see. */
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type VotesRecord, VotesRecordSchema } from '../gen/isthmus/v1/records_pb.ts';
import {
  criticalField,
  decoding,
  encoded,
  readCritical,
  wantCount,
  wantDistinct,
  wantKnown,
  wantLabelValue,
} from './fields.ts';
import { WireReader } from './wire.ts';

const parse = (bytes: Uint8Array): VotesRecord => {
  const record: VotesRecord = { $typeName: 'isthmus.v1.VotesRecord', accused: [], critical: [] };
  const reader = new WireReader(bytes, 'votes');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) {
      const region = reader.text('accused', limits.nameLengthMax);
      wantLabelValue('votes.accused', region);
      record.accused.push(region);
      wantCount('votes.accused', record.accused.length, limits.votesMax);
    } else if (field === criticalField) readCritical(reader, record.critical);
    else reader.skip();
  }
  wantKnown('votes', record.critical, 1);
  wantDistinct('votes.accused', record.accused);
  return record;
};

export const decodeVotes = (bytes: Uint8Array): Result<VotesRecord> =>
  decoding('votes', bytes, limits.recordBytesMax, () => parse(bytes));

export const encodeVotes = (record: VotesRecord): Result<Uint8Array> =>
  encoded(toBinary(VotesRecordSchema, record), decodeVotes);
