/** The definition of the kind, the page about it and the parser say the same. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { defaultPolicy } from '../../../src/failover/policy.ts';
import { policyFields } from '../../../src/failover/policy_fields.ts';
import { parsePolicySpec } from '../../../src/failover/policy_object.ts';
import { definitionYaml, policyPage } from '../../../tools/policy_files.ts';

const committed = (path: string): string => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const definition = committed('deploy/crd-failoverpolicies.yaml');
const page = committed('docs/FAILOVER-POLICY.md');

interface Node {
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Record<string, Node>;
  readonly items?: Node;
}
const spec = (parse(definition) as { spec: { versions: { schema: { openAPIV3Schema: Node } }[] } }).spec.versions[0]!
  .schema.openAPIV3Schema.properties!.spec!;
const paths = (node: Node, at = ''): string[] =>
  Object.entries(node.properties ?? {}).flatMap(([key, inner]) =>
    inner.properties === undefined ? [`${at}${key}`] : paths(inner, `${at}${key}.`),
  );

describe('the committed files', () => {
  it('are what the table makes: run tools/node tools/docs.ts', () => {
    expect(definition).toBe(definitionYaml());
    expect(page).toBe(policyPage());
  });

  it('have every field of the definition on the page, and the parser knows no other', () => {
    const all = paths(spec);
    expect(all.length).toBeGreaterThan(30);
    expect(all.filter((path) => !page.includes(`| \`${path}\` |`))).toEqual([]);
    expect(all.filter((path) => path !== 'targetRefs').sort()).toEqual(policyFields.map(({ path }) => path).sort());
  });

  it('describe each field with a sentence, and say its default', () => {
    const nodes = (node: Node): Node[] => [node, ...Object.values(node.properties ?? {}).flatMap(nodes)];
    expect(nodes(spec).filter(({ description }) => !/[A-Z].*\.$/s.test(description ?? ''))).toEqual([]);
    expect(spec.properties!.failback!.properties!.holdDown!.description).toContain('Default: the cluster set');
  });

  it('show an example that sets every field and is accepted', () => {
    const yaml = /```yaml\n(apiVersion[\s\S]*?)```/.exec(page)![1]!;
    const example = parse(yaml) as { spec: Record<string, unknown> };
    const parsed = parsePolicySpec(example.spec, defaultPolicy, 'shop/checkout');
    if (!parsed.ok) throw parsed.error;
    expect([...parsed.value.given].sort()).toEqual(policyFields.map(({ path }) => path).sort());
  });
});
