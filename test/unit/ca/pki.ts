/** Made authorities for the tests. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Authority, type Cacerts, readCacerts } from '../../../src/ca/authority.ts';
import { initTrust } from '../../../src/ca/trustfiles.ts';

export const nowMs = Date.UTC(2026, 8, 1, 12, 0, 0);
export const random = (bytes: number): Uint8Array => randomBytes(bytes);

export interface TestDir {
  readonly path: string;
  [Symbol.dispose](): void;
}

export const tempDir = (): TestDir => {
  const path = mkdtempSync(join(tmpdir(), 'isthmus-ca-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
};

export const newAuthority = async (
  intermediateTtlS?: number,
): Promise<{ readonly authority: Authority; readonly cacerts: Cacerts }> => {
  using dir = tempDir();
  const { clusters } = await initTrust(
    {
      outDir: dir.path,
      trustDomain: 'cluster.local',
      clusters: ['east'],
      nowMs,
      ...(intermediateTtlS === undefined ? {} : { intermediateTtlS }),
    },
    random,
  );
  return { authority: clusters.get('east')!, cacerts: readCacerts(join(dir.path, 'east')) };
};
