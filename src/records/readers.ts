/**
 * The readers record: for whom a member publishes records that nobody else may read, and the root of each such part. It is a record
 * like any other, so the manifest covers it; a manifest with a root for each reader was passed over, for it would be written anew,
 * grown by all of them, with every heartbeat.
 */

import type { KeyObject } from 'node:crypto';
import { sign } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type ReaderPart, type ReadersRecord, ReadersRecordSchema } from '../gen/isthmus/v1/records_pb.ts';
import {
  criticalField,
  decoding,
  encoded,
  readCritical,
  want,
  wantCount,
  wantDistinct,
  wantKnown,
  wantLabel,
} from './fields.ts';
import { WireReader } from './wire.ts';

const rootBytes = 32;

/** Relative to a part's prefix. */
export const saltKey = 'salt';

const parsePart = (reader: WireReader): ReaderPart => {
  const part: ReaderPart = { $typeName: 'isthmus.v1.ReaderPart', reader: '', root: new Uint8Array() };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) part.reader = reader.once('reader').text('reader', limits.nameLengthMax);
    else if (field === 2) part.root = reader.once('root').bytes('root', rootBytes);
    else reader.skip();
  }
  wantLabel('readers.reader', part.reader);
  want(part.root.length === rootBytes, 'readers.root', part.root.length, '32 bytes');
  return part;
};

const parse = (bytes: Uint8Array): ReadersRecord => {
  const record: ReadersRecord = { $typeName: 'isthmus.v1.ReadersRecord', parts: [], critical: [] };
  const reader = new WireReader(bytes, 'readers');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) {
      record.parts.push(reader.message('parts', parsePart));
      wantCount('readers.parts', record.parts.length, limits.membersMax);
    } else if (field === criticalField) readCritical(reader, record.critical);
    else reader.skip();
  }
  wantKnown('readers', record.critical, 1);
  wantDistinct(
    'readers.reader',
    record.parts.map(({ reader }) => reader),
  );
  return record;
};

export const decodeReaders = (bytes: Uint8Array): Result<ReadersRecord> =>
  decoding('readers', bytes, limits.recordBytesMax, () => parse(bytes));

export const encodeReaders = (record: ReadersRecord): Result<Uint8Array> =>
  encoded(toBinary(ReadersRecordSchema, record), decodeReaders);

/**
 * The bytes that hide a part's root: who may not read the part could try values until the root fits otherwise. A signature, so that all
 * replicas make the same without sharing more than the key that they share. @param key - the member's Ed25519 record key
 */
export const partSalt = (key: KeyObject, clusterset: string, member: string, reader: string): Uint8Array =>
  new Uint8Array(sign(null, Buffer.from(`isthmus/v1/part-salt\0${clusterset}\0${member}\0${reader}`, 'latin1'), key));
