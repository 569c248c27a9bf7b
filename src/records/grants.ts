/**
 * The grants record: how much spill a member takes from one reader. Numbers beyond reason are cut, not refused: a grant is an
 * upper bound that its own member enforces, and to refuse it would leave an older one in use.
 */
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type GrantsRecord, GrantsRecordSchema, type SpillGrant } from '../gen/isthmus/v1/records_pb.ts';
import {
  criticalField,
  decoding,
  encoded,
  readCritical,
  wantCount,
  wantDistinct,
  wantKnown,
  wantLabel,
  wantService,
} from './fields.ts';
import { WireReader } from './wire.ts';

/** Of each service that has no grant of its own. */
export const everyService = '*';

const parseGrant = (reader: WireReader): SpillGrant => {
  const grant: SpillGrant = { $typeName: 'isthmus.v1.SpillGrant', service: '', perSecond: 0 };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) grant.service = reader.once('service').text('service', 2 * limits.nameLengthMax + 1);
    else if (field === 2) {
      grant.perSecond = Math.min(limits.capacityPerSecondMax, reader.once('per_second').uint32('per_second'));
    } else reader.skip();
  }
  if (grant.service !== everyService) wantService('grants.service', grant.service);
  return grant;
};

const parse = (bytes: Uint8Array): GrantsRecord => {
  const record: GrantsRecord = { $typeName: 'isthmus.v1.GrantsRecord', reader: '', grants: [], critical: [] };
  const reader = new WireReader(bytes, 'grants');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) record.reader = reader.once('reader').text('reader', limits.nameLengthMax);
    else if (field === 2) {
      record.grants.push(reader.message('grants', parseGrant));
      wantCount('grants.grants', record.grants.length, limits.grantsPerReaderMax);
    } else if (field === criticalField) readCritical(reader, record.critical);
    else reader.skip();
  }
  wantKnown('grants', record.critical, 2);
  wantLabel('grants.reader', record.reader);
  wantDistinct(
    'grants.service',
    record.grants.map(({ service }) => service),
  );
  return record;
};

export const decodeGrants = (bytes: Uint8Array): Result<GrantsRecord> =>
  decoding('grants', bytes, limits.recordBytesMax, () => parse(bytes));

export const encodeGrants = (record: GrantsRecord): Result<Uint8Array> =>
  encoded(toBinary(GrantsRecordSchema, record), decodeGrants);
