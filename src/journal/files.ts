/** The port to the disk: a directory of files that only grow. Two of them exist: real ones in `store/`, and in tests a memory that fails. */

export interface JournalFiles {
  list(): Promise<readonly { readonly name: string; readonly bytes: number }[]>;
  /** The whole file; rejects with `journal/unwritable` when it cannot be read or is larger than `bytesMax`. */
  read(name: string, bytesMax: number): Promise<Uint8Array>;
  /**
   * Resolves when the file is `offset` bytes of what it was and then `bytes`, and that would survive a power cut. What an
   * earlier, failed write left behind `offset` is cut off. At offset 0 the file is made. Rejects with `journal/unwritable`; with
   * `journal/broken` when the file is shorter than `offset`, for then somebody else has changed it.
   */
  write(name: string, offset: number, bytes: Uint8Array): Promise<void>;
  remove(name: string): Promise<void>;
  /** Bytes that the volume still has for others; rejects with `journal/unwritable`. */
  free(): Promise<number>;
  /** Writes and removes a little, durably; rejects with `journal/unwritable`. */
  probe(): Promise<void>;
  /** Keeps bytes of `name` that cannot be trusted, for a person to look at. @returns the name they are kept under */
  setAside(name: string, bytes: Uint8Array): Promise<string>;
}

/** `<number of the chain>-<chain>-<first sequence>.entries`, and `.inputs` beside it. */
export interface FileName {
  readonly name: string;
  readonly ordinal: number;
  readonly chain: string;
  readonly first: number;
  readonly of: 'entries' | 'inputs';
  readonly bytes: number;
}

const pattern = /^([0-9]{6})-([0-9a-f]{16})-([0-9]{12})\.(entries|inputs)$/;

export const fileName = (ordinal: number, chain: string, first: number, of: FileName['of']): string =>
  `${String(ordinal).padStart(6, '0')}-${chain}-${String(first).padStart(12, '0')}.${of}`;

/** The journal's own files among all, oldest first. */
export const journalFiles = (all: readonly { readonly name: string; readonly bytes: number }[]): readonly FileName[] =>
  all
    .flatMap(({ name, bytes }) => {
      const match = pattern.exec(name);
      if (match === null) return [];
      const of = match[4] as FileName['of'];
      return [{ name, ordinal: Number(match[1]), chain: match[2]!, first: Number(match[3]), of, bytes }];
    })
    .sort((a, b) => a.ordinal - b.ordinal || a.first - b.first);
