/**
 * A disk in memory that fails on demand: full, broken, read-only, slow, or cut off in the middle of a write. What was not synced is lost in a
 * crash, or half of it is.
 */
import { IsthmusError } from '../../src/core/errors.ts';
import type { JournalFiles } from '../../src/journal/files.ts';

export class MemoryJournalFiles implements JournalFiles {
  readonly files = new Map<string, Buffer>();
  /** Why the next writes fail; part of the bytes stay behind. */
  failing: 'ENOSPC' | 'EIO' | 'EROFS' | undefined;
  /** Writes wait for this. */
  hold: Promise<void> | undefined;
  freeBytes = Number.MAX_SAFE_INTEGER;
  /** Files made and written since the start. */
  writes = 0;
  #aside = 0;

  async list(): Promise<readonly { readonly name: string; readonly bytes: number }[]> {
    this.#readable();
    return [...this.files].map(([name, { length }]) => ({ name, bytes: length }));
  }

  async read(name: string): Promise<Uint8Array> {
    this.#readable();
    return Buffer.from(this.files.get(name) ?? Buffer.alloc(0));
  }

  async write(name: string, offset: number, bytes: Uint8Array): Promise<void> {
    this.writes++;
    if (this.hold !== undefined) await this.hold;
    const before = this.files.get(name);
    if (before === undefined && offset > 0) throw new IsthmusError('journal/broken', `${name} is gone`);
    const old = before ?? Buffer.alloc(0);
    if (old.length < offset) throw new IsthmusError('journal/broken', `${name} has ${old.length} bytes of ${offset}`);
    if (this.failing === 'EROFS') throw this.#error(name);
    if (this.failing !== undefined) {
      this.files.set(name, Buffer.concat([old.subarray(0, offset), bytes.subarray(0, bytes.length >> 1)]));
      throw this.#error(name);
    }
    this.files.set(name, Buffer.concat([old.subarray(0, offset), bytes]));
  }

  async remove(name: string): Promise<void> {
    if (this.failing === 'EROFS') throw this.#error(name);
    this.files.delete(name);
  }

  async free(): Promise<number> {
    return this.freeBytes;
  }

  async probe(): Promise<void> {
    if (this.hold !== undefined) await this.hold;
    if (this.failing !== undefined) throw this.#error('probe');
  }

  async setAside(name: string, bytes: Uint8Array): Promise<string> {
    const target = `${name}.torn-${++this.#aside}`;
    await this.write(target, 0, bytes);
    return target;
  }

  #readable(): void {
    if (this.failing === 'EIO') throw this.#error('directory');
  }

  #error(name: string): IsthmusError {
    return new IsthmusError('journal/unwritable', `cannot write ${name}: ${this.failing}`);
  }
}
