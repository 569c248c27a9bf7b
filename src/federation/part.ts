/**
 * What one member publishes for us alone: `to/<us>/<member>/…`.
 *
 * Its root stands in the member's `readers` record, which the manifest covers, so the manifest covers this part too, and nobody
 * who may not read it learns more than that it is there. It has a staging of its own: the store tells of it on a watch of its own, and
 * what is late there must not hold back what is published for all. Services and grants are taken from it, nothing else.
 */
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import { AdmittedRecords, unpack } from './admitted.ts';
import { type StagedValue, Staging } from './staging.ts';

export class Part {
  readonly #name: string;
  readonly #reader: string;
  readonly staging: Staging;
  readonly records = new AdmittedRecords({ forUs: true });
  #uncoveredSinceMs: number | undefined;
  #promised = false;
  /** Public and these as one; undefined while there are none of these. */
  #merged: Map<ServiceKey, ServiceRecord> | undefined;

  constructor(name: string, reader: string) {
    this.#name = name;
    this.#reader = reader;
    this.staging = new Staging(`${name}, for ${reader}`);
  }

  get empty(): boolean {
    return this.staging.empty && this.records.covered.size === 0;
  }

  replace(entries: ReadonlyMap<string, Uint8Array>, bytesMax: number): void {
    this.staging.replace(entries, bytesMax);
  }

  apply(changes: readonly { readonly key: string; readonly value: StagedValue }[], bytesMax: number): void {
    for (const { key, value } of changes) {
      if (value === undefined) this.staging.delete(key);
      else this.staging.put(key, value, bytesMax);
    }
  }

  /** @param root - as the member's admitted `readers` record has it; undefined: it says that there is no such part */
  admit(root: Uint8Array | undefined, nowMs: number): void {
    this.#promised = root !== undefined;
    if (root === undefined) {
      // Withdrawn by the member, whatever the store still holds.
      for (const [key, packed] of [...this.records.covered]) {
        this.staging.giveBack(key, unpack(packed));
        this.records.admit(key, undefined);
      }
    } else if (this.staging.hasRoot(root)) {
      this.#uncoveredSinceMs = undefined;
      for (const [key, value] of this.staging.take()) this.records.admit(key, value);
      return;
    }
    if (root === undefined && this.staging.count === 0) this.#uncoveredSinceMs = undefined;
    else this.#uncoveredSinceMs ??= nowMs;
  }

  /** The member's services with these among them. A service in both is what it is for us. */
  merge(
    everybodys: ReadonlyMap<ServiceKey, ServiceRecord>,
    changed: Iterable<ServiceKey>,
  ): ReadonlyMap<ServiceKey, ServiceRecord> {
    const ours = this.records.services;
    if (ours.size === 0) {
      this.#merged = undefined;
      return everybodys;
    }
    if (this.#merged === undefined) {
      this.#merged = new Map([...everybodys, ...ours]);
      return this.#merged;
    }
    for (const key of changed) {
      const record = ours.get(key) ?? everybodys.get(key);
      if (record === undefined) this.#merged.delete(key);
      else this.#merged.set(key, record);
    }
    return this.#merged;
  }

  /** @param nowMs - of the last tick */
  *problems(nowMs: number): Generator<IsthmusError> {
    yield* this.records.problems();
    if (this.staging.overflow !== undefined) yield this.staging.overflow;
    if (this.#uncoveredSinceMs === undefined) return;
    const ageMs = nowMs - this.#uncoveredSinceMs;
    if (ageMs < limits.uncoveredGraceMs || this.staging.overflow !== undefined) return;
    const subject = { member: this.#name, key: `to/${this.#reader}/${this.#name}`, ageMs };
    if (!this.#promised) {
      const message = `the store holds ${this.staging.count} records of ${this.#name} for ${this.#reader} that its manifest says nothing of: they are not used`;
      yield new IsthmusError('record/uncovered', message, { subject });
      return;
    }
    const inUse = this.records.covered.size === 0 ? 'none of them is used' : 'the last good ones stay in use';
    const message = `for ${ageMs} ms what ${this.#name} publishes for ${this.#reader} alone has not matched what its manifest says; ${inUse}`;
    yield new IsthmusError('manifest/root', message, {
      hint: `records were deleted, withheld or added in the store; or this member’s role in etcd may not read to/${this.#reader}/: isthmus authority roles`,
      subject,
    });
  }
}
