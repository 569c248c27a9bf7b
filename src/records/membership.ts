/** The membership record: what the authority says of a member. What it must amount to is checked in `trust/membership.ts`. */
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type Membership, MembershipSchema } from '../gen/isthmus/v1/records_pb.ts';
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
  wantLabelValue,
  wantOptionalLabelValue,
} from './fields.ts';
import { checkLists, readListed } from './terms.ts';
import { WireReader } from './wire.ts';

const parse = (bytes: Uint8Array): Membership => {
  const membership: Membership = {
    $typeName: 'isthmus.v1.Membership',
    clusterset: '',
    member: '',
    sequence: 0n,
    region: '',
    zone: '',
    network: '',
    addressRanges: [],
    namespaces: [],
    federationCa: new Uint8Array(),
    recordKey: new Uint8Array(),
    notBeforeMs: 0n,
    notAfterMs: 0n,
    serviceAccounts: [],
    trustRoots: [],
    critical: [],
  };
  const reader = new WireReader(bytes, 'membership');
  for (let field = reader.next(); field !== 0; field = reader.next()) readField(reader, field, membership);
  wantKnown('membership', membership.critical, 15);
  check(membership);
  return membership;
};

const readField = (reader: WireReader, field: number, into: Membership): void => {
  if (field === 1) into.clusterset = reader.once('clusterset').text('clusterset', limits.nameLengthMax);
  else if (field === 2) into.member = reader.once('member').text('member', limits.nameLengthMax);
  else if (field === 3) into.sequence = reader.once('sequence').uint64('sequence', numberMax);
  else if (field === 4) into.region = reader.once('region').text('region', limits.nameLengthMax);
  else if (field === 5) into.zone = reader.once('zone').text('zone', limits.nameLengthMax);
  else if (field === 6) into.network = reader.once('network').text('network', limits.nameLengthMax);
  else if (field === 7) readListed(reader, 'membership', 'addressRanges', into);
  else if (field === 8) readListed(reader, 'membership', 'namespaces', into);
  else if (field === 9) {
    into.federationCa = reader.once('federation_ca').bytes('federation_ca', limits.certificateBytesMax);
  } else if (field === 10) into.recordKey = reader.once('record_key').bytes('record_key', 32);
  else if (field === 11) into.notBeforeMs = reader.once('not_before_ms').uint64('not_before_ms', numberMax);
  else if (field === 12) into.notAfterMs = reader.once('not_after_ms').uint64('not_after_ms', numberMax);
  else if (field === 13) readListed(reader, 'membership', 'serviceAccounts', into);
  else if (field === 15) {
    into.trustRoots.push(reader.bytes('trust_roots', fingerprintBytes));
    wantCount('membership.trust_roots', into.trustRoots.length, limits.registeredRootsMax);
  } else if (field === criticalField) readCritical(reader, into.critical);
  else reader.skip();
};

const check = (membership: Membership): void => {
  wantLabel('membership.clusterset', membership.clusterset);
  wantLabel('membership.member', membership.member);
  wantLabelValue('membership.region', membership.region);
  wantOptionalLabelValue('membership.zone', membership.zone);
  wantLabelValue('membership.network', membership.network);
  want(membership.recordKey.length === 32, 'membership.record_key', membership.recordKey.length, '32 bytes');
  checkLists('membership', membership);
  wantFingerprints('membership.trust_roots', membership.trustRoots);
};

export const decodeMembership = (bytes: Uint8Array): Result<Membership> =>
  decoding('membership', bytes, limits.membershipBytesMax, () => parse(bytes));

export const encodeMembership = (membership: Membership): Result<Uint8Array> =>
  encoded(toBinary(MembershipSchema, membership), decodeMembership);
