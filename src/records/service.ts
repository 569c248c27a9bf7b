/** The service record: what a member says of one exported service. */
import { toBinary } from '@bufbuild/protobuf';
import type { Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import {
  type Capacity,
  type Locality,
  type ServicePort,
  type ServiceRecord,
  ServiceRecordSchema,
} from '../gen/isthmus/v1/records_pb.ts';
import {
  criticalField,
  decoding,
  encoded,
  numberMax,
  readCritical,
  want,
  wantAccount,
  wantCount,
  wantDistinct,
  wantKnown,
  wantLabel,
  wantOptionalLabelValue,
  wantPort,
  wantProtocol,
  wantSubdomain,
} from './fields.ts';
import { sharedMessages, WireReader } from './wire.ts';

const localities = sharedMessages<Locality>(16_384);
const ports = sharedMessages<ServicePort>(16_384);
const capacities = sharedMessages<Capacity>(65_536);
/** Shared by all records without entries; whoever adds one makes a list of its own. */
const none = Object.freeze([]) as unknown as never[];

const parseLocality = (reader: WireReader): Locality => {
  let region = '';
  let zone = '';
  let subzone = '';
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) region = reader.once('region').text('region', limits.nameLengthMax);
    else if (field === 2) zone = reader.once('zone').text('zone', limits.nameLengthMax);
    else if (field === 3) subzone = reader.once('subzone').text('subzone', limits.nameLengthMax);
    else reader.skip();
  }
  wantOptionalLabelValue('locality.region', region);
  wantOptionalLabelValue('locality.zone', zone);
  wantOptionalLabelValue('locality.subzone', subzone);
  return { $typeName: 'isthmus.v1.Locality', region, zone, subzone };
};

export const readLocality = (reader: WireReader, name: string): Locality =>
  reader.sharedMessage(name, localities, parseLocality);

const parsePort = (reader: WireReader): ServicePort => {
  let name = '';
  let port = 0;
  let protocol = '';
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) name = reader.once('name').text('name', limits.nameLengthMax);
    else if (field === 2) port = reader.once('port').uint32('port', 65_535);
    else if (field === 3) protocol = reader.once('protocol').text('protocol', limits.nameLengthMax);
    else reader.skip();
  }
  if (name !== '') wantLabel('ports.name', name);
  wantPort('ports.port', port);
  wantProtocol('ports.protocol', protocol);
  return { $typeName: 'isthmus.v1.ServicePort', name, port, protocol };
};

const parseCapacity = (reader: WireReader): Capacity => {
  let locality: Locality | undefined;
  let ready = 0;
  let total = 0;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) locality = readLocality(reader.once('locality'), 'locality');
    else if (field === 2) ready = reader.once('ready').uint32('ready', limits.capacityMax);
    else if (field === 3) total = reader.once('total').uint32('total', limits.capacityMax);
    else reader.skip();
  }
  want(ready <= total, 'capacity.ready', ready, `at most the total, ${total}`);
  return locality === undefined
    ? { $typeName: 'isthmus.v1.Capacity', ready, total }
    : { $typeName: 'isthmus.v1.Capacity', locality, ready, total };
};

const parse = (bytes: Uint8Array): ServiceRecord => {
  const record: ServiceRecord = {
    $typeName: 'isthmus.v1.ServiceRecord',
    namespace: '',
    name: '',
    hostname: '',
    ports: none,
    accounts: none,
    capacity: none,
    exportedMs: 0n,
    headless: false,
    sessionAffinity: false,
    mode: '',
    critical: none,
  };
  const reader = new WireReader(bytes, 'service');
  for (let field = reader.next(); field !== 0; field = reader.next()) readField(reader, field, record);
  wantKnown('service', record.critical, 12);
  check(record);
  return record;
};

/** Appends without growing an array beyond its need: most lists have one or two entries, and there are many. */
const append = <T>(list: readonly T[], value: T): T[] => (list.length === 0 ? [value] : [...list, value]);

