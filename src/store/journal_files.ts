/**
 * The journal's files on a real disk.
 *
 * A file is opened by its name for every write: one that was deleted or shortened by somebody is found out, where a handle that is kept
 * open would go on into a file that has no name. What a failed write left is cut off and written again, whole: after a failed fsync the
 * kernel may call pages clean that never reached the disk, so an fsync alone must not be tried again.
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir, readFile, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { JournalFiles } from '../journal/files.ts';

const dirMode = 0o700;
const fileMode = 0o600;
const probeBytes = 4_096;
const namePattern = /^[0-9a-z][0-9a-z.-]{0,120}$/;

const hints: Readonly<Record<string, string>> = {
  ENOSPC: 'the volume of state.dir is full: give it room',
  EDQUOT: 'the quota of the volume of state.dir is used up: raise it',
  EROFS: 'the volume of state.dir is mounted read-only: look at the node’s disk',
  EIO: 'the disk under state.dir fails: move the pod to another node',
  EACCES: 'the volume of state.dir belongs to another user: set fsGroup or its owner',
};

const codeOf = (error: unknown): string => String((error as { code?: unknown } | null)?.code ?? '');

const ioError = (path: string, what: string, error: unknown): IsthmusError =>
  error instanceof IsthmusError
    ? error
    : new IsthmusError('journal/unwritable', `cannot ${what} ${path}: ${(error as Error).message}`, {
        hint: hints[codeOf(error)] ?? 'check the volume of state.dir: its space, its owner and that it is writable',
        subject: { file: path },
        cause: error,
      });

export class DiskJournalFiles implements JournalFiles {
  readonly #dir: string;
  readonly #clock: Clock;

  /** @param options.dir - made when missing, for this user alone; of one process */
  constructor(options: { readonly dir: string; readonly clock: Clock }) {
    this.#dir = options.dir;
    this.#clock = options.clock;
  }

  async list(): Promise<readonly { readonly name: string; readonly bytes: number }[]> {
    try {
      await mkdir(this.#dir, { recursive: true, mode: dirMode });
      const names = await readdir(this.#dir);
      const stats = await Promise.all(names.map((name) => lstat(join(this.#dir, name)).catch(() => undefined)));
      return names.flatMap((name, i) => (stats[i]?.isFile() === true ? [{ name, bytes: stats[i].size }] : []));
    } catch (error) {
      throw ioError(this.#dir, 'read', error);
    }
  }

  async read(name: string, bytesMax: number): Promise<Uint8Array> {
    const path = this.#path(name);
    try {
      const { size } = await lstat(path);
      if (size > bytesMax) throw new Error(`${size} bytes are more than any file of a journal has`);
      return await readFile(path);
    } catch (error) {
      throw ioError(path, 'read', error);
    }
  }

  async write(name: string, offset: number, bytes: Uint8Array): Promise<void> {
    const path = this.#path(name);
    try {
      const file = await this.#open(path, offset);
      try {
        const { size } = await file.stat();
        if (size < offset) throw changed(path, `it has ${size} bytes, and ${offset} were written`);
        if (size > offset) await file.truncate(offset);
        await writeAll(file, bytes, offset);
        await file.sync();
      } finally {
        await file.close();
      }
      if (offset === 0) await this.#syncDir();
    } catch (error) {
      throw ioError(path, 'write', error);
    }
  }

  async remove(name: string): Promise<void> {
    const path = this.#path(name);
    try {
      await unlink(path);
      await this.#syncDir();
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw ioError(path, 'remove', error);
    }
  }

  async free(): Promise<number> {
    try {
      const { bavail, bsize } = await statfs(this.#dir);
      return bavail * bsize;
    } catch (error) {
      throw ioError(this.#dir, 'read', error);
    }
  }

  async probe(): Promise<void> {
    await this.write('probe', 0, Buffer.alloc(probeBytes));
    await this.remove('probe');
  }

  async setAside(name: string, bytes: Uint8Array): Promise<string> {
    const already = (await this.list()).filter((file) => file.name.includes('.torn-'));
    if (already.length >= limits.stateSetAsideMax) {
      throw new IsthmusError('journal/unwritable', `${already.length} damaged pieces lie in ${this.#dir} already`, {
        hint: 'find the cause and move the *.torn-* files away; until then the journal is not written',
      });
    }
    for (let ms = Math.trunc(this.#clock.wallMs()); ; ms++) {
      const target = `${name}.torn-${ms}`;
      if (already.some((file) => file.name === target)) continue;
      await this.write(target, 0, bytes);
      return target;
    }
  }

  async #open(path: string, offset: number): Promise<FileHandle> {
    const flags = constants.O_RDWR | constants.O_NOFOLLOW | (offset === 0 ? constants.O_CREAT : 0);
    try {
      return await open(path, flags, fileMode);
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      if (offset > 0) throw changed(path, 'it is gone');
      await mkdir(this.#dir, { recursive: true, mode: dirMode });
      return await open(path, flags, fileMode);
    }
  }

  /** Without this a new name may be forgotten in a power cut. */
  async #syncDir(): Promise<void> {
    const dir = await open(this.#dir, constants.O_RDONLY);
    try {
      await dir.sync();
    } finally {
      await dir.close();
    }
  }

  #path(name: string): string {
    if (!namePattern.test(name)) throw new Error(`journal: "${name}" cannot be a file`);
    return join(this.#dir, name);
  }
}

/** A write may take less than it was given. */
const writeAll = async (file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> => {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, offset + done);
    done += bytesWritten;
  }
};

const changed = (path: string, why: string): IsthmusError =>
  new IsthmusError('journal/broken', `${path} was changed by somebody else: ${why}`, {
    hint: 'what was written before it is lost to this journal; peers hold the hash of its newest entry',
    subject: { file: path },
  });
