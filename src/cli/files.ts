/** Reading what a command names, and writing secrets so that only their owner can read them. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { IsthmusError } from '../core/errors.ts';

const bytesMax = 1024 * 1024;

export const readNamed = (option: string, path: string): string => {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new IsthmusError(
      'config/file',
      `${option} "${path}" cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'error'})`,
      {
        hint: 'name a file that exists',
        cause,
      },
    );
  }
  if (text.length > bytesMax)
    throw new IsthmusError('files/invalid', `${option} "${path}" is larger than ${bytesMax} bytes`);
  return text;
};

/** `secret`: readable by its owner alone. */
export const writeNew = (path: string, content: string, secret: boolean): void => {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  writeFileSync(path, content, { mode: secret ? 0o600 : 0o644 });
  chmodSync(path, secret ? 0o600 : 0o644);
};

/** Refuses to write over what is there: keys that are lost cannot be had again. */
export const mustNotExist = (path: string, what: string): void => {
  if (!existsSync(path)) return;
  throw new IsthmusError('usage/invalid', `${what} "${path}" exists already`, {
    hint: 'choose another --out, or move it away',
  });
};
