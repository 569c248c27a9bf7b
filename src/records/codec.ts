/**
 * The one codec: every record that crosses the store is written and read through this table.
 *
 * Writing is deterministic (fields in order, lists in the order given). Reading checks the size first, then every count,
 * name and number, and answers with a typed error instead of throwing. What is written here is always readable here.
 * Manifests are signed as they are written, so they have functions of their own in `manifest.ts`.
 */
import type { Result } from '../core/errors.ts';
import type { GatewaysRecord, ServiceRecord, TrustRecord, VantageRecord } from '../gen/isthmus/v1/records_pb.ts';
import { decodeGateways, encodeGateways } from './gateways.ts';
import { decodeService, encodeService } from './service.ts';
import { decodeTrust, encodeTrust } from './trust.ts';
import { decodeVantage, encodeVantage } from './vantage.ts';

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
} = {
  service: { encode: encodeService, decode: decodeService },
  gateways: { encode: encodeGateways, decode: decodeGateways },
  trust: { encode: encodeTrust, decode: decodeTrust },
  vantage: { encode: encodeVantage, decode: decodeVantage },
};
