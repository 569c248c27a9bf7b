/**
 * Reading configuration: the member bundle, the file, the environment, the flags; later wins.
 *
 * An unknown key in a file or flag is an error, never ignored: a misspelt timeout must not silently be the default. Unknown
 * environment variables are passed over, for Kubernetes itself sets some that begin with the name of our Service.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { IsthmusError } from '../core/errors.ts';
import { type Config, configSchema } from './controller.ts';
import { type StoreGatewayConfig, storeGatewayFile, storeGatewaySchema } from './store_gateway.ts';

type Tree = { [key: string]: unknown };
const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value);

const merge = (base: Tree, over: Tree): Tree => {
  const out: Tree = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = out[key];
    out[key] = isTree(before) && isTree(value) ? merge(before, value) : value;
  }
  return out;
};

/** Dotted paths of every key, with its description; objects themselves left out. */
export const configKeys = (of: z.ZodType = configSchema): { path: string; description: string }[] => {
  const walk = (
    schema: { properties?: Record<string, unknown> },
    prefix: string,
  ): { path: string; description: string }[] =>
    Object.entries(schema.properties ?? {}).flatMap(([name, value]) => {
      const child = value as { properties?: Record<string, unknown>; description?: string };
      const path = prefix === '' ? name : `${prefix}.${name}`;
      return child.properties ? walk(child, path) : [{ path, description: child.description ?? '' }];
    });
  return walk(configJsonSchema(of) as { properties?: Record<string, unknown> }, '');
};

export const configJsonSchema = (of: z.ZodType = configSchema): unknown =>
  z.toJSONSchema(of, { io: 'input', target: 'draft-07' });

/** `store.caFile` → `ISTHMUS_STORE_CA_FILE`. */
export const environmentName = (path: string): string =>
  `ISTHMUS_${path
    .replace(/\./g, '_')
    .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
    .toUpperCase()}`;

/** Keys whose value is a list: commas in the environment and in flags. */
const listKeys = new Set([
  'store.endpoints',
  'store.writeEndpoints',
  'failover.order',
  'controllers',
  'certificates',
  'etcd.endpoints',
]);

const scalar = (text: string, path: string): unknown => {
  if (listKeys.has(path))
    return text
      .split(',')
      .map((s) => s.trim())
      .filter((s) => s !== '');
  if (/^-?\d+$/.test(text)) return Number(text);
  if (text === 'true' || text === 'false') return text === 'true';
  return text;
};

const setPath = (tree: Tree, path: string, value: unknown): void => {
  const parts = path.split('.');
  let at = tree;
  for (const part of parts.slice(0, -1)) {
    if (!isTree(at[part])) at[part] = {};
    at = at[part] as Tree;
  }
  at[parts.at(-1)!] = value;
};

const readTree = (file: string, required: boolean): Tree => {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if (!required) return {};
    throw new IsthmusError('config/file', `configuration file "${file}" cannot be read: ${(cause as Error).message}`, {
      hint: 'give --config a file that exists and is readable',
      cause,
    });
  }
  let tree: unknown;
  try {
    tree = parseYaml(text, { maxAliasCount: 10 });
  } catch (cause) {
    throw new IsthmusError(
      'config/invalid',
      `configuration file "${file}" is not YAML: ${(cause as Error).message.split('\n')[0]}`,
      {
        hint: 'correct the line that is named',
        cause,
      },
    );
  }
  if (tree === null || tree === undefined) return {};
  if (!isTree(tree)) {
    throw new IsthmusError('config/invalid', `configuration file "${file}" must hold a mapping of keys to values`, {
      hint: 'see `isthmus config schema`',
    });
  }
  return tree;
};

export interface ConfigSources {
  readonly file?: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `--set path=value` flags. */
  readonly sets?: readonly string[];
}

const fromEnvironment = (environment: ConfigSources['environment'], of: z.ZodType): Tree => {
  const tree: Tree = {};
  const known = new Map(configKeys(of).map((k) => [environmentName(k.path), k.path]));
  for (const [name, value] of Object.entries(environment)) {
    const path = known.get(name);
    if (path !== undefined && value !== undefined) setPath(tree, path, scalar(value, path));
  }
  return tree;
};

const fromSets = (sets: readonly string[]): Tree => {
  const tree: Tree = {};
  for (const entry of sets) {
    const at = entry.indexOf('=');
    if (at <= 0)
      throw new IsthmusError('usage/invalid', `--set "${entry}" is not <key>=<value>`, {
        hint: 'see `isthmus config schema` for the keys',
      });
    const path = entry.slice(0, at);
    setPath(tree, path, scalar(entry.slice(at + 1), path));
  }
  return tree;
};

const explain = (error: z.ZodError): IsthmusError => {
  const issue = error.issues[0]!;
  const path = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') {
    const key = [path, issue.keys[0]].filter((p) => p !== '').join('.');
    return new IsthmusError('config/unknown-key', `unknown configuration key "${key}"`, {
      hint: 'see `isthmus config schema` for the keys',
      subject: { key },
    });
  }
  const missing = issue.code === 'invalid_type' && issue.message.includes('received undefined');
  return new IsthmusError(
    'config/invalid',
    missing ? `configuration key "${path}" is missing` : `configuration key "${path}": ${issue.message}`,
    {
      hint: `set it in the file, as ${environmentName(path.replace(/\.\d+$/, ''))}, or with --set ${path.replace(/\.\d+$/, '')}=…`,
      subject: { key: path, problems: error.issues.length },
    },
  );
};

/** Reads, merges and checks against any schema, without a member bundle. */
export const loadWith = <S extends z.ZodType>(
  schema: S,
  sources: ConfigSources,
  base: (over: Tree) => Tree = () => ({}),
): z.infer<S> => {
  const file = sources.file === undefined ? {} : readTree(sources.file, true);
  const over = merge(merge(file, fromEnvironment(sources.environment, schema)), fromSets(sources.sets ?? []));
  const parsed = schema.safeParse(merge(base(over), over));
  if (!parsed.success) throw explain(parsed.error);
  return parsed.data;
};

/** The controller's configuration. Throws 'config/…' naming the first key that is wrong. */
export const loadConfig = (sources: ConfigSources): Config =>
  loadWith(configSchema, sources, (over) => {
    const dir = typeof over['memberDir'] === 'string' ? over['memberDir'] : '/etc/isthmus/member';
    return readTree(join(dir, 'member.yaml'), false);
  });

/** A store gateway's configuration. */
export const loadStoreGateway = (sources: ConfigSources): StoreGatewayConfig =>
  loadWith(storeGatewaySchema, sources, (over) => {
    const dir = typeof over['dir'] === 'string' ? over['dir'] : '/etc/isthmus/store-gateway';
    return readTree(join(dir, storeGatewayFile), false);
  });

/** A key file of the member: relative paths lie in the member bundle. */
export const memberFile = (config: Config, path: string): string =>
  path.startsWith('/') ? path : join(config.memberDir, path);