const readField = (reader: WireReader, field: number, record: ServiceRecord): void => {
  switch (field) {
    case 1:
      record.namespace = reader.once('namespace').text('namespace', limits.nameLengthMax);
      break;
    case 2:
      record.name = reader.once('name').text('name', limits.nameLengthMax);
      break;
    case 3:
      record.hostname = reader.once('hostname').text('hostname', limits.hostnameLengthMax);
      break;
    case 4:
      record.ports = append(record.ports, reader.sharedMessage('ports', ports, parsePort));
      wantCount('service.ports', record.ports.length, limits.portsPerServiceMax);
      break;
    case 5:
      record.accounts = append(record.accounts, reader.text('accounts', limits.hostnameLengthMax + 64));
      wantCount('service.accounts', record.accounts.length, limits.accountsPerServiceMax);
      break;
    case 6:
      record.capacity = append(record.capacity, reader.sharedMessage('capacity', capacities, parseCapacity));
      wantCount('service.capacity', record.capacity.length, limits.localitiesPerServiceMax);
      break;
    case 7:
      record.exportedMs = reader.once('exported_ms').uint64('exported_ms', numberMax);
      break;
    case 8:
      record.headless = reader.once('headless').bool('headless');
      break;
    case 9:
      record.sessionAffinity = reader.once('session_affinity').bool('session_affinity');
      break;
    case 10:
      record.mode = reader.once('mode').text('mode', limits.nameLengthMax);
      break;
    case 11:
      record.draining = reader.once('draining').bool('draining');
      break;
    case 12:
      // Only the number's size is the reader's business: more than anybody has is as good as the most that counts.
      record.declaredCapacityPerSecond = Math.min(
        limits.capacityPerSecondMax,
        reader.once('declared_capacity_per_second').uint32('declared_capacity_per_second'),
      );
      break;
    case criticalField:
      if (record.critical.length === 0) record.critical = [];
      readCritical(reader, record.critical);
      break;
    default:
      reader.skip();
  }
};

/** Does the host begin with `<name>.<namespace>.svc.`? Without building that text, a hundred thousand times at start. */
const isNameOf = (hostname: string, name: string, namespace: string): boolean => {
  const at = name.length + 1;
  return (
    hostname.startsWith(name) &&
    hostname.startsWith('.', at - 1) &&
    hostname.startsWith(namespace, at) &&
    hostname.startsWith('.svc.', at + namespace.length)
  );
};

const check = (record: ServiceRecord): void => {
  wantLabel('service.namespace', record.namespace);
  wantLabel('service.name', record.name);
  wantSubdomain('service.hostname', record.hostname);
  want(
    isNameOf(record.hostname, record.name, record.namespace),
    'service.hostname',
    record.hostname,
    `a name of ${record.namespace}/${record.name}`,
  );
  if (record.ports.length > 1) {
    wantDistinct('service.ports.port', record.ports.map(portIdentity));
    wantDistinct(
      'service.ports.name',
      record.ports.map((port) => port.name),
    );
  }
  for (const account of record.accounts) wantAccount('service.accounts', account);
  wantDistinct('service.accounts', record.accounts);
  let total = 0;
  for (const capacity of record.capacity) total += capacity.total;
  want(total <= limits.capacityMax, 'service.capacity.total', total, `at most ${limits.capacityMax} in sum`);
  if (record.capacity.length > 1) wantDistinct('service.capacity.locality', record.capacity.map(localityName));
  want(
    record.mode === '' || record.mode === 'gateway' || record.mode === 'direct',
    'service.mode',
    record.mode,
    'known',
  );
};

/** Kubernetes allows one number twice when the transport differs (53/TCP, 53/UDP). */
const portIdentity = (port: ServicePort): string =>
  `${port.port}/${port.protocol === 'UDP' || port.protocol === 'SCTP' ? port.protocol : 'TCP'}`;

const localityName = ({ locality }: Capacity): string =>
  locality === undefined ? '//' : `${locality.region}/${locality.zone}/${locality.subzone}`;

export const decodeService = (bytes: Uint8Array): Result<ServiceRecord> =>
  decoding('service', bytes, limits.recordBytesMax, () => parse(bytes));

/** Lists are written in the order given: the caller sorts, so that equal content has equal bytes. */
export const encodeService = (record: ServiceRecord): Result<Uint8Array> =>
  encoded(toBinary(ServiceRecordSchema, record), decodeService);
