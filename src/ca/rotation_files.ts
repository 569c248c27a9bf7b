/**
 * The cacerts files of one cluster in each stage of a rotation, as functions from files to files. Each result is parsed as a controller will
 * parse it before it is written anywhere.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { IsthmusError } from '../core/errors.ts';
import { fullFingerprint } from './authority.ts';
import { type MaterialFiles, materialFiles, parseMaterial, type Waiting, waitingFiles } from './material.ts';
import { certificatesOf, pemOf, unique } from './pem.ts';

const issuing = ['ca-cert.pem', 'ca-key.pem', 'cert-chain.pem'] as const;

const without = (files: MaterialFiles, which: Waiting): MaterialFiles =>
  Object.fromEntries(Object.entries(files).filter(([file]) => !waitingFiles(which).includes(file)));

/** The CA that issues, under another name. */
const parked = (files: MaterialFiles, which: Waiting): MaterialFiles =>
  Object.fromEntries(issuing.map((file, i) => [waitingFiles(which)[i]!, files[file]!]));

const promoted = (files: MaterialFiles, which: Waiting): MaterialFiles =>
  Object.fromEntries(
    issuing.map((file, i) => {
      const text = files[waitingFiles(which)[i]!];
      if (text === undefined) {
        throw new IsthmusError('files/invalid', `${waitingFiles(which)[i]} is missing: no rotation is under way here`);
      }
      return [file, text];
    }),
  );

const rootsOf = (files: MaterialFiles) => certificatesOf(files['root-cert.pem'] ?? '', 'root-cert.pem');

/** The new root beside those that are there, and the CA under it, which waits. */
export const addedFiles = (files: MaterialFiles, fresh: MaterialFiles): MaterialFiles => ({
  ...without(without(files, 'next'), 'previous'),
  ...parked(fresh, 'next'),
  'root-cert.pem': unique([...rootsOf(files), ...rootsOf(fresh)])
    .map(pemOf)
    .join(''),
});

/** The CA that waited issues; the one before it is kept for going back. */
export const switchedFiles = (files: MaterialFiles): MaterialFiles => ({
  ...without(files, 'next'),
  ...promoted(files, 'next'),
  ...parked(files, 'previous'),
});

export const switchedBackFiles = (files: MaterialFiles): MaterialFiles => ({
  ...without(files, 'previous'),
  ...promoted(files, 'previous'),
  ...parked(files, 'next'),
});

/** Without these roots, and without the CA under them. @param roots - fingerprints, hexadecimal */
export const removedFiles = (files: MaterialFiles, roots: readonly string[]): MaterialFiles => ({
  ...without(without(files, 'next'), 'previous'),
  'root-cert.pem': rootsOf(files)
    .filter((root) => !roots.includes(fullFingerprint(root)))
    .map(pemOf)
    .join(''),
});

/** @throws IsthmusError 'trust/invalid' when a controller would not take them */
export const checkFiles = (files: MaterialFiles, what: string, nowMs: number): void => {
  parseMaterial(files, what, nowMs);
};

/** Each file whole or not at all; a controller takes up a directory when it reads the same twice. */
export const writeMaterial = (dir: string, files: MaterialFiles): void => {
  mkdirSync(dir, { recursive: true });
  for (const file of materialFiles) {
    const path = join(dir, file);
    const text = files[file];
    if (text === undefined) {
      if (existsSync(path)) rmSync(path);
      continue;
    }
    const next = `${path}.${randomBytes(4).toString('hex')}`;
    writeFileSync(next, text, { flag: 'wx', mode: file.endsWith('-key.pem') ? 0o600 : 0o644 });
    renameSync(next, path);
  }
};
