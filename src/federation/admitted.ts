/**
 * The records of one member that a manifest has covered, and what may be used of them.
 *
 * Covered is not yet usable: a record can overstep its member's grants, or be of a version that cannot be read here. Such a
 * record is refused alone, and its last good value stays in use. All covered bytes are kept, so that records are judged anew when
 * the authority changes its mind, and so that the saved state is what was signed.
 */
import { IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import type { KeysRecord } from '../gen/isthmus/v1/keys_pb.ts';
import type {
  GatewaysRecord,
  GrantsRecord,
  LoadedRecord,
  ReadersRecord,
  ServiceRecord,
  StatePart,
  TrustRecord,
  VantageRecord,
  VerdictsRecord,
  VotesRecord,
} from '../gen/isthmus/v1/records_pb.ts';
import { codec } from '../records/codec.ts';
import { intern } from '../records/wire.ts';
import { type Admission, kindOf, type RecordKind, type SingleKind } from './admission.ts';

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
  /** Grants to us, votes or verdicts: what decisions are told, and nothing is translated from. */
  readonly signals: boolean;
}

type SingleRecord = { readonly kind: SingleKind } | Extract<RecordKind, { readonly kind: 'grants' }>;
const packTrust = (record: TrustRecord): Uint8Array | undefined => {
  const bytes = codec.trust.encode(record);
  return bytes.ok ? bytes.value : undefined;
};
type Single = AdmittedSingles[keyof AdmittedSingles];

/** What a member has published besides services, as far as it may be used. */
export interface AdmittedSingles {
  gateways: GatewaysRecord | undefined;
  trust: TrustRecord | undefined;
  vantage: VantageRecord | undefined;
  /** To us. */
  grants: GrantsRecord | undefined;
  votes: VotesRecord | undefined;
  verdicts: VerdictsRecord | undefined;
  keys: KeysRecord | undefined;
  loaded: LoadedRecord | undefined;
  /** What it publishes for single readers; nothing is translated from it. */
  readers: ReadersRecord | undefined;
}

const nothing: AdmittedSingles = {
  gateways: undefined,
  trust: undefined,
  vantage: undefined,
  grants: undefined,
  votes: undefined,
  verdicts: undefined,
  keys: undefined,
  loaded: undefined,
  readers: undefined,
};

/** What decisions are told, and nothing is translated from. */
const signalKinds: ReadonlySet<keyof AdmittedSingles> = new Set(['grants', 'votes', 'verdicts', 'keys']);

export class AdmittedRecords {
  readonly services = new Map<ServiceKey, ServiceRecord>();
  /** Replaced whole when one of them changes. */
  singles: Readonly<AdmittedSingles> = nothing;
  /** Of our own member; replaced when it changes. */
  stateParts: ReadonlyMap<number, StatePart> = new Map();

  readonly #forUs: boolean;
  readonly #covered = new Map<string, Packed>();
  /** Where the covered value is refused: the value in use instead. */
  readonly #lastGood = new Map<string, Packed>();
  readonly #problems = new Map<string, Problem>();
  #bytes = 0;
  #admission: Admission | undefined;
  #dirty = new Set<ServiceKey>();
  #otherDirty = false;
  #gatewaysDirty = false;
  #signalsDirty = false;

  /** @param options.forUs - of a part for us alone: services and grants are used, other kinds are kept and not used */
  constructor(options: { readonly forUs?: boolean } = {}) {
    this.#forUs = options.forUs ?? false;
  }

