/** `isthmus trust init` and `isthmus trust import`: the mesh's certificate authorities, in Istio's cacerts layout. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type Authority, fingerprint } from '../ca/authority.ts';
import { importTrust, initTrust } from '../ca/trustfiles.ts';
import { IsthmusError } from '../core/errors.ts';
import { parseServiceKey } from '../core/names.ts';
import { openKubeApi } from '../kube/api.ts';
import { loadKubeConfig } from '../kube/client.ts';
import { applyObjects } from '../kube/install.ts';
import { readSecret } from '../kube/secrets.ts';
import { realClock } from '../ops/clock.ts';
import { mustNotExist } from './files.ts';
import { print, step, table } from './output.ts';

const random = (bytes: number): Uint8Array => new Uint8Array(randomBytes(bytes));

const describe = (authority: Authority): string[] => [
  authority.key.asymmetricKeyType === 'rsa'
    ? `RSA ${authority.key.asymmetricKeyDetails?.modulusLength ?? ''}`
    : 'ECDSA',
  new Date(authority.notAfterMs).toISOString().slice(0, 10),
  fingerprint(authority.certificate),
  authority.roots.map(fingerprint).join(' '),
];
const head = ['KEY', 'VALID UNTIL', 'CA', 'ROOTS'];

export const trustInit = async (options: {
  out: string;
  cluster: string[];
  trustDomain: string;
  separateRoots: boolean;
}): Promise<void> => {
  for (const cluster of options.cluster) mustNotExist(join(options.out, cluster), 'cacerts');
  const written = await step('certificate authorities', () =>
    initTrust(
      {
        outDir: options.out,
        trustDomain: options.trustDomain,
        clusters: options.cluster,
        rootPerCluster: options.separateRoots,
        nowMs: realClock.wallMs(),
      },
      random,
    ),
  );
  print(
    table(
      ['CLUSTER', ...head],
      [...written.clusters].map(([cluster, authority]) => [cluster, ...describe(authority)]),
    ),
  );
};

interface ImportOptions {
  readonly from?: string;
  readonly fromSecret?: string;
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace: string;
  readonly dryRun: boolean;
}

export const trustImport = async (options: ImportOptions): Promise<void> => {
  if ((options.from === undefined) === (options.fromSecret === undefined)) {
    throw new IsthmusError('usage/invalid', 'give one of --from and --from-secret', {
      hint: 'for example --from ./cacerts',
    });
  }
  const open = () => {
    const { kubeconfig, context } = options;
    const config = loadKubeConfig({ kubeconfig, context });
    return openKubeApi(config, realClock);
  };
  const needsCluster = options.fromSecret !== undefined || !options.dryRun;
  const api = needsCluster ? open() : undefined;
  try {
    let source: string | Record<string, string>;
    if (options.from !== undefined) source = options.from;
    else {
      const at = parseServiceKey(options.fromSecret!);
      if (!at.ok)
        throw new IsthmusError('usage/invalid', `--from-secret "${options.fromSecret}" is not <namespace>/<name>`);
      const secret = await readSecret(api!, at.value);
      if (secret === undefined)
        throw new IsthmusError('trust/invalid', `there is no secret ${options.fromSecret}`, {
          hint: 'Istio keeps it as istio-system/cacerts',
        });
      source = Object.fromEntries(Object.entries(secret.data).map(([k, v]) => [k, Buffer.from(v).toString('utf8')]));
    }
    const { cacerts, authority } = await step('the CA is valid', async () => importTrust(source, realClock.wallMs()));
    print(table(['FROM', ...head], [[options.from ?? options.fromSecret!, ...describe(authority)]]));
    if (api === undefined || options.dryRun) return;
    await step(`secret ${options.namespace}/cacerts`, () =>
      applyObjects(api, [
        {
          apiVersion: 'v1',
          kind: 'Secret',
          metadata: {
            namespace: options.namespace,
            name: 'cacerts',
            labels: { 'app.kubernetes.io/managed-by': 'isthmus' },
          },
          type: 'Opaque',
          data: Object.fromEntries(Object.entries(cacerts).map(([k, v]) => [k, Buffer.from(v).toString('base64')])),
        },
      ]),
    );
  } finally {
    api?.close();
  }
};
