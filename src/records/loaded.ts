/**
 * The loaded record: which roots a member's proxies have, by what they acknowledged and what was issued to them. It is what a rotation of
 * roots waits for at every other member. What may be concluded from it is in `trust/rotation.ts`.
 */
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type LoadedRecord, LoadedRecordSchema, type RootStanding } from '../gen/isthmus/v1/records_pb.ts';
import {
  criticalField,
  decoding,
  encoded,
  fingerprintBytes,
  numberMax,
  readCritical,
  want,
  wantCount,
  wantDistinct,
  wantFingerprints,
  wantKnown,
  wantLabel,
} from './fields.ts';
import { WireReader } from './wire.ts';

const countMax = 0xffff_ffff;

export const noStanding = (fingerprint: Uint8Array): RootStanding => ({
  $typeName: 'isthmus.v1.RootStanding',
  fingerprint,
  given: false,
  issuing: false,
  lacking: 0,
  lackingUntilMs: 0n,
  lackingNames: [],
  inUse: 0,
  inUseUntilMs: 0n,
  inUseNames: [],
  probed: [],
  probeFailed: [],
});

/** Names are shown to people elsewhere: printable ASCII, bounded. */
const readName = (reader: WireReader, field: string, into: string[]): void => {
  const name = reader.text(field, limits.loadedNameLengthMax);
  want(/^[\x20-\x7e]+$/.test(name), `loaded.${field}`, name, 'printable');
  into.push(name);
  wantCount(`loaded.${field}`, into.length, limits.loadedNamesMax);
};

const readMember = (reader: WireReader, field: string, into: string[]): void => {
  const name = reader.text(field, limits.nameLengthMax);
  wantLabel(`loaded.${field}`, name);
  into.push(name);
  wantCount(`loaded.${field}`, into.length, limits.membersMax);
};

const parseRoot = (reader: WireReader): RootStanding => {
  const root = noStanding(new Uint8Array());
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) root.fingerprint = reader.once('fingerprint').bytes('fingerprint', fingerprintBytes);
    else if (field === 2) root.given = reader.once('given').bool('given');
    else if (field === 3) root.issuing = reader.once('issuing').bool('issuing');
    else if (field === 4) root.lacking = reader.once('lacking').uint32('lacking', countMax);
    else if (field === 5) root.lackingUntilMs = reader.once('lacking_until_ms').uint64('lacking_until_ms', numberMax);
    else if (field === 6) readName(reader, 'lacking_names', root.lackingNames);
    else if (field === 7) root.inUse = reader.once('in_use').uint32('in_use', countMax);
    else if (field === 8) root.inUseUntilMs = reader.once('in_use_until_ms').uint64('in_use_until_ms', numberMax);
    else if (field === 9) readName(reader, 'in_use_names', root.inUseNames);
    else if (field === 10) readMember(reader, 'probed', root.probed);
    else if (field === 11) readMember(reader, 'probe_failed', root.probeFailed);
    else reader.skip();
  }
  return root;
};

const parse = (bytes: Uint8Array): LoadedRecord => {
  const record: LoadedRecord = {
    $typeName: 'isthmus.v1.LoadedRecord',
    roots: [],
    partners: [],
    unknown: [],
    critical: [],
  };
  const reader = new WireReader(bytes, 'loaded');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) {
      record.roots.push(reader.message('roots', parseRoot));
      wantCount('loaded.roots', record.roots.length, limits.loadedRootsMax);
    } else if (field === 2) readMember(reader, 'partners', record.partners);
    else if (field === 3) readName(reader, 'unknown', record.unknown);
    else if (field === criticalField) readCritical(reader, record.critical);
    else reader.skip();
  }
  wantKnown('loaded', record.critical, 3);
  wantFingerprints(
    'loaded.fingerprint',
    record.roots.map(({ fingerprint }) => fingerprint),
  );
  wantDistinct('loaded.partners', record.partners);
  return record;
};

export const decodeLoaded = (bytes: Uint8Array): Result<LoadedRecord> =>
  decoding('loaded', bytes, limits.recordBytesMax, () => parse(bytes));

export const encodeLoaded = (record: LoadedRecord): Result<Uint8Array> =>
  encoded(toBinary(LoadedRecordSchema, record), decodeLoaded);
