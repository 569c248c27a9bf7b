/**
 * Writes docs/CONFIGURATION.md, docs/METRICS.md, docs/ERRORS.md, docs/FAILOVER-POLICY.md and deploy/crd-failoverpolicies.yaml from the
 * tables in the sources: `tools/node tools/docs.ts`.
 */
import { writeFileSync } from 'node:fs';
import { gatewaySchema } from '../src/config/gateway.ts';
import { storeGatewaySchema } from '../src/config/store_gateway.ts';
import { configJsonSchema, configKeys, environmentName } from '../src/config/load.ts';
import { errorCodes } from '../src/core/errors.ts';
import { metricTable } from '../src/ops/metrics.ts';
import { definitionYaml, policyPage } from './policy_files.ts';

type Node = { properties?: Record<string, Node>; default?: unknown };
const defaultOf = (schema: Node, path: string): string => {
  const node = path.split('.').reduce<Node | undefined>((at, part) => at?.properties?.[part], schema);
  return node?.default === undefined ? '' : `\`${JSON.stringify(node.default)}\``;
};
const rows = (schema: unknown, keys: { path: string; description: string }[]): string =>
  keys.map((k) => `| \`${k.path}\` | ${environmentName(k.path)} | ${defaultOf(schema as Node, k.path)} | ${k.description} |`).join('\n');
const head = '| key | environment | default | meaning |\n|---|---|---|---|';

writeFileSync(
  'docs/CONFIGURATION.md',
  `# Configuration

Made from the schema by \`tools/node tools/docs.ts\`. A value comes from, later wins: the default, the member bundle
(\`member.yaml\` in \`memberDir\`, controllers only), the file given with \`--config\`, the environment, \`--set key=value\`. An unknown
key in a file or a flag is an error. \`isthmus config schema\` prints the JSON schema, \`isthmus config check\` the result.

## Controller

${head}
${rows(configJsonSchema(), configKeys())}

## Gateway pod

${head}
${rows(configJsonSchema(gatewaySchema), configKeys(gatewaySchema))}

## Store gateway

\`isthmus store serve\`; the file is \`store-gateway.yaml\` in \`dir\`, or the one given with \`--config\`.

${head}
${rows(configJsonSchema(storeGatewaySchema), configKeys(storeGatewaySchema))}
`,
);
writeFileSync(
  'docs/METRICS.md',
  `# Metrics

Served on \`listen.metricsAddress\`, path \`/metrics\`. Made from the table by \`tools/node tools/docs.ts\`. No label grows with pods or services.

| metric | kind | labels | meaning |
|---|---|---|---|
${Object.entries(metricTable)
  .map(([name, m]) => `| \`${name}\` | ${m.kind} | ${m.labels.join(', ')} | ${m.help} |`)
  .join('\n')}

Node's own process metrics are served beside them.
`,
);
writeFileSync(
  'docs/ERRORS.md',
  `# Errors

Every expected failure has one code, the same in logs, conditions (as the reason) and the command line (as the exit code).
Made from the table by \`tools/node tools/docs.ts\`. Exit codes: 64 usage, 65 data, 75 try again, 79 findings, 81 held by a guard, 1 unknown.

| code | reason | worth a retry | exit |
|---|---|---|---|
${Object.entries(errorCodes)
  .map(([code, e]) => `| \`${code}\` | ${e.reason} | ${e.retryable ? 'yes' : 'no'} | ${e.exit} |`)
  .join('\n')}
`,
);

writeFileSync('docs/FAILOVER-POLICY.md', policyPage());
writeFileSync('deploy/crd-failoverpolicies.yaml', definitionYaml());
