/** Writes a set of files below a directory, keys readable by us alone. Returns the path of each. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export async function writeFiles<Name extends string>(
  dir: string,
  files: Readonly<Record<Name, string | Uint8Array>>,
): Promise<Record<Name, string>> {
  const entries = Object.entries(files) as [Name, string | Uint8Array][];
  const paths = await Promise.all(
    entries.map(async ([name, content]) => {
      const path = join(dir, name);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, content, { mode: 0o600 });
      return [name, path] as const;
    }),
  );
  return Object.fromEntries(paths) as Record<Name, string>;
}
