/**
 * The one codec: every record that crosses the store is written and read through this table.
 *
 * Writing is deterministic (fields in order, lists in the order given). Reading checks the size first, then every count,
 * name and number, and answers with a typed error instead of throwing. What is written here is always readable here.
 * What is signed as it is written has functions of its own: `manifest.ts`, `membership.ts`, `set_policy.ts`; the parts of a
 * shipped state are in `verdicts.ts`.
 */
import type { Result } from '../core/errors.ts';
import type { KeysRecord } from '../gen/isthmus/v1/keys_pb.ts';
import type {
  GatewaysRecord,
  GrantsRecord,
  LoadedRecord,
  ReadersRecord,
  ServiceRecord,
  TrustRecord,
  VantageRecord,
  VerdictsRecord,
  VotesRecord,
} from '../gen/isthmus/v1/records_pb.ts';
import { decodeGateways, encodeGateways } from './gateways.ts';
import { decodeGrants, encodeGrants } from './grants.ts';
import { decodeLoaded, encodeLoaded } from './loaded.ts';
import { decodeReaders, encodeReaders } from './readers.ts';
import { decodeService, encodeService } from './service.ts';
import { decodeKeys, encodeKeys } from './succession.ts';
import { decodeTrust, encodeTrust } from './trust.ts';
import { decodeVantage, encodeVantage } from './vantage.ts';
import { decodeVerdicts, encodeVerdicts } from './verdicts.ts';
import { decodeVotes, encodeVotes } from './votes.ts';

export interface RecordCodec<T> {
  /** Fails with the error that a reader would meet. */
  encode(record: T): Result<Uint8Array>;
  /** Errors: `record/too-large`, `record/malformed`, `record/frozen` (keep the last good value). */
  decode(bytes: Uint8Array): Result<T>;
}

export const codec: {
  readonly service: RecordCodec<ServiceRecord>;
  readonly gateways: RecordCodec<GatewaysRecord>;
  readonly trust: RecordCodec<TrustRecord>;
  readonly vantage: RecordCodec<VantageRecord>;
  readonly grants: RecordCodec<GrantsRecord>;
  readonly votes: RecordCodec<VotesRecord>;
  readonly readers: RecordCodec<ReadersRecord>;
  readonly verdicts: RecordCodec<VerdictsRecord>;
  readonly keys: RecordCodec<KeysRecord>;
  readonly loaded: RecordCodec<LoadedRecord>;
} = {
  service: { encode: encodeService, decode: decodeService },
  gateways: { encode: encodeGateways, decode: decodeGateways },
  trust: { encode: encodeTrust, decode: decodeTrust },
  vantage: { encode: encodeVantage, decode: decodeVantage },
  grants: { encode: encodeGrants, decode: decodeGrants },
  votes: { encode: encodeVotes, decode: decodeVotes },
  readers: { encode: encodeReaders, decode: decodeReaders },
  verdicts: { encode: encodeVerdicts, decode: decodeVerdicts },
  keys: { encode: encodeKeys, decode: decodeKeys },
  loaded: { encode: encodeLoaded, decode: decodeLoaded },
};
