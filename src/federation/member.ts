/**
 * One member's log: what it has published, as far as a manifest of its own covers it.
 *
 * Records are staged as they come. Only when a manifest, signed by the key that the authority names and not older than any seen,
 * has the root and count of exactly the staged set, everything staged is admitted at once. Until then the last good set stays
 * in use, however long that takes: whoever controls the store can delay a member, never edit it. Admitting record by record as
 * signatures arrive was passed over: it costs a signature a record, and shows neither what was deleted nor what was withheld.
 */
import type { KeyObject } from 'node:crypto';
import { IsthmusError, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import type { Manifest, ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import { verifyManifest } from '../records/manifest.ts';
import type { Member } from '../trust/membership.ts';
import { Admission, type AdmissionContext } from './admission.ts';
import { AdmittedRecords, type Packed } from './admitted.ts';
import { compareHeads, headOf, shownHead, staleManifest } from './head.ts';
import { SeenJournals } from './journals.ts';
import { Noise, type Quota } from './noise.ts';
import { Part } from './part.ts';
import { type StagedValue, Staging } from './staging.ts';
import { Succession } from './succession.ts';
import type { ManifestHead, MemberView } from './view.ts';

/** Relative to the member's prefix. */
export const manifestKey = 'manifest';
const keysKey = 'keys';

/** What changed in what may be used of a member. */
export interface MemberChange {
  readonly services: ReadonlySet<ServiceKey>;
  /** Membership, gateways, trust, vantage, or that it shuts down. */
  readonly member: boolean;
  /** Membership or gateways: what the order of cells depends on. */
  readonly topology: boolean;
  /** Grants to us, votes or verdicts. */
  readonly signals: boolean;
  /** Its head rose: the control plane behind it is alive. */
  readonly head: boolean;
}

/** A change to the member's part of the store, by key relative to its prefix. */
export interface StagedChange {
  readonly key: string;
  readonly value: StagedValue;
}

/** A covered record in the saved state. */
export interface SavedRecord {
  readonly key: string;
  /** SHA-256 of the value in the store, which is not `covered` when that was too large to keep. */
  readonly hash: Uint8Array;
  readonly covered: Packed;
  readonly lastGood: Packed | undefined;
}

/** The last good state of a member, whole. */
export interface SavedLog {
  readonly admitted: Manifest | undefined;
  readonly seen: Manifest | undefined;
  readonly freshAtMs: number | undefined;
  readonly records: Iterable<SavedRecord>;
  /** What it publishes for us alone. */
  readonly part?: Iterable<SavedRecord>;
}

export interface MemberLogOptions extends AdmissionContext {
  readonly clusterset: string;
  /** As of the change that is being worked on. */
  wallMs(): number;
  /** Undefined: it may change as much as it likes. */
  readonly quota?: Quota | undefined;
}

const grantsText = ({ addressRanges, namespaces, serviceAccounts, trustRoots }: Member): string =>
  JSON.stringify([addressRanges, namespaces, serviceAccounts, trustRoots ?? []]);

export class MemberLog {
  readonly name: string;
  readonly noise: Noise | undefined;
  readonly #options: MemberLogOptions;
  readonly #staging: Staging;
  readonly #records = new AdmittedRecords();
  readonly #succession: Succession;
  readonly #part: Part;
  #services: ReadonlyMap<ServiceKey, ServiceRecord>;
  #member: Member | undefined;
  #grants = '';
  #admitting = true;

  /** The manifest as the store has it, and what became of it. */
  #manifestBytes: Uint8Array | undefined;
  #manifest: Result<Manifest> | undefined;
  /** The newest manifest seen, admitted or not: the high-water mark. */
  #seen: Manifest | undefined;
  #admitted: Manifest | undefined;
  readonly #journals = new SeenJournals();
  #freshAtMs: number | undefined;
  #uncoveredSinceMs: number | undefined;
  #nowMs = 0;
  #memberDirty = false;
  #topologyDirty = false;
  #headDirty = false;

  constructor(name: string, options: MemberLogOptions) {
    this.name = name;
    this.#options = options;
    this.noise = options.quota === undefined ? undefined : new Noise(name, options.quota);
    this.#staging = new Staging(name);
    this.#succession = new Succession(options.clusterset, name);
    this.#part = new Part(name, options.self);
    this.#services = this.#records.services;
  }

  /** Live but for its scalars; undefined until the authority's word on this member is known. */
  get view(): MemberView | undefined {
    const member = this.#member;
    if (member === undefined) return undefined;
    const { singles, stateParts } = this.#records;
    return {
      member,
      head: this.#admitted === undefined ? undefined : headOf(this.#admitted),
      freshAtMs: this.#freshAtMs,
      shuttingDown: this.#seen?.shuttingDown ?? false,
      frozen: this.noise?.frozen ?? false,
      ...singles,
      grants: this.#part.records.singles.grants ?? singles.grants,
      stateParts,
      services: this.#services,
      forUs: this.#part.records.services,
      journals: this.#journals.heads,
      succession: this.#succession.view,
      problems: this.problems,
    };
  }

  /** Nothing of it stands in the store, nor ever counted. */
  get empty(): boolean {
    return this.#staging.empty && this.#part.empty && this.#manifestBytes === undefined && this.#seen === undefined;
  }

  /** The newest manifest head seen, admitted or not. */
  get seen(): ManifestHead | undefined {
    return this.#seen === undefined ? undefined : headOf(this.#seen);
  }

  /** Standing problems, those of records first, the manifest's last. They go when their cause goes. */
  get problems(): readonly IsthmusError[] {
    const last: IsthmusError[] = [];
    if (this.#succession.problem !== undefined) last.push(this.#succession.problem);
    const noisy = this.noise?.problem(this.#nowMs);
    if (noisy !== undefined) last.push(noisy);
    if (this.#staging.overflow !== undefined) last.push(this.#staging.overflow);
    if (this.#manifest !== undefined && !this.#manifest.ok) last.push(this.#manifest.error);
    const uncovered = this.#uncovered();
    if (uncovered !== undefined) last.push(uncovered);
    return [...this.#records.problems(), ...this.#part.problems(this.#nowMs)]
      .slice(-(limits.problemsPerMemberMax - last.length))
      .concat(last);
  }

  /**
   * The authority's word. What is no longer granted goes at once; undefined closes the member.
   * @param anew - judge the records again even when it grants the same, for what the context forbids has changed
   */
  setMember(member: Member | undefined, nowMs: number, anew = false): void {
    const before = this.#member;
    this.#member = member;
    this.#topologyDirty = true;
    const both = [this.#records, this.#part.records];
    if (before === undefined || member === undefined) for (const records of both) records.touchAll();
    if (member === undefined) return;
    this.#succession.setMember(member, this.#options.wallMs());
    this.#manifest = undefined;
    const admission = new Admission(member, this.#options);
    const grants = grantsText(member);
    for (const records of both) {
      if (grants === this.#grants && !anew) records.keep(admission);
      else records.judge(admission);
    }
    this.#grants = grants;
    this.#tryAdmit(nowMs);
  }

  /** Outside the membership's window nothing new is admitted; what is in use stays. */
  setAdmitting(admitting: boolean, nowMs: number): void {
    if (admitting === this.#admitting) return;
    this.#admitting = admitting;
    this.#tryAdmit(nowMs);
  }

  /** The whole content of the store under the member's prefix, manifest included. */
  replace(entries: ReadonlyMap<string, Uint8Array>, nowMs: number): void {
    const records = new Map(entries);
    records.delete(manifestKey);
    this.#staging.replace(records, this.#stagedBytesMax());
    this.offerKeys(entries.get(keysKey));
    this.#setManifest(entries.get(manifestKey));
    this.#tryAdmit(nowMs);
  }

  /**
   * Changes in order. Those from `uncoveredFrom` on are newer than the batch's last manifest: they belong to a tick whose manifest
   * is still under way, and must not hide the one that is there.
   */
  apply(changes: readonly StagedChange[], uncoveredFrom: number, nowMs: number): void {
    for (let i = 0; i < changes.length; i++) {
      if (i === uncoveredFrom && i > 0) this.#tryAdmit(nowMs);
      const { key, value } = changes[i]!;
      if (key === keysKey) this.offerKeys(value);
      if (key === manifestKey) this.#setManifest(value);
      else if (value === undefined) this.#staging.delete(key);
      else this.#staging.put(key, value, this.#stagedBytesMax());
    }
    this.#tryAdmit(nowMs);
  }

  /** The whole content of the store under `to/<us>/<member>/`. */
  replacePart(entries: ReadonlyMap<string, Uint8Array>, nowMs: number): void {
    this.#part.replace(entries, this.#stagedBytesMax());
    this.#tryAdmit(nowMs);
  }

  /** Changes to that, in order. */
  applyPart(changes: readonly StagedChange[], nowMs: number): void {
    this.#part.apply(changes, this.#stagedBytesMax());
    this.#tryAdmit(nowMs);
  }

  /** Lets standing problems age, and keys that were replaced. */
  tick(nowMs: number): void {
    this.#nowMs = nowMs;
    if (this.#succession.tick(this.#options.wallMs())) this.#memberDirty = true;
  }

  /** What says which keys of its own count; it counts uncovered, and before the membership is known. */
  offerKeys(bytes: Uint8Array | undefined): void {
    if (!this.#succession.offer(bytes, this.#options.wallMs())) return;
    this.#memberDirty = true;
    this.#manifest = undefined;
  }
  get signers(): readonly KeyObject[] {
    return this.#succession.keys;
  }
  /** For the saved state: the record in which the newest keys were seen. */
  get keys(): Uint8Array | undefined {
    return this.#succession.bytes;
  }

  /** What changed since the last call. */
  take(): MemberChange {
    const records = this.#records.take();
    const forUs = this.#part.records.take();
    const services = forUs.services.size === 0 ? records.services : records.services.union(forUs.services);
    this.#services = this.#part.merge(this.#records.services, services);
    const topology = records.gateways || this.#topologyDirty;
    const member = records.other || topology || this.#memberDirty;
    const signals = records.signals || forUs.signals;
    const change = { services, member, topology, signals, head: this.#headDirty };
    this.#memberDirty = false;
    this.#topologyDirty = false;
    this.#headDirty = false;
    return change;
  }

  save(): SavedLog {
    return {
      admitted: this.#admitted,
      seen: this.#seen,
      freshAtMs: this.#freshAtMs,
      records: savedRecords(this.#records, this.#staging),
      part: savedRecords(this.#part.records, this.#part.staging),
    };
  }

  /** Once, into a new log, before anything of the store. @returns whether the records are those of the manifest */
  restore(saved: SavedLog): boolean {
    for (const { key, hash, covered, lastGood } of saved.records) {
      this.#staging.adopt(key, hash);
      this.#records.adopt(key, covered, lastGood);
    }
    for (const { key, hash, covered, lastGood } of saved.part ?? []) {
      this.#part.staging.adopt(key, hash);
      this.#part.records.adopt(key, covered, lastGood);
    }
    if (saved.admitted !== undefined && !this.#staging.matches(saved.admitted.root, saved.admitted.count)) return false;
    this.#admitted = saved.admitted;
    this.#seen = saved.seen;
    for (const manifest of [saved.admitted, saved.seen]) if (manifest !== undefined) this.#journals.note(manifest);
    this.#freshAtMs = saved.freshAtMs;
    return true;
  }

  /** Together with what is admitted a member has half as much again: what it replaces is kept until its manifest comes. */
  #stagedBytesMax(): number {
    const most = limits.stagedBytesPerMemberMax;
    return this.#member === undefined
      ? limits.stagedBytesUnknownMax
      : Math.min(most, most * 1.5 - this.#records.bytes - this.#part.records.bytes);
  }

  #setManifest(bytes: Uint8Array | undefined): void {
    const before = this.#manifestBytes;
    if (bytes !== undefined && before !== undefined && Buffer.compare(bytes, before) === 0) return;
    this.#manifestBytes = bytes === undefined ? undefined : new Uint8Array(bytes);
    this.#manifest = undefined;
  }

  #tryAdmit(nowMs: number): void {
    this.#nowMs = nowMs;
    if (this.#member === undefined) return;
    this.#manifest ??= this.#verify(nowMs);
    const manifest = this.#manifest;
    if (manifest?.ok === true && this.#admitting && this.#staging.matches(manifest.value.root, manifest.value.count)) {
      this.#uncoveredSinceMs = undefined;
      this.#admitted = manifest.value;
      for (const [key, value] of this.#staging.take()) this.#records.admit(key, value);
      this.#admitPart(nowMs);
      return;
    }
    if (this.#admitted !== undefined && this.#admitting) this.#admitPart(nowMs);
    const nothingYet = this.#manifestBytes === undefined && this.#admitted === undefined && this.#staging.pending === 0;
    if (!nothingYet) this.#uncoveredSinceMs ??= nowMs;
  }

  /** By the newest `readers` record that is admitted, also while what is newer for all is not covered yet. */
  #admitPart(nowMs: number): void {
    const { readers } = this.#records.singles;
    const mine = readers?.parts.find(({ reader }) => reader === this.#options.self);
    if (this.name !== this.#options.self) this.#part.admit(mine?.root, nowMs);
  }

  /** Signature, name, and not older than any seen. A newer one is proof of life, whether or not it covers the records. */
  #verify(nowMs: number): Result<Manifest> | undefined {
    if (this.#manifestBytes === undefined) return undefined;
    const { clusterset } = this.#options;
    let manifest: Result<Manifest> | undefined;
    for (const key of this.#succession.keys) {
      const by = verifyManifest(this.#manifestBytes, { clusterset, member: this.name, key });
      manifest ??= by;
      if (by.ok) manifest = by;
    }
    if (manifest?.ok !== true) return manifest;
    const stale = staleManifest(this.name, manifest.value, this.#seen);
    if (stale !== undefined) return { ok: false, error: stale };
    if (this.#seen === undefined || compareHeads(manifest.value, this.#seen) > 0) {
      if ((this.#seen?.shuttingDown ?? false) !== manifest.value.shuttingDown) this.#memberDirty = true;
      this.#seen = manifest.value;
      this.#journals.note(manifest.value);
      this.#freshAtMs = nowMs;
      this.#headDirty = true;
    }
    return { ok: true, value: this.#seen };
  }

  /** Said when the store's records and the newest manifest have not agreed for a while. */
  #uncovered(): IsthmusError | undefined {
    if (this.#member === undefined || this.#uncoveredSinceMs === undefined) return undefined;
    const ageMs = this.#nowMs - this.#uncoveredSinceMs;
    if (ageMs < limits.uncoveredGraceMs || this.#manifest?.ok === false) return undefined;
    const subject = { member: this.name, ageMs, waiting: this.#staging.pending };
    const inUse = this.#admitted === undefined ? 'none of its records is used' : `in use: ${shownHead(this.#admitted)}`;
    if (this.#manifest === undefined) {
      return new IsthmusError('record/uncovered', `${this.name} has no manifest in the store; ${inUse}`, { subject });
    }
    if (!this.#admitting) return undefined;
    const { count } = this.#manifest.value;
    const message = `for ${ageMs} ms the newest manifest of ${this.name} (${count} records) has not matched the store (${this.#staging.count}); ${inUse}`;
    return new IsthmusError('manifest/root', message, {
      hint: 'records were deleted, withheld or added in the store, or its writer died in the middle of a tick',
      subject,
    });
  }
}

const savedRecords = function* ({ covered, lastGood }: AdmittedRecords, staging: Staging): Generator<SavedRecord> {
  for (const [key, packed] of covered) {
    yield { key, hash: staging.admittedHash(key), covered: packed, lastGood: lastGood.get(key) };
  }
};