  /** By relative key; for the saved state. */
  get covered(): ReadonlyMap<string, Packed> {
    return this.#covered;
  }
  get lastGood(): ReadonlyMap<string, Packed> {
    return this.#lastGood;
  }
  /** Of all values that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Of refused records, and of records used in part. */
  *problems(): Generator<IsthmusError> {
    for (const { error } of this.#problems.values()) yield error;
  }

  /** A covered value, or the covered absence of one. */
  admit(key: string, value: Uint8Array | undefined): void {
    const name = intern(key);
    if (value === undefined) {
      if (name === 'trust' && this.singles.trust !== undefined) {
        this.#keepBundle(name);
        return;
      }
      this.#forget(this.#covered, name);
      this.#forget(this.#lastGood, name);
      this.#problems.delete(name);
      this.#drop(name);
      return;
    }
    const packed = value.length > limits.recordBytesMax ? tooLarge : pack(value);
    const before = this.#covered.get(name);
    if (before === packed && packed !== tooLarge) return;
    const beforeWasGood = before !== undefined && this.#problems.get(name)?.refused !== true;
    this.#keep(this.#covered, name, packed);
    const used = this.#use(name, value);
    if (used.ok) this.#forget(this.#lastGood, name);
    else if (beforeWasGood) this.#keep(this.#lastGood, name, before);
  }

  /** A bundle is replaced, never taken away: whose roots go, its workloads are cut off in the middle of what they do. */
  #keepBundle(name: string): void {
    const before = this.#covered.get(name);
    if (before !== undefined && this.#problems.get(name)?.refused !== true) this.#keep(this.#lastGood, name, before);
    this.#forget(this.#covered, name);
    const error = new IsthmusError('trust/root-refused', 'trust: the member has withdrawn its bundle, no root left', {
      hint: 'the last one stays in use; to end it, unregister its roots or revoke the member',
    });
    this.#problems.set(name, { error, refused: true });
  }

  /** The authority has spoken: everything is judged by its new word, last good values too. */
  judge(admission: Admission): void {
    this.#admission = admission;
    const { trust } = this.singles;
    this.touchAll();
    this.services.clear();
    this.singles = nothing;
    this.stateParts = new Map();
    this.#problems.clear();
    for (const [key, packed] of this.#covered) {
      const good = this.#lastGood.get(key);
      if (good !== undefined && !this.#use(key, unpack(good)).ok) this.#forget(this.#lastGood, key);
      if (this.#use(key, unpack(packed)).ok) this.#forget(this.#lastGood, key);
    }
    if (this.singles.trust === undefined) this.#judgeBundle(admission, trust);
    this.touchAll();
  }

  /** Of the bundle that was in use: the roots that are still registered. */
  #judgeBundle(admission: Admission, before: TrustRecord | undefined): void {
    const good = this.#lastGood.get('trust');
    const bytes = before !== undefined ? packTrust(before) : good === undefined ? undefined : unpack(good);
    const left = bytes === undefined ? undefined : admission.trustLeft(bytes);
    if (left === undefined) return;
    const kept = packTrust(left);
    if (kept === undefined) return;
    this.#keep(this.#lastGood, 'trust', pack(kept));
    this.singles = { ...this.singles, trust: left };
  }

  /** A membership that grants the same: nothing to judge again. */
  keep(admission: Admission): void {
    this.#admission = admission;
  }

  /** From the saved state; `judge` makes it usable. */
  adopt(key: string, covered: Packed, lastGood: Packed | undefined): void {
    const name = intern(key);
    this.#keep(this.#covered, name, covered);
    if (lastGood !== undefined) this.#keep(this.#lastGood, name, lastGood);
  }

  /** Marks everything as changed: the member appeared, or went. */
  touchAll(): void {
    for (const key of this.services.keys()) this.#dirty.add(key);
    this.#otherDirty = true;
    this.#gatewaysDirty = true;
    this.#signalsDirty = true;
  }

  take(): RecordsChange {
    const change = {
      services: this.#dirty,
      other: this.#otherDirty,
      gateways: this.#gatewaysDirty,
      signals: this.#signalsDirty,
    };
    this.#dirty = new Set();
    this.#otherDirty = false;
    this.#gatewaysDirty = false;
    this.#signalsDirty = false;
    return change;
  }

  #keep(values: Map<string, Packed>, name: string, packed: Packed): void {
    this.#bytes += packed.length - (values.get(name)?.length ?? 0);
    values.set(name, packed);
  }

  #forget(values: Map<string, Packed>, name: string): void {
    this.#bytes -= values.get(name)?.length ?? 0;
    values.delete(name);
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
    const what = this.#kind(key);
    if (what.kind === 'other') return ok(undefined);
    if (what.kind === 'service') {
      const record = admission.service(what.key, value);
      if (!record.ok) return record;
      this.services.set(what.key, record.value);
      this.#dirty.add(what.key);
      return ok(admission.remark(record.value));
    }
    if (what.kind === 'statePart') {
      const part = admission.statePart(what.part, value);
      if (part.ok) this.#setPart(what.part, part.value);
      return part.ok ? ok(undefined) : part;
    }
    const record = this.#single(admission, what as SingleRecord, value);
    if (!record.ok) return record;
    if (record.value !== undefined) this.#set(what.kind, record.value);
    return ok(what.kind === 'votes' ? admission.voteRemark(value) : undefined);
  }

  #single(admission: Admission, what: SingleRecord, value: Uint8Array): Result<Single> {
    if (what.kind === 'grants') return admission.grants(what.reader, value);
    if (what.kind === 'trust') return admission.trust(value, this.singles.trust);
    return admission[what.kind](value) as Result<Single>;
  }

  #kind(key: string): RecordKind {
    const what = kindOf(key);
    return this.#forUs && what.kind !== 'service' && what.kind !== 'grants' ? { kind: 'other' } : what;
  }

  #set(kind: keyof AdmittedSingles, record: Single): void {
    this.singles = { ...this.singles, [kind]: record };
    if (signalKinds.has(kind)) this.#signalsDirty = true;
    else if (kind !== 'loaded' && kind !== 'readers') this.#otherDirty = true;
    if (kind === 'gateways') this.#gatewaysDirty = true;
  }

  #setPart(part: number, value: StatePart | undefined): void {
    if (value === undefined && !this.stateParts.has(part)) return;
    const parts = new Map(this.stateParts);
    if (value === undefined) parts.delete(part);
    else parts.set(part, value);
    this.stateParts = parts;
    this.#signalsDirty = true;
  }

  #drop(key: string): void {
    const what = this.#kind(key);
    if (what.kind === 'service') {
      if (this.services.delete(what.key)) this.#dirty.add(what.key);
    } else if (what.kind === 'statePart') this.#setPart(what.part, undefined);
    else if (what.kind !== 'other' && (what.kind !== 'grants' || this.#admission?.self === what.reader)) {
      this.#set(what.kind, undefined);
    }
  }
}
