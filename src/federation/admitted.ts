/**
 * The records of one member that a manifest has covered, and what may be used of them.
 *
 * Covered is not yet usable: a record can overstep its member's grants, or be of a version that cannot be read here. Such a
 * record is refused alone, and its last good value stays in use. All covered bytes are kept, so that records are judged anew when
 * the authority changes its mind, and so that the saved state is what was signed.
 */
import { type IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import type { GatewaysRecord, ServiceRecord, TrustRecord, VantageRecord } from '../gen/isthmus/v1/records_pb.ts';
import { intern } from '../records/wire.ts';
import { type Admission, kindOf } from './admission.ts';

/** Bytes as a string of 8-bit characters: for small values a fraction of what a Uint8Array costs. */
export type Packed = string;
export const pack = (bytes: Uint8Array): Packed =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
export const unpack = (packed: Packed): Buffer => Buffer.from(packed, 'latin1');

/** What a value that is too large to be read is kept as: it is refused again as malformed. */
const tooLarge: Packed = '';

interface Problem {
  readonly error: IsthmusError;
  /** False when the record is in use all the same. */
  readonly refused: boolean;
}

/** What changed in what may be used. */
export interface RecordsChange {
  readonly services: ReadonlySet<ServiceKey>;
  /** Gateways, trust or vantage. */
  readonly other: boolean;
  readonly gateways: boolean;
}

export class AdmittedRecords {
  readonly services = new Map<ServiceKey, ServiceRecord>();
  gateways: GatewaysRecord | undefined;
  trust: TrustRecord | undefined;
  vantage: VantageRecord | undefined;

  readonly #covered = new Map<string, Packed>();
  /** Where the covered value is refused: the value in use instead. */
  readonly #lastGood = new Map<string, Packed>();
  readonly #problems = new Map<string, Problem>();
  #admission: Admission | undefined;
  #dirty = new Set<ServiceKey>();
  #otherDirty = false;
  #gatewaysDirty = false;

  /** By relative key; for the saved state. */
  get covered(): ReadonlyMap<string, Packed> {
    return this.#covered;
  }
  get lastGood(): ReadonlyMap<string, Packed> {
    return this.#lastGood;
  }

  /** Of refused records, and of records used in part. */
  *problems(): Generator<IsthmusError> {
    for (const { error } of this.#problems.values()) yield error;
  }

  /** A covered value, or the covered absence of one. */
  admit(key: string, value: Uint8Array | undefined): void {
    const name = intern(key);
    if (value === undefined) {
      this.#covered.delete(name);
      this.#lastGood.delete(name);
      this.#problems.delete(name);
      this.#drop(name);
      return;
    }
    const packed = value.length > limits.recordBytesMax ? tooLarge : pack(value);
    const before = this.#covered.get(name);
    if (before === packed && packed !== tooLarge) return;
    const beforeWasGood = before !== undefined && this.#problems.get(name)?.refused !== true;
    this.#covered.set(name, packed);
    const used = this.#use(name, value);
    if (used.ok) this.#lastGood.delete(name);
    else if (beforeWasGood) this.#lastGood.set(name, before);
  }

  /** The authority has spoken: everything is judged by its new word, last good values too. */
  judge(admission: Admission): void {
    this.#admission = admission;
    this.touchAll();
    this.services.clear();
    this.gateways = undefined;
    this.trust = undefined;
    this.vantage = undefined;
    this.#problems.clear();
    for (const [key, packed] of this.#covered) {
      const good = this.#lastGood.get(key);
      if (good !== undefined && !this.#use(key, unpack(good)).ok) this.#lastGood.delete(key);
      if (this.#use(key, unpack(packed)).ok) this.#lastGood.delete(key);
    }
    this.touchAll();
  }

  /** A membership that grants the same: nothing to judge again. */
  keep(admission: Admission): void {
    this.#admission = admission;
  }

  /** From the saved state; `judge` makes it usable. */
  adopt(key: string, covered: Packed, lastGood: Packed | undefined): void {
    const name = intern(key);
    this.#covered.set(name, covered);
    if (lastGood !== undefined) this.#lastGood.set(name, lastGood);
  }

  /** Marks everything as changed: the member appeared, or went. */
  touchAll(): void {
    for (const key of this.services.keys()) this.#dirty.add(key);
    this.#otherDirty = true;
    this.#gatewaysDirty = true;
  }

  take(): RecordsChange {
    const change = { services: this.#dirty, other: this.#otherDirty, gateways: this.#gatewaysDirty };
    this.#dirty = new Set();
    this.#otherDirty = false;
    this.#gatewaysDirty = false;
    return change;
  }

  #use(key: string, value: Uint8Array): Result<void> {
    const used = this.#read(key, value);
    if (used.ok) this.#problems.delete(key);
    else this.#problems.set(key, { error: used.error, refused: true });
    if (used.ok && used.value !== undefined) this.#problems.set(key, { error: used.value, refused: false });
    return used.ok ? ok(undefined) : used;
  }

  /** @returns a remark when the record is used in part */
  #read(key: string, value: Uint8Array): Result<IsthmusError | undefined> {
    const admission = this.#admission;
    if (admission === undefined) throw new Error('a record was admitted before its member was known');
    const what = kindOf(key);
    if (what.kind === 'other') return ok(undefined);
    if (what.kind === 'service') {
      const record = admission.service(what.key, value);
      if (!record.ok) return record;
      this.services.set(what.key, record.value);
      this.#dirty.add(what.key);
      return ok(admission.remark(record.value));
    }
    const record = admission[what.kind](value);
    if (!record.ok) return record;
    this.#setOther(record.value);
    return ok(undefined);
  }

  #setOther(record: GatewaysRecord | TrustRecord | VantageRecord): void {
    if (record.$typeName === 'isthmus.v1.GatewaysRecord') {
      this.gateways = record;
      this.#gatewaysDirty = true;
    } else if (record.$typeName === 'isthmus.v1.TrustRecord') this.trust = record;
    else this.vantage = record;
    this.#otherDirty = true;
  }

  #drop(key: string): void {
    const what = kindOf(key);
    if (what.kind === 'service') {
      if (this.services.delete(what.key)) this.#dirty.add(what.key);
    } else if (what.kind !== 'other') {
      this[what.kind] = undefined;
      this.#otherDirty = true;
      if (what.kind === 'gateways') this.#gatewaysDirty = true;
    }
  }
}
