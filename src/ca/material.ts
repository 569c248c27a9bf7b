/**
 * A cacerts directory in the middle of a rotation: beside Istio's four files it holds the CA that will issue next, and the one that
 * issued before. Whoever does not know of them reads the four and is right.
 *
 * They lie in the same directory because that is one Secret: what issues and what is trusted change together, or not at all.
 */
import { createHash, type X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { IsthmusError } from '../core/errors.ts';
import { type Authority, type Cacerts, cacertsFiles, parseAuthority } from './authority.ts';
import { certificatesOf } from './pem.ts';

/** Of a CA that does not issue now: its three files, under another name. */
export type Waiting = 'next' | 'previous';
const caFiles = ['ca-cert.pem', 'ca-key.pem', 'cert-chain.pem'] as const;
export const waitingFiles = (which: Waiting): readonly string[] => caFiles.map((file) => `${which}-${file}`);
export const materialFiles: readonly string[] = [...cacertsFiles, ...waitingFiles('next'), ...waitingFiles('previous')];

/** File names to texts. */
export type MaterialFiles = Readonly<Record<string, string>>;

export interface Material {
  readonly authority: Authority;
  /** Issues after the switch; until then it proves in probes that its root is trusted. */
  readonly next: Authority | undefined;
  /** CAs of this cluster whose certificates may still be in use: the one that issues, the next and the previous one. */
  readonly issuers: readonly X509Certificate[];
  /** Equal for equal files. */
  readonly digest: string;
}

/** All files that are there. @throws IsthmusError 'files/invalid' when one of the four is not. */
export const readMaterial = (dir: string): MaterialFiles => {
  const files: Record<string, string> = {};
  for (const file of materialFiles) {
    const path = join(dir, file);
    const needed = (cacertsFiles as readonly string[]).includes(file);
    if (!needed && !existsSync(path)) continue;
    try {
      files[file] = readFileSync(path, 'utf8');
    } catch (cause) {
      const hint = `a cacerts directory holds ${cacertsFiles.join(', ')}`;
      throw new IsthmusError('files/invalid', `${path} cannot be read`, { hint, cause });
    }
  }
  return files;
};

export const materialDigest = (files: MaterialFiles): string => {
  const hash = createHash('sha256');
  for (const file of materialFiles) hash.update(`${file}\0${files[file] ?? ''}\0`);
  return hash.digest('hex');
};

const waiting = (files: MaterialFiles, which: Waiting): Cacerts | undefined => {
  const [cert, key, chain] = waitingFiles(which).map((file) => files[file]);
  if (cert === undefined || key === undefined || chain === undefined) return undefined;
  return { 'ca-cert.pem': cert, 'ca-key.pem': key, 'cert-chain.pem': chain, 'root-cert.pem': files['root-cert.pem']! };
};

/** @throws IsthmusError 'trust/invalid', naming the file. @param what - where they come from */
export const parseMaterial = (files: MaterialFiles, what: string, nowMs: number): Material => {
  for (const file of cacertsFiles) {
    if (files[file] === undefined) throw new IsthmusError('trust/invalid', `${what}/${file} is missing`);
  }
  const authority = parseAuthority(files as Cacerts, what, nowMs);
  const staged = waiting(files, 'next');
  const next = staged === undefined ? undefined : parseAuthority(staged, `${what}, next`, nowMs);
  // Its root may be gone from the pool, and its time over: it only says whose signature is still our own.
  const before = files['previous-ca-cert.pem'];
  const previous = before === undefined ? [] : certificatesOf(before, `${what}/previous-ca-cert.pem`).slice(0, 1);
  const issuers = [authority.certificate, ...(next === undefined ? [] : [next.certificate]), ...previous];
  return { authority, next, issuers, digest: materialDigest(files) };
};

export const loadMaterial = (dir: string, nowMs: number): Material => parseMaterial(readMaterial(dir), dir, nowMs);
