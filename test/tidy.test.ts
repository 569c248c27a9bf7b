/**
 * The repo checks itself: which room may import which, what pure rooms may not touch, how long a file may be, and that
 * every configuration key and metric is in the docs.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { gatewaySchema } from '../src/config/gateway.ts';
import { configKeys, environmentName } from '../src/config/load.ts';
import { storeGatewaySchema } from '../src/config/store_gateway.ts';
import { errorCodes } from '../src/core/errors.ts';
import { metricTable } from '../src/ops/metrics.ts';
import { version } from '../src/version.ts';

const root = resolve(import.meta.dirname, '..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

const walk = (dir: string): string[] =>
  readdirSync(join(root, dir), { withFileTypes: true }).flatMap((entry) => {
    const path = `${dir}/${entry.name}`;
    if (path === 'src/gen' || entry.name === 'node_modules') return [];
    if (entry.isDirectory()) return walk(path);
    return entry.name.endsWith('.ts') ? [path] : [];
  });

const sources = walk('src');
const all = [...sources, ...walk('test'), ...walk('scenarios'), ...walk('bench')];

/** What each pure room may import, besides itself and src/gen. */
const pure: Record<string, readonly string[]> = {
  core: [],
  records: ['core'],
  trust: ['core', 'records'],
  federation: ['core', 'records', 'trust'],
  health: ['core', 'records', 'trust', 'federation'],
  failover: ['core', 'records', 'trust', 'federation', 'health'],
  writes: ['core', 'records', 'trust', 'federation'],
  journal: ['core', 'records'],
  audit: ['core'],
  translate: ['core', 'records', 'trust', 'federation', 'health', 'failover'],
  xds: ['core'],
};
const adapters = ['store', 'kube', 'ca', 'hbone', 'probe', 'telemetry', 'gateway', 'server', 'ops'];

const roomOf = (path: string): string => path.split('/')[1]!.replace(/\.ts$/, '');

