/** The vantage record: what a member measures of the others. */
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type PeerVantage, type VantageRecord, VantageRecordSchema } from '../gen/isthmus/v1/records_pb.ts';
import {
  criticalField,
  decoding,
  encoded,
  readCritical,
  wantCount,
  wantDistinct,
  wantKnown,
  wantLabel,
} from './fields.ts';
import { WireReader } from './wire.ts';

/** A round trip above a minute is no round trip. */
const rttMaxMs = 60_000;

const parsePeer = (reader: WireReader): PeerVantage => {
  const peer: PeerVantage = {
    $typeName: 'isthmus.v1.PeerVantage',
    member: '',
    rttMs: 0,
    rttVarMs: 0,
    reachable: false,
  };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) peer.member = reader.once('member').text('member', limits.nameLengthMax);
    else if (field === 2) peer.rttMs = reader.once('rtt_ms').uint32('rtt_ms', rttMaxMs);
    else if (field === 3) peer.rttVarMs = reader.once('rtt_var_ms').uint32('rtt_var_ms', rttMaxMs);
    else if (field === 4) peer.reachable = reader.once('reachable').bool('reachable');
    else reader.skip();
  }
  wantLabel('vantage.member', peer.member);
  return peer;
};

const parse = (bytes: Uint8Array): VantageRecord => {
  const record: VantageRecord = { $typeName: 'isthmus.v1.VantageRecord', peers: [], critical: [] };
  const reader = new WireReader(bytes, 'vantage');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) {
      record.peers.push(reader.message('peers', parsePeer));
      wantCount('vantage.peers', record.peers.length, limits.membersMax);
    } else if (field === criticalField) readCritical(reader, record.critical);
    else reader.skip();
  }
  wantKnown('vantage', record.critical, 1);
  wantDistinct(
    'vantage.member',
    record.peers.map(({ member }) => member),
  );
  return record;
};

export const decodeVantage = (bytes: Uint8Array): Result<VantageRecord> =>
  decoding('vantage', bytes, limits.recordBytesMax, () => parse(bytes));

export const encodeVantage = (record: VantageRecord): Result<Uint8Array> =>
  encoded(toBinary(VantageRecordSchema, record), decodeVantage);
