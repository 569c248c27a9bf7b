/**
 * The last good state on disk: what a controller serves from when it starts while etcd is dark.
 *
 * Whoever can write to the directory could otherwise decide what the data plane believes, so each file carries a MAC under a
 * key that lies beside it, readable by this process alone. A file that does not check out is never used and never deleted:
 * it is set aside under a name of its own for a person to look at, and the controller starts without it. When too many were
 * set aside already, the bad file stays in its place and saving is refused: something is wrong that deleting would hide.
 *
 * High water: the MAC says who wrote a file, not when. A volume restored from an older copy checks out. So what a state says
 * of epochs and sequences is a floor: its reader takes the highest of it and of every other source, and never goes back to
 * it. Within one directory that is enforced here: a save below the `highWater` of the state it would replace is a bug.
 *
 * One process per directory. A database was passed over: there are a few blobs, written whole.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { chmod, link, lstat, mkdir, open, readdir, readFile, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { macBytes, overheadBytesMax, type Saved, type SavedMeta, seal, unseal } from './envelope.ts';
import type { StoreLog } from './session.ts';

export type { Saved, SavedMeta } from './envelope.ts';

export interface SavedState {
  /**
   * Replaces the state `name`, whole or not at all, and returns once it would survive a power cut. Saves of one name take
   * place one after another. Rejects with `state/io`. Throws a plain error when `meta.highWater` goes back.
   */
  save(name: string, payload: Uint8Array, meta?: SavedMeta): Promise<void>;
  /**
   * The state as it was last saved. Undefined when there is none, or none that can be trusted: see `problems`. Rejects with
   * `state/io` when the disk cannot be read.
   */
  load(name: string): Promise<Saved | undefined>;
  /** What was found damaged since the start, as `state/corrupt`. */
  problems(): readonly IsthmusError[];
}

export interface SavedStateOptions {
  /** Made when missing, for this user alone. */
  readonly dir: string;
  readonly clock: Clock;
  readonly log: StoreLog;
}

const keyName = 'mac.key';
const namePattern = /^[a-z0-9][a-z0-9-]{0,62}$/;
const dirMode = 0o700;
const fileMode = 0o600;

/** Rejects with `state/io` when the directory or the key cannot be used. */
export const openSavedState = async (options: SavedStateOptions): Promise<SavedState> => {
  const state = new DiskState(options);
  await state.open();
  return state;
};

class DiskState implements SavedState {
  private readonly dir: string;
  private readonly clock: Clock;
  private readonly log: StoreLog;
  private readonly found: IsthmusError[] = [];
  private readonly queues = new Map<string, Promise<unknown>>();
  /** Names whose file was read or written by this process, with its high-water mark. */
  private readonly marks = new Map<string, bigint | undefined>();
  /** Names whose damaged file could not be set aside. */
  private readonly blocked = new Map<string, IsthmusError>();
  private macKey: Uint8Array = new Uint8Array();

  constructor({ dir, clock, log }: SavedStateOptions) {
    this.dir = dir;
    this.clock = clock;
    this.log = log;
  }

  async open(): Promise<void> {
    try {
      await mkdir(this.dir, { recursive: true, mode: dirMode });
      this.macKey = await this.readKey();
    } catch (error) {
      throw ioError(this.dir, 'open', error);
    }
  }

  problems(): readonly IsthmusError[] {
    return this.found;
  }

  async load(name: string): Promise<Saved | undefined> {
    requireName(name);
    return this.inTurn(name, () => this.read(name));
  }

  async save(name: string, payload: Uint8Array, meta: SavedMeta = {}): Promise<void> {
    requireName(name);
    if (payload.byteLength > limits.stateBytesMax) {
      const text = `saved state "${name}" has ${payload.byteLength} bytes, over ${limits.stateBytesMax}`;
      throw new IsthmusError('state/io', text, { hint: 'the last one that fitted stays' });
    }
    return this.inTurn(name, async () => {
      // What is there and was never looked at may be damaged, and would be lost unseen.
      if (!this.marks.has(name)) await this.read(name);
      const blocked = this.blocked.get(name);
      if (blocked !== undefined) {
        throw new IsthmusError('state/io', `"${name}" is not saved over a damaged file: ${blocked.message}`, {
          ...(blocked.hint && { hint: blocked.hint }),
          cause: blocked,
        });
      }
      const before = this.marks.get(name);
      if (before !== undefined && (meta.highWater === undefined || meta.highWater < before)) {
        throw new Error(`save: the high-water mark of "${name}" would go back from ${before} to ${meta.highWater}`);
      }
      await this.write(name, payload, meta);
      this.marks.set(name, meta.highWater);
    });
  }

  private inTurn<T>(name: string, fn: () => Promise<T>): Promise<T> {
    const turn = (this.queues.get(name) ?? Promise.resolve()).then(fn, fn);
    this.queues.set(name, turn);
    return turn;
  }

