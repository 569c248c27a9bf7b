/**
 * `isthmus join`: puts a member's bundle, its CA and the objects that Isthmus needs into a cluster. Running it again changes
 * nothing that is the same; it never removes anything.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join as path } from 'node:path';
import { parse } from 'yaml';
import { IsthmusError } from '../core/errors.ts';
import { openKubeApi } from '../kube/api.ts';
import { loadKubeConfig } from '../kube/client.ts';
import { type Applied, applyObjects, shippedManifests } from '../kube/install.ts';
import { realClock } from '../ops/clock.ts';
import { print, step, table } from './output.ts';

export interface JoinOptions {
  readonly bundle: string;
  readonly cacerts: string;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace: string;
  readonly dryRun: boolean;
}

const bundleFiles = [
  'member.yaml',
  'authority.pem',
  'record-key.pem',
  'federation-ca.pem',
  'federation-ca-key.pem',
  'etcd-ca.pem',
  'etcd-client.pem',
  'etcd-client-key.pem',
];
const cacertsFiles = ['ca-cert.pem', 'ca-key.pem', 'cert-chain.pem', 'root-cert.pem'];
const fileBytesMax = 256 * 1024;

const readAll = (dir: string, names: readonly string[], what: string, hint: string): Record<string, Buffer> => {
  let present: readonly string[];
  try {
    present = readdirSync(dir);
  } catch (cause) {
    throw new IsthmusError(
      'config/file',
      `${what} "${dir}" cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'error'})`,
      { hint, cause },
    );
  }
  const missing = names.filter((name) => !present.includes(name));
  if (missing.length > 0)
    throw new IsthmusError('files/invalid', `${what} "${dir}" has no ${missing.join(', ')}`, { hint });
  const files: Record<string, Buffer> = {};
  for (const name of names) {
    const bytes = readFileSync(path(dir, name));
    if (bytes.length === 0 || bytes.length > fileBytesMax) {
      throw new IsthmusError('files/invalid', `${what}: "${name}" has ${bytes.length} bytes`, { hint });
    }
    files[name] = bytes;
  }
  return files;
};

const secret = (namespace: string, name: string, files: Record<string, Buffer>) => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { namespace, name, labels: { 'app.kubernetes.io/managed-by': 'isthmus' } },
  type: 'Opaque',
  data: Object.fromEntries(Object.entries(files).map(([file, bytes]) => [file, bytes.toString('base64')])),
});

export const join = async (options: JoinOptions): Promise<void> => {
  const { bundle, cacerts, kubeconfig, context, namespace, dryRun } = options;
  const member = readAll(
    bundle,
    bundleFiles,
    'member bundle',
    'name the directory of this member that `isthmus init` wrote',
  );
  const ca = readAll(
    cacerts,
    cacertsFiles,
    'cacerts',
    'name the directory of this cluster that `isthmus trust init` wrote',
  );
  const { name } = {
    name: String((parse(member['member.yaml']!.toString('utf8')) as { member?: unknown } | null)?.member ?? ''),
  };
  const { loadAuthority } = await import('../ca/authority.ts');
  await step(`intermediate CA in ${cacerts} is valid`, async () => loadAuthority(cacerts));
  const kubeConfig = loadKubeConfig({
    ...(kubeconfig === undefined ? {} : { kubeconfig }),
    ...(context === undefined ? {} : { context }),
  });
  const api = openKubeApi(kubeConfig, realClock);
  try {
    await step('cluster answers', () => api.request({ method: 'GET', path: '/version' }));
    const shipped = await shippedManifests(namespace);
    const applied: Applied[] = [];
    applied.push(...(await step('objects of Isthmus', () => applyObjects(api, shipped, { dryRun }))));
    const secrets = [secret(namespace, 'isthmus-member', member), secret(namespace, 'cacerts', ca)];
    applied.push(...(await step(`keys of member ${name}`, () => applyObjects(api, secrets, { dryRun }))));
    print(
      table(
        ['KIND', 'NAMESPACE', 'NAME', dryRun ? 'WOULD BE' : 'RESULT'],
        applied.map((a) => [a.kind, a.namespace, a.name, a.action]),
      ),
    );
  } finally {
    api.close();
  }
};
