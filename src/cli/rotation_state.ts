/**
 * What a trust directory remembers of a rotation: `rotation.json`, written before and after each step, and one line in `rotation-log.jsonl`
 * for each thing that was done. A step that was cut short is done again: each gives the same files whenever it is repeated.
 */
import { appendFileSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { IsthmusError } from '../core/errors.ts';
import { realClock } from '../ops/clock.ts';
import type { Rotation } from '../trust/rotation.ts';

const root = z.string().regex(/^[0-9a-f]{64}$/);
const schema = z.strictObject({
  version: z.literal(1),
  startedMs: z.number(),
  stage: z.enum(['added', 'switched', 'removed']),
  back: z.boolean(),
  clusters: z.array(z.string()).min(1),
  from: z.array(root).min(1),
  to: z.array(root).min(1),
});

export interface SavedRotation extends Rotation {
  readonly startedMs: number;
}

const file = 'rotation.json';
const logFile = 'rotation-log.jsonl';

/** The rotation under way; undefined: none. @throws IsthmusError files/invalid */
export const readRotation = (trustDir: string): SavedRotation | undefined => {
  const path = join(trustDir, file);
  if (!existsSync(path)) return undefined;
  try {
    const { version: _version, ...rotation } = schema.parse(JSON.parse(readFileSync(path, 'utf8')));
    return rotation;
  } catch (cause) {
    throw new IsthmusError('files/invalid', `${path} cannot be read`, {
      hint: 'put it back from a copy: it says which stage the rotation is in',
      cause,
    });
  }
};

/** @throws IsthmusError usage/invalid */
export const mustBeUnderWay = (trustDir: string): SavedRotation => {
  const rotation = readRotation(trustDir);
  if (rotation !== undefined) return rotation;
  throw new IsthmusError('usage/invalid', `no rotation is under way in ${trustDir}`, {
    hint: 'begin one: isthmus trust rotate start',
  });
};

export const saveRotation = (trustDir: string, rotation: SavedRotation): void => {
  const path = join(trustDir, file);
  writeFileSync(`${path}.new`, `${JSON.stringify({ version: 1, ...rotation }, undefined, 2)}\n`);
  renameSync(`${path}.new`, path);
};

export const noteRotation = (trustDir: string, what: Readonly<Record<string, unknown>>): void =>
  appendFileSync(
    join(trustDir, logFile),
    `${JSON.stringify({ at: new Date(realClock.wallMs()).toISOString(), ...what })}\n`,
  );

/** It is over: another may begin. */
export const endRotation = (trustDir: string, rotation: SavedRotation): void =>
  renameSync(join(trustDir, file), join(trustDir, `rotation-${rotation.startedMs}.json`));

/** Directories of a trust directory that hold a cluster's CA. @throws IsthmusError config/file */
export const clustersOf = (trustDir: string): string[] => {
  try {
    return readdirSync(trustDir, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && existsSync(join(trustDir, entry.name, 'ca-cert.pem')))
      .map(({ name }) => name)
      .sort();
  } catch (cause) {
    throw new IsthmusError('config/file', `--trust-dir "${trustDir}" cannot be read`, {
      hint: 'name the directory that `isthmus trust init` wrote',
      cause,
    });
  }
};
