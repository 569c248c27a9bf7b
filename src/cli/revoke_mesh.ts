/**
 * The revocation lists of the mesh, beside the CAs that `isthmus trust init` made: every cluster gets a list of every CA that its proxies may
 * meet, the member's intermediate on that of its root. All of them, because Envoy refuses a chain of which it has not all lists, and istiod a
 * file without one of its own CA. A list ends with its CA.
 */
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeCrl } from '../ca/crl.ts';
import { emptyList, listsFile } from '../ca/lists.ts';
import { certificatesOf } from '../ca/pem.ts';
import { IsthmusError } from '../core/errors.ts';
import { readNamed } from './files.ts';

export const standing = (path: string): Uint8Array | undefined => (existsSync(path) ? readFileSync(path) : undefined);

/** Whole or not at all: who reads half a list at a handshake refuses everybody. */
export const replace = (path: string, content: string | Uint8Array): void => {
  const next = `${path}.${process.pid}`;
  writeFileSync(next, content, { mode: 0o644 });
  renameSync(next, path);
};

const certificateIn = (dir: string, file: string) =>
  certificatesOf(readNamed('--trust-dir', join(dir, file)), file)[0]!;

const has = (dir: string, file: string): boolean => existsSync(join(dir, file));

/** @returns the files written. @throws IsthmusError trust/invalid, files/invalid */
export const revokeInMesh = async (name: string, trustDir: string, nowMs: number): Promise<readonly string[]> => {
  const dirs = readdirSync(trustDir, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => join(trustDir, entry.name));
  const roots = dirs.filter((dir) => has(dir, 'root-key.pem'));
  const clusters = dirs.filter((dir) => has(dir, 'ca-cert.pem'));
  const out = certificateIn(join(trustDir, name), 'ca-cert.pem');
  const separate = join(trustDir, `${name}-root`);
  const issuer = existsSync(separate) ? separate : join(trustDir, 'root');
  if (!roots.includes(issuer)) {
    throw new IsthmusError(
      'files/invalid',
      `"${join(issuer, 'root-key.pem')}" is not there: without it nothing is revoked`,
      {
        hint: 'put the root’s key back for the time of this command',
      },
    );
  }
  const lists: string[] = [];
  for (const dir of roots) {
    const root = certificateIn(dir, 'root-cert.pem');
    const path = join(dir, listsFile);
    const crl = await makeCrl({
      ca: { cert: root.toString(), key: readNamed('--trust-dir', join(dir, 'root-key.pem')) },
      revoked: dir === issuer ? [{ serial: out.serialNumber, atMs: nowMs }] : [],
      before: standing(path) === undefined ? undefined : readFileSync(path, 'latin1'),
      nowMs,
      ttlS: (root.validToDate.getTime() - nowMs) / 1_000,
      what: path,
    });
    replace(path, crl.pem);
    lists.push(crl.pem);
  }
  for (const dir of clusters) {
    const ca = certificateIn(dir, 'ca-cert.pem');
    // Where its key is elsewhere, its controllers make that list themselves.
    if (ca.fingerprint256 === out.fingerprint256 || !has(dir, 'ca-key.pem')) continue;
    lists.push(await emptyList(ca, readNamed('--trust-dir', join(dir, 'ca-key.pem')), nowMs));
  }
  const files = clusters.filter((dir) => dir !== join(trustDir, name)).map((dir) => join(dir, listsFile));
  for (const path of files) replace(path, lists.join(''));
  return files;
};