const importsOf = (path: string): string[] => {
  const text = read(path);
  const found = [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((m) => m[1]!);
  return found;
};

const importedRooms = (path: string): { spec: string; room: string }[] =>
  importsOf(path)
    .filter((spec) => spec.startsWith('.'))
    .map((spec) => ({ spec, room: roomOf(relative(root, resolve(root, dirname(path), spec))) }));

describe('import direction', () => {
  it('lets pure rooms import only the rooms below them', () => {
    const wrong: string[] = [];
    for (const path of sources) {
      const allowed = pure[roomOf(path)];
      if (allowed === undefined) continue;
      for (const { spec, room } of importedRooms(path)) {
        if (room !== roomOf(path) && room !== 'gen' && !allowed.includes(room)) wrong.push(`${path} imports ${spec}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('keeps adapters apart: they meet in the controller', () => {
    const wrong: string[] = [];
    for (const path of sources) {
      if (!adapters.includes(roomOf(path))) continue;
      for (const { spec, room } of importedRooms(path)) {
        if (room === roomOf(path) || room === 'gen' || room in pure) continue;
        wrong.push(`${path} imports ${spec}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it('has no other rooms than the ones named here', () => {
    const known = new Set([...Object.keys(pure), ...adapters, 'gen', 'cli', 'config', 'controller', 'main', 'version']);
    expect(sources.map(roomOf).filter((room) => !known.has(room))).toEqual([]);
  });

  it('never imports tests or scenarios from the sources', () => {
    expect(sources.filter((p) => importsOf(p).some((s) => s.includes('/test/') || s.includes('/scenarios/')))).toEqual(
      [],
    );
  });

  it('names every file it imports with its ending', () => {
    const wrong = all.flatMap((p) =>
      importsOf(p)
        .filter((s) => s.startsWith('.') && !/\.(ts|json)$/.test(s))
        .map((s) => `${p}: ${s}`),
    );
    expect(wrong).toEqual([]);
  });
});

describe('pure rooms', () => {
  const banned = [
    /\bDate\.now\b/,
    /\bnew Date\(\s*\)/,
    /\bperformance\b/,
    /\bMath\.random\b/,
    /\brandom(Bytes|UUID|Int|FillSync|Fill)\b/,
    /\bgetRandomValues\b/,
    /\b(setTimeout|setInterval|setImmediate|queueMicrotask)\b/,
    /\bprocess\./,
    /\bconsole\./,
    // node:zlib only packs bytes that it is given: the inputs that the journal keeps.
    /from 'node:(?!crypto|buffer|net|util'|zlib')[^']*'/,
  ];
  it('touch no clock, timer, randomness, socket, file or environment', () => {
    const wrong: string[] = [];
    for (const path of sources.filter((p) => roomOf(p) in pure)) {
      const code = read(path)
        .replace(/\/\*[\s\S]*?\*\//g, '')
        .replace(/\/\/.*$/gm, '');
      for (const pattern of banned) if (pattern.test(code)) wrong.push(`${path}: ${pattern.source}`);
      // node:net is allowed for its address parser alone.
      const net = /import \{([^}]*)\} from 'node:net'/.exec(code)?.[1];
      if (net?.split(',').some((n) => !/^\s*(isIP|isIPv4|isIPv6|BlockList|SocketAddress)?\s*$/.test(n))) {
        wrong.push(`${path}: node:net beyond addresses`);
      }
    }
    expect(wrong).toEqual([]);
  });
});

describe('files', () => {
  it('are at most 400 lines', () => {
    const long = all.map((p) => [p, read(p).split('\n').length - 1] as const).filter(([, lines]) => lines > 400);
    expect(long).toEqual([]);
  });
  it('are not called utils, helpers, common or index', () => {
    expect(all.filter((p) => /\/(utils?|helpers?|common|misc|index)\.ts$/.test(p))).toEqual([]);
  });
  it('in src open with what they are for', () => {
    expect(sources.filter((p) => !/^(#!.*\n)?\s*\/\*\*/.test(read(p)))).toEqual([]);
  });
  it('hold no path of a machine', () => {
    expect(all.filter((p) => p !== 'test/tidy.test.ts' && /['"`(\s]\/(work|home|root)\//.test(read(p)))).toEqual([]);
  });
});

describe('docs', () => {
  it('name every configuration key', () => {
    const doc = read('docs/CONFIGURATION.md');
    const missing = [...configKeys(), ...configKeys(gatewaySchema), ...configKeys(storeGatewaySchema)].filter(
      (k) => !doc.includes(`\`${k.path}\``) || !doc.includes(environmentName(k.path)),
    );
    expect(missing.map((k) => k.path)).toEqual([]);
    expect(configKeys().filter((k) => k.description === '')).toEqual([]);
  });
  it('name every metric, and no other', () => {
    const doc = read('docs/METRICS.md');
    const named = new Set([...doc.matchAll(/`(isthmus_[a-z_]+)`/g)].map((m) => m[1]!));
    expect([...named].sort()).toEqual(Object.keys(metricTable).sort());
  });
  it('name every error code', () => {
    const doc = read('docs/ERRORS.md');
    expect(Object.keys(errorCodes).filter((code) => !doc.includes(`\`${code}\``))).toEqual([]);
  });
  it('give every dependency its reason, and no other', () => {
    const { dependencies, devDependencies } = JSON.parse(read('package.json')) as Record<
      string,
      Record<string, string>
    >;
    const named = [...read('docs/adr/0001-dependencies.md').matchAll(/^\|(.*?)\|/gm)].flatMap(([, cell]) =>
      [...cell!.matchAll(/`([^`]+)`/g)].map((m) => m[1]!),
    );
    expect(named.sort()).toEqual(Object.keys({ ...dependencies, ...devDependencies }).sort());
  });
  it('give every record of a decision a number and a status', () => {
    const names = readdirSync(join(root, 'docs/adr'));
    expect(names.filter((n) => !/^\d{4}-[a-z0-9-]+\.md$/.test(n))).toEqual([]);
    expect(new Set(names.map((n) => n.slice(0, 4))).size).toBe(names.length);
  });
});

describe('the package', () => {
  const manifest = JSON.parse(read('package.json')) as {
    version: string;
    dependencies: Record<string, string>;
    devDependencies: Record<string, string>;
  };
  it('has one version', () => expect(manifest.version).toBe(version));
  it('pins every dependency and gives its reason', () => {
    const all = { ...manifest.dependencies, ...manifest.devDependencies };
    expect(Object.entries(all).filter(([, v]) => !/^\d/.test(v))).toEqual([]);
    const reasons = readdirSync(join(root, 'docs/adr'))
      .map((n) => read(`docs/adr/${n}`))
      .join('\n');
    expect(Object.keys(all).filter((name) => !reasons.includes(`\`${name}\``))).toEqual([]);
  });
  it('records no download address', () => expect(read('package-lock.json')).not.toContain('"resolved"'));
  it('has executable scripts', () => {
    for (const p of ['tools/node', 'tools/setup.sh', 'tools/test.sh', 'tools/gen.sh', '.ci/run'])
      expect(statSync(join(root, p)).mode & 0o111).toBeTruthy();
  });
});
