/**
 * The verdicts record and its parts: what a member has decided. A summary for everybody; for the member's own replicas the
 * writer's state, opaque here, cut into parts because a state may be larger than a record. One manifest covers all parts, so a
 * reader never sees half of one state and half of the next; the digest is for what no manifest can say, a writer's own mistake.
 */
import { createHash } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import {
  type StatePart,
  StatePartSchema,
  type VerdictSummary,
  type VerdictsRecord,
  VerdictsRecordSchema,
} from '../gen/isthmus/v1/records_pb.ts';
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
  wantService,
} from './fields.ts';
import { malformed, WireReader } from './wire.ts';

const digestBytes = 32;
export const stateBytesMax = limits.statePartBytesMax * limits.statePartsMax;

/** States of which there is something to say. A later version may have more words: they are for people. */
const stateWord = /^[a-z][a-z-]*$/;
const reasonWord = /^[A-Za-z][A-Za-z0-9]*$/;

const parseSummary = (reader: WireReader): VerdictSummary => {
  const summary: VerdictSummary = {
    $typeName: 'isthmus.v1.VerdictSummary',
    service: '',
    member: '',
    state: '',
    reason: '',
  };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) summary.service = reader.once('service').text('service', 2 * limits.nameLengthMax + 1);
    else if (field === 2) summary.member = reader.once('member').text('member', limits.nameLengthMax);
    else if (field === 3) summary.state = reader.once('state').text('state', limits.nameLengthMax);
    else if (field === 4) summary.reason = reader.once('reason').text('reason', limits.nameLengthMax);
    else reader.skip();
  }
  if (summary.service !== '') wantService('summary.service', summary.service);
  wantLabel('summary.member', summary.member);
  want(stateWord.test(summary.state), 'summary.state', summary.state, 'a state');
  want(reasonWord.test(summary.reason), 'summary.reason', summary.reason, 'a CamelCase word');
  return summary;
};

const parse = (bytes: Uint8Array): VerdictsRecord => {
  const record: VerdictsRecord = {
    $typeName: 'isthmus.v1.VerdictsRecord',
    summary: [],
    more: 0,
    frozen: false,
    parts: 0,
    bytes: 0,
    digest: new Uint8Array(),
    atMs: 0n,
    wallMs: 0n,
    critical: [],
  };
  const reader = new WireReader(bytes, 'verdicts');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) {
      record.summary.push(reader.message('summary', parseSummary));
      wantCount('verdicts.summary', record.summary.length, limits.verdictsSummaryMax);
    } else if (field === 2) record.more = reader.once('more').uint32('more');
    else if (field === 3) record.frozen = reader.once('frozen').bool('frozen');
    else if (field === 4) record.parts = reader.once('parts').uint32('parts', limits.statePartsMax);
    else if (field === 5) record.bytes = reader.once('bytes').uint32('bytes', stateBytesMax);
    else if (field === 6) record.digest = reader.once('digest').bytes('digest', digestBytes);
    else if (field === 7) record.atMs = reader.once('at_ms').uint64('at_ms', numberMax);
    else if (field === 8) record.wallMs = reader.once('wall_ms').uint64('wall_ms', numberMax);
    else if (field === criticalField) readCritical(reader, record.critical);
    else reader.skip();
  }
  wantKnown('verdicts', record.critical, 8);
  wantDistinct(
    'verdicts.summary',
    record.summary.map(({ service, member }) => `${service}|${member}`),
  );
  const length = record.parts === 0 ? 0 : digestBytes;
  want(record.digest.length === length, 'verdicts.digest', record.digest.length, `${length} bytes`);
  return record;
};

export const decodeVerdicts = (bytes: Uint8Array): Result<VerdictsRecord> =>
  decoding('verdicts', bytes, limits.recordBytesMax, () => parse(bytes));

export const encodeVerdicts = (record: VerdictsRecord): Result<Uint8Array> =>
  encoded(toBinary(VerdictsRecordSchema, record), decodeVerdicts);

const parsePart = (bytes: Uint8Array): StatePart => {
  const part: StatePart = { $typeName: 'isthmus.v1.StatePart', data: new Uint8Array(), critical: [] };
  const reader = new WireReader(bytes, 'state');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) part.data = reader.once('data').bytes('data', limits.statePartBytesMax);
    else if (field === criticalField) readCritical(reader, part.critical);
    else reader.skip();
  }
  wantKnown('state', part.critical, 1);
  if (part.data.length === 0) throw malformed('state.data: empty');
  return part;
};

export const decodeStatePart = (bytes: Uint8Array): Result<StatePart> =>
  decoding('state', bytes, limits.recordBytesMax, () => parsePart(bytes));

/** The parts of a state and what the verdicts record says of them. Errors: `record/too-large`. */
export const splitState = (
  state: Uint8Array,
): Result<{
  readonly parts: readonly Uint8Array[];
  readonly head: Pick<VerdictsRecord, 'parts' | 'bytes' | 'digest'>;
}> => {
  if (state.length > stateBytesMax) {
    return fail('record/too-large', `state: ${state.length} bytes, ${stateBytesMax} can be shipped`);
  }
  const parts: Uint8Array[] = [];
  for (let at = 0; at < state.length; at += limits.statePartBytesMax) {
    const data = state.subarray(at, at + limits.statePartBytesMax);
    parts.push(
      toBinary(StatePartSchema, { $typeName: 'isthmus.v1.StatePart', data: new Uint8Array(data), critical: [] }),
    );
  }
  const digest = parts.length === 0 ? new Uint8Array() : new Uint8Array(createHash('sha256').update(state).digest());
  return ok({ parts, head: { parts: parts.length, bytes: state.length, digest } });
};

/** The state that a verdicts record speaks of. Undefined: it ships none. Errors: `record/malformed` when parts do not make it up. */
export const joinState = (
  record: VerdictsRecord,
  parts: ReadonlyMap<number, StatePart>,
): Result<Uint8Array | undefined> => {
  if (record.parts === 0) return ok(undefined);
  const pieces: Uint8Array[] = [];
  for (let n = 0; n < record.parts; n++) {
    const part = parts.get(n);
    if (part === undefined) return fail('record/malformed', `verdicts: part ${n} of ${record.parts} is missing`);
    pieces.push(part.data);
  }
  const state = new Uint8Array(Buffer.concat(pieces));
  const digest = createHash('sha256').update(state).digest();
  if (state.length !== record.bytes || !digest.equals(record.digest)) {
    return fail(
      'record/malformed',
      `verdicts: ${state.length} bytes of state are not the ${record.bytes} that were shipped`,
    );
  }
  return ok(state);
};