  private async write(name: string, payload: Uint8Array, meta: SavedMeta): Promise<void> {
    const path = join(this.dir, name);
    try {
      await this.writeWhole(`${path}.tmp`, seal(this.macKey, name, payload, this.clock.wallMs(), meta));
      await rename(`${path}.tmp`, path);
      await this.syncDir();
    } catch (error) {
      throw ioError(path, 'write', error);
    }
  }

  private async writeWhole(path: string, pieces: readonly Uint8Array[]): Promise<void> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
    const file = await open(path, flags, fileMode);
    try {
      // FileHandle.writeFile goes on after a short write; writev does not.
      for (const piece of pieces) await file.writeFile(piece);
      await file.sync();
    } finally {
      await file.close();
    }
  }

  /** Without this a rename may be forgotten in a power cut. */
  private async syncDir(): Promise<void> {
    const dir = await open(this.dir, constants.O_RDONLY);
    try {
      await dir.sync();
    } finally {
      await dir.close();
    }
  }

  private async read(name: string): Promise<Saved | undefined> {
    const path = join(this.dir, name);
    this.blocked.delete(name);
    let bytes: Buffer;
    try {
      const stat = await lstat(path);
      if (!stat.isFile()) return await this.refuse(name, 'it is not a regular file');
      if (stat.size > limits.stateBytesMax + overheadBytesMax) {
        return await this.refuse(name, `its ${stat.size} bytes are more than any state has`);
      }
      bytes = await readFile(path);
    } catch (error) {
      if (!isCode(error, 'ENOENT')) throw error instanceof IsthmusError ? error : ioError(path, 'read', error);
      this.marks.set(name, undefined);
      return undefined;
    }
    const result = unseal(this.macKey, name, bytes);
    if (!result.ok) return this.refuse(name, result.error.message);
    this.marks.set(name, result.value.highWater);
    return result.value;
  }

  /** Sets a file aside. When too many were, it stays, and nothing may replace it. */
  private async refuse(name: string, why: string): Promise<undefined> {
    const path = join(this.dir, name);
    const aside = (await readdir(this.dir)).filter((file) => file.startsWith(`${name}.corrupt-`));
    const full = aside.length >= limits.stateSetAsideMax;
    const target = full ? path : await this.setAside(path);
    const error = new IsthmusError('state/corrupt', `${path} is not used: ${why}`, {
      hint: full
        ? `${aside.length} damaged files lie there already: find the cause and move them away; until then nothing is saved`
        : `it was kept as ${target}; the state is built anew from etcd and Kubernetes`,
      subject: { file: target },
    });
    this.found.push(error);
    this.log('error', 'saved state is corrupt', { code: error.code, reason: error.message, file: target });
    if (full) {
      // Looked at again with each save: a person may have made room meanwhile.
      this.blocked.set(name, error);
      this.marks.delete(name);
    } else {
      this.marks.set(name, undefined);
    }
    return undefined;
  }

  /** Moves a file to the first free name of its kind. `link` fails where `rename` would overwrite. */
  private async setAside(path: string): Promise<string> {
    for (let ms = Math.trunc(this.clock.wallMs()); ; ms++) {
      const target = `${path}.corrupt-${ms}`;
      try {
        if ((await lstat(path)).isFile()) {
          await link(path, target);
          await unlink(path);
        } else {
          await lstat(target).then(
            () => Promise.reject(Object.assign(new Error('taken'), { code: 'EEXIST' })),
            () => rename(path, target),
          );
        }
        await this.syncDir();
        return target;
      } catch (error) {
        if (!isCode(error, 'EEXIST')) throw ioError(path, 'set aside', error);
      }
    }
  }

  private async readKey(): Promise<Uint8Array> {
    const path = join(this.dir, keyName);
    const existing = await this.existingKey(path);
    if (existing !== undefined) return existing;
    await this.writeWhole(`${path}.tmp`, [randomBytes(macBytes)]);
    await rename(`${path}.tmp`, path);
    await this.syncDir();
    return readFile(path);
  }

  private async existingKey(path: string): Promise<Uint8Array | undefined> {
    try {
      const stat = await lstat(path);
      if (stat.isFile() && stat.size === macBytes) {
        if ((stat.mode & 0o077) !== 0) {
          this.log('warn', 'the MAC key of the saved state was readable by others', { file: path });
          await chmod(path, fileMode);
        }
        return await readFile(path);
      }
      // Without its key, no state here can be told from a forged one: each is set aside when it is loaded.
      await this.refuse(keyName, 'it is not a MAC key');
      return undefined;
    } catch (error) {
      if (isCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }
}

const requireName = (name: string): void => {
  if (!namePattern.test(name)) throw new Error(`saved state: "${name}" cannot be a name`);
};

const isCode = (error: unknown, code: string): boolean => (error as { code?: unknown } | null)?.code === code;

const ioError = (path: string, what: string, error: unknown): IsthmusError =>
  error instanceof IsthmusError
    ? error
    : new IsthmusError('state/io', `cannot ${what} ${path}: ${(error as Error).message}`, {
        hint: 'check the volume of state.dir: its space, its owner and that it is writable',
        subject: { file: path },
        cause: error,
      });
