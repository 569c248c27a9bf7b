/**
 * What a field of a record may hold. Each check throws an error that names the field and the value; `decoding` turns it
 * into a result. Encoding runs the same checks by decoding what it wrote.
 */
import { fail, IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';
import { malformed, shown, type WireReader } from './wire.ts';

/** The largest number of milliseconds, epoch or sequence: far from any overflow, exact as a double. */
export const numberMax = BigInt(Number.MAX_SAFE_INTEGER) >> 1n;

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const labelValue = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/;
const protocolName = /^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$/;
const trustDomainName = /^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$/;

export const isSubdomain = (value: string): boolean =>
  value.length <= limits.hostnameLengthMax && subdomain.test(value);
/** A value of a Kubernetes label: regions, zones, networks. */
export const isLabelValue = (value: string): boolean => value.length <= limits.nameLengthMax && labelValue.test(value);
export const isTrustDomain = (value: string): boolean =>
  value.length <= limits.hostnameLengthMax && trustDomainName.test(value);
/** `namespace/serviceaccount`. */
export const isAccount = (value: string): boolean => {
  const slash = value.indexOf('/');
  return slash > 0 && isDnsLabel(value.slice(0, slash)) && isSubdomain(value.slice(slash + 1));
};

export const want = (holds: boolean, field: string, value: string | number | bigint, expected: string): void => {
  if (!holds) throw malformed(`${field}: ${typeof value === 'string' ? shown(value) : value} is not ${expected}`);
};

export const wantLabel = (field: string, value: string): void =>
  want(isDnsLabel(value), field, value, 'a DNS label (a-z, 0-9, "-", at most 63)');
export const wantSubdomain = (field: string, value: string): void =>
  want(isSubdomain(value), field, value, 'a DNS name');
export const wantLabelValue = (field: string, value: string): void =>
  want(isLabelValue(value), field, value, 'a name as in a Kubernetes label value');
export const wantOptionalLabelValue = (field: string, value: string): void => {
  if (value !== '') wantLabelValue(field, value);
};
export const wantProtocol = (field: string, value: string): void =>
  want(value.length <= limits.nameLengthMax && protocolName.test(value), field, value, 'a protocol name');
export const wantAccount = (field: string, value: string): void =>
  want(isAccount(value), field, value, '"<namespace>/<service account>"');
export const wantService = (field: string, value: string): void => {
  const slash = value.indexOf('/');
  const holds = slash > 0 && isDnsLabel(value.slice(0, slash)) && isDnsLabel(value.slice(slash + 1));
  want(holds, field, value, '"<namespace>/<service>"');
};
export const wantPort = (field: string, value: number): void =>
  want(value >= 1 && value <= 65_535, field, value, 'a port (1 to 65535)');

export const wantCount = (field: string, count: number, max: number): void => {
  if (count > max) throw malformed(`${field}: more than ${max} entries`);
};

const twice = (field: string, value: string | number): Error =>
  malformed(`${field}: ${typeof value === 'string' ? shown(value) : value} appears twice`);

export const wantDistinct = (field: string, values: readonly (string | number)[]): void => {
  // Most lists are short, and a set costs more than to compare each with each.
  if (values.length <= 8) {
    for (let i = 1; i < values.length; i++) {
      const value = values[i]!;
      for (let j = 0; j < i; j++) if (values[j] === value) throw twice(field, value);
    }
    return;
  }
  const seen = new Set<string | number>();
  for (const value of values) {
    if (seen.has(value)) throw twice(field, value);
    seen.add(value);
  }
};

/** A SHA-256. */
export const fingerprintBytes = 32;

export const wantFingerprints = (field: string, values: readonly Uint8Array[]): void => {
  for (const value of values) want(value.length === fingerprintBytes, field, value.length, `${fingerprintBytes} bytes`);
  wantDistinct(
    field,
    values.map((value) => Buffer.from(value).toString('hex')),
  );
};

/** Number of the field that lists what a reader must not ignore; the same in every record. */
export const criticalField = 2000;

export const readCritical = (reader: WireReader, into: number[]): void =>
  reader.numbers('critical', into, limits.criticalFieldsMax);

/** A record that says "do not ignore field n" to a reader that does not know n is frozen at its last good value. */
export const wantKnown = (what: string, critical: readonly number[], highestKnown: number): void => {
  for (const number of critical) {
    if ((number < 1 || number > highestKnown) && number !== criticalField) {
      throw new IsthmusError('record/frozen', `${what}: field ${number} is critical and unknown to this version`, {
        hint: 'upgrade this controller; until then the last good value stays in use',
      });
    }
  }
};

/** Runs a decoder behind the size limit and turns what it throws into a result. Bugs still throw. */
export const decoding = <T>(what: string, bytes: Uint8Array, bytesMax: number, decode: () => T): Result<T> => {
  if (bytes.length > bytesMax) {
    return fail('record/too-large', `${what}: ${bytes.length} bytes, ${bytesMax} allowed`);
  }
  try {
    return ok(decode());
  } catch (error) {
    if (error instanceof IsthmusError) return { ok: false, error };
    throw error;
  }
};

/** What we encode must decode: a record that would be refused by its readers is refused here, before it is written. */
export const encoded = <T>(bytes: Uint8Array, decode: (bytes: Uint8Array) => Result<T>): Result<Uint8Array> => {
  const back = decode(bytes);
  return back.ok ? ok(bytes) : back;
};
