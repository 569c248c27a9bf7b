/**
 * The operator's desk: the directory that `isthmus init` wrote. It holds the authority's key, how to reach etcd as root, which tokens were
 * given out and used, and what was approved and refused. Nothing in a cluster needs it, so it may be offline between two uses.
 */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { IsthmusError } from '../core/errors.ts';
import type { EtcdOptions } from '../store/session.ts';
import { etcdAccess } from './etcd_access.ts';
import { readNamed, writeNew } from './files.ts';

export const authorityKeyFile = 'authority-key.pem';
const deskFile = 'clusterset.yaml';

const deskSchema = z.strictObject({
  clusterset: z.string().min(1).max(63),
  etcd: z.strictObject({
    endpoints: z.array(z.string()).min(1),
    ca: z.string(),
    caKey: z.string(),
    cert: z.string(),
    key: z.string(),
    allowUnsafe: z.boolean().default(false),
    /** A command that ends the connections of one etcd member; `{endpoint}` is its URL. */
    restart: z.string().optional(),
    /** Store gateways, as members reach them. */
    gateways: z.array(z.string()).default([]),
    /** Who writes what members publish: see `WrittenBy`. */
    writes: z.enum(['etcd', 'gateways']).default('etcd'),
  }),
});

export type DeskFile = z.infer<typeof deskSchema>;

export interface DeskOptions {
  readonly authorityDir: string;
}

/** Takes the place of the desk file. */
export const replaceDesk = (dir: string, desk: DeskFile): void => {
  const path = join(dir, deskFile);
  writeFileSync(`${path}.new`, stringify(desk), { mode: 0o644 });
  renameSync(`${path}.new`, path);
};

export const writeDesk = (dir: string, desk: DeskFile): void => writeNew(join(dir, deskFile), stringify(desk), false);

export const hasDesk = (dir: string): boolean => existsSync(join(dir, deskFile));

/** @throws IsthmusError config/file, files/invalid */
export const readDesk = ({ authorityDir }: DeskOptions): DeskFile => {
  const path = join(authorityDir, deskFile);
  const hint = 'name with --authority-dir the directory that "isthmus init" wrote';
  let text: string;
  try {
    text = readNamed('--authority-dir', path);
  } catch (cause) {
    throw new IsthmusError('config/file', `--authority-dir "${authorityDir}" holds no ${deskFile}`, { hint, cause });
  }
  let value: unknown;
  try {
    value = parse(text, { maxAliasCount: 10 });
  } catch {
    value = undefined;
  }
  const desk = deskSchema.safeParse(value);
  if (desk.success) return desk.data;
  const problem = desk.error.issues[0]!;
  throw new IsthmusError('files/invalid', `"${path}": ${problem.path.join('.') || 'it'}: ${problem.message}`, { hint });
};

/** etcd as its root user. */
export const deskEtcd = ({ etcd }: DeskFile): EtcdOptions => etcdAccess(etcd, 'etcd.');
