/** The gateways record: where a member's gateways are reached. */
import { isIP } from 'node:net';
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type Gateway, type GatewaysRecord, GatewaysRecordSchema } from '../gen/isthmus/v1/records_pb.ts';
import {
  criticalField,
  decoding,
  encoded,
  readCritical,
  want,
  wantAccount,
  wantCount,
  wantDistinct,
  wantKnown,
  wantPort,
  wantSubdomain,
} from './fields.ts';
import { readLocality } from './service.ts';
import { WireReader } from './wire.ts';

const parseGateway = (reader: WireReader): Gateway => {
  const gateway: Gateway = {
    $typeName: 'isthmus.v1.Gateway',
    id: '',
    address: '',
    federationPort: 0,
    hbonePort: 0,
    draining: false,
  };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) gateway.id = reader.once('id').text('id', limits.hostnameLengthMax);
    else if (field === 2) gateway.address = reader.once('address').text('address', 45);
    else if (field === 3) gateway.federationPort = reader.once('federation_port').uint32('federation_port', 65_535);
    else if (field === 4) gateway.hbonePort = reader.once('hbone_port').uint32('hbone_port', 65_535);
    else if (field === 5) gateway.draining = reader.once('draining').bool('draining');
    else if (field === 6) gateway.locality = readLocality(reader.once('locality'), 'locality');
    else reader.skip();
  }
  wantSubdomain('gateways.id', gateway.id);
  want(isIP(gateway.address) !== 0, 'gateways.address', gateway.address, 'an IP address');
  wantPort('gateways.federation_port', gateway.federationPort);
  wantPort('gateways.hbone_port', gateway.hbonePort);
  return gateway;
};

const parse = (bytes: Uint8Array): GatewaysRecord => {
  const record: GatewaysRecord = { $typeName: 'isthmus.v1.GatewaysRecord', gateways: [], account: '', critical: [] };
  const reader = new WireReader(bytes, 'gateways');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) {
      record.gateways.push(reader.message('gateways', parseGateway));
      wantCount('gateways.gateways', record.gateways.length, limits.gatewaysPerMemberMax);
    } else if (field === 2) record.account = reader.once('account').text('account', limits.hostnameLengthMax + 64);
    else if (field === 3) record.draining = reader.once('draining').bool('draining');
    else if (field === criticalField) readCritical(reader, record.critical);
    else reader.skip();
  }
  wantKnown('gateways', record.critical, 3);
  wantAccount('gateways.account', record.account);
  wantDistinct(
    'gateways.id',
    record.gateways.map(({ id }) => id),
  );
  wantDistinct(
    'gateways.address',
    record.gateways.map(({ address, federationPort }) => `${address}:${federationPort}`),
  );
  return record;
};

export const decodeGateways = (bytes: Uint8Array): Result<GatewaysRecord> =>
  decoding('gateways', bytes, limits.recordBytesMax, () => parse(bytes));

export const encodeGateways = (record: GatewaysRecord): Result<Uint8Array> =>
  encoded(toBinary(GatewaysRecordSchema, record), decodeGateways);
