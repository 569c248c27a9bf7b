/** That a real kube-apiserver takes the store gateway's manifests, every field of them, and its pods where only restricted ones may run. */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { world } from './objects.ts';

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly spec: { readonly template: { readonly metadata: object; readonly spec: object } };
}

const namespace = 'isthmus-system';
const plurals: Readonly<Record<string, string>> = {
  ServiceAccount: 'serviceaccounts',
  Deployment: 'deployments',
  PodDisruptionBudget: 'poddisruptionbudgets',
  Service: 'services',
};
const pathOf = ({ apiVersion, kind }: Manifest): string =>
  `/${apiVersion.includes('/') ? 'apis' : 'api'}/${apiVersion}/namespaces/${namespace}/${plurals[kind]}?dryRun=All&fieldValidation=Strict`;

let api: ApiServer;
let manifests: readonly Manifest[];

beforeAll(async () => {
  const text = await readFile(new URL('../../../deploy/store-gateway.yaml', import.meta.url), 'utf8');
  manifests = parseAllDocuments(text).map((document) => document.toJS() as Manifest);
  api = await startApiServer();
  await world(api).namespace(namespace, { 'pod-security.kubernetes.io/enforce': 'restricted' });
});
afterAll(async () => {
  await api?.stop();
});

describe('deploy/store-gateway.yaml', () => {
  it('is taken, and nothing of it is unknown', async () => {
    expect(manifests.map(({ kind }) => kind).sort()).toEqual(Object.keys(plurals).sort());
    for (const manifest of manifests) await api.call('POST', pathOf(manifest), manifest);
  });

  it('has pods that run where only restricted ones may', async () => {
    const { template } = manifests.find(({ kind }) => kind === 'Deployment')!.spec;
    const path = `/api/v1/namespaces/${namespace}/pods?dryRun=All`;
    const pod = (spec: object) => ({ metadata: { ...template.metadata, name: 'p' }, spec });
    await api.call('POST', path, pod(template.spec));
    const loose = { ...template.spec, securityContext: {} };
    await expect(api.call('POST', path, pod(loose))).rejects.toThrow(/PodSecurity/);
  });
});
