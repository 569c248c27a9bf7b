/** A member's bundle, its CA and the objects that Isthmus needs, put into a cluster. Applying again changes nothing that is the same. */
import { createPublicKey, X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join as path } from 'node:path';
import { IsthmusError } from '../core/errors.ts';
import { type KubeApi, openKubeApi } from '../kube/api.ts';
import { statusOf } from '../kube/api_errors.ts';
import { loadKubeConfig } from '../kube/client.ts';
import { type Applied, applyObjects, secretManifest, shippedManifests } from '../kube/install.ts';
import { realClock } from '../ops/clock.ts';
import { step } from './output.ts';

export interface ClusterOptions {
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace: string;
}

export type Files = Readonly<Record<string, Buffer>>;

export const bundleFiles = [
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
const listsFile = 'ca-crl.pem';
const fileBytesMax = 256 * 1024;

export const readFiles = (dir: string, names: readonly string[], what: string, hint: string): Files => {
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

/** Read and checked. @throws IsthmusError files/invalid, trust/invalid */
export const readCacertsDir = async (dir: string): Promise<Files> => {
  const hint = 'name the directory of this cluster that `isthmus trust init` wrote';
  const lists = existsSync(path(dir, listsFile)) ? [listsFile] : [];
  const files = readFiles(dir, [...cacertsFiles, ...lists], 'cacerts', hint);
  const { loadAuthority } = await import('../ca/authority.ts');
  await step(`intermediate CA in ${dir} is valid`, async () => loadAuthority(dir));
  return files;
};

export const openCluster = async ({ kubeconfig, context }: ClusterOptions): Promise<KubeApi> => {
  const kubeConfig = loadKubeConfig({ kubeconfig, context });
  const api = openKubeApi(kubeConfig, realClock);
  try {
    await step('cluster answers', () => api.request({ method: 'GET', path: '/version' }));
  } catch (error) {
    api.close();
    throw error;
  }
  return api;
};

export const secretFiles = async (api: KubeApi, namespace: string, name: string): Promise<Files | undefined> => {
  try {
    const answer = await api.request({ method: 'GET', path: `/api/v1/namespaces/${namespace}/secrets/${name}` });
    const { data = {} } = answer as { data?: Readonly<Record<string, string>> };
    return Object.fromEntries(Object.entries(data).map(([file, text]) => [file, Buffer.from(text, 'base64')]));
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
};

export const installObjects = async (
  api: KubeApi,
  namespace: string,
  dryRun: boolean,
  name = 'objects of Isthmus',
): Promise<readonly Applied[]> => {
  const shipped = await shippedManifests(namespace);
  return step(name, () => applyObjects(api, shipped, { dryRun }));
};

const endOf = (pem: Buffer | undefined): number =>
  pem === undefined ? 0 : new X509Certificate(pem).validToDate.getTime();

/**
 * What was replaced in the cluster since this bundle was made stays: nobody takes the keys in the bundle any more, and its certificate for etcd
 * ends sooner. @throws IsthmusError files/invalid: it has another authority than the cluster
 */
const keepReplaced = async (api: KubeApi, namespace: string, files: Files): Promise<Files> => {
  const present = await secretFiles(api, namespace, 'isthmus-member');
  const key = files['record-key.pem'];
  if (present === undefined || key === undefined) return files;
  // Each link holds the key before it, as it is.
  const raw = Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x ?? '', 'base64url');
  const replaced = present['succession']?.includes(raw) === true;
  if (!replaced && present['record-key.pem']?.equals(key) !== true) return files;
  if (present['authority.pem']?.equals(files['authority.pem'] ?? Buffer.alloc(0)) === false) {
    throw new IsthmusError('files/invalid', 'this bundle has another authority than the cluster', {
      hint: 'the authority was replaced: isthmus authority install; if the bundle is of another cluster set, leave this one first',
    });
  }
  const later = endOf(present['etcd-client.pem']) > endOf(files['etcd-client.pem']);
  const kept = [
    ...(replaced ? ['record-key.pem', 'federation-ca.pem', 'federation-ca-key.pem'] : []),
    ...(later ? ['etcd-client.pem', 'etcd-client-key.pem'] : []),
  ];
  return { ...files, ...Object.fromEntries(kept.map((file) => [file, present[file]!])) };
};

export const installSecrets = async (
  api: KubeApi,
  namespace: string,
  member: string,
  secrets: Readonly<Record<string, Files>>,
  dryRun: boolean,
): Promise<readonly Applied[]> => {
  const kept = await Promise.all(
    Object.entries(secrets).map(
      async ([name, files]) =>
        [name, name === 'isthmus-member' ? await keepReplaced(api, namespace, files) : files] as const,
    ),
  );
  const manifests = kept.map(([name, files]) => secretManifest({ namespace, name }, files));
  return step(`keys of member ${member}`, () => applyObjects(api, manifests, { dryRun }));
};
