/**
 * `isthmus keys rotate`: has a cluster's controllers replace its record key and federation CA now, as they would by age.
 * `isthmus keys renew-etcd`: a new client certificate for etcd, which only the holder of etcd's CA can give. The key is made here, on the way
 * from the desk to the cluster, and kept in neither place but the Secret.
 */
import { randomBytes } from 'node:crypto';
import { issueEtcdClient, newEtcdRequest } from '../ca/etcd_request.ts';
import { IsthmusError } from '../core/errors.ts';
import type { KubeApi } from '../kube/api.ts';
import { realClock } from '../ops/clock.ts';
import { connectStore } from '../store/etcd.ts';
import type { DeskOptions } from './authority_desk.ts';
import type { PassphraseOptions } from './authority_key.ts';
import { isMember, membersOf, mustBeKnown, openDesk } from './desk.ts';
import { readNamed } from './files.ts';
import { type ClusterOptions, openCluster, secretFiles } from './install_member.ts';
import { step } from './output.ts';

const etcdTtlS = 365 * 86_400;

const patch = async (api: KubeApi, namespace: string, files: Readonly<Record<string, string>>): Promise<void> => {
  const data = Object.fromEntries(
    Object.entries(files).map(([file, text]) => [file, Buffer.from(text).toString('base64')]),
  );
  await api.request({
    method: 'PATCH',
    path: `/api/v1/namespaces/${namespace}/secrets/isthmus-member`,
    contentType: 'application/merge-patch+json',
    body: { data },
  });
};

export const keysRotate = async (options: ClusterOptions): Promise<void> => {
  const api = await openCluster(options);
  try {
    await step('the controllers are asked for new keys', () =>
      patch(api, options.namespace, { 'rotate-keys': String(realClock.wallMs()) }),
    );
    process.stderr.write('they announce them, and use them once every live peer knows them: isthmus status\n');
  } finally {
    api.close();
  }
};

export interface RenewOptions extends DeskOptions, PassphraseOptions, ClusterOptions {
  readonly cluster: string;
}

/** The old certificate stays good until it ends: controllers change over one after the other. */
export const keysRenewEtcd = async (options: RenewOptions): Promise<void> => {
  const { cluster, namespace } = options;
  const desk = await openDesk(options);
  try {
    const { clusterset, store, authority, file, ledger } = desk;
    const known = mustBeKnown(await membersOf(store, clusterset, authority), cluster, clusterset);
    if (!isMember(known)) {
      throw new IsthmusError('member/revoked', `${cluster} was put out: it gets no certificate`, {
        hint: 'a new token lets it in again: isthmus token create',
        subject: { member: cluster },
      });
    }
    const api = await openCluster(options);
    try {
      const present = await secretFiles(api, namespace, 'isthmus-member');
      const said = /^member: *"?([a-z0-9-]+)"?$/m.exec(present?.['member.yaml']?.toString('utf8') ?? '')?.[1];
      if (said !== cluster) {
        throw new IsthmusError('token/mismatch', `this cluster is ${said ?? 'no member'}, not ${cluster}`, {
          hint: 'name the context of the member with --context',
        });
      }
      const { request, key } = await newEtcdRequest();
      const ca = { cert: readNamed('etcd.ca', file.etcd.ca), key: readNamed('etcd.caKey', file.etcd.caKey) };
      const input = { commonName: cluster, ttlS: etcdTtlS, nowMs: realClock.wallMs() };
      const issued = await issueEtcdClient(ca, request, input, (bytes) => new Uint8Array(randomBytes(bytes)));
      ledger.certificate(cluster, issued.serial);
      await step('etcd takes it', async () => {
        const tls = { ca: Buffer.from(ca.cert), cert: Buffer.from(issued.cert), key: Buffer.from(key) };
        const trial = connectStore({ endpoints: file.etcd.endpoints, ...tls, clock: realClock, log: () => {} });
        await trial.check().finally(() => trial.close());
      });
      await step('it is in the Secret isthmus-member', () =>
        patch(api, namespace, { 'etcd-client.pem': issued.cert, 'etcd-client-key.pem': key }),
      );
      const until = new Date(issued.notAfterMs).toISOString();
      ledger.audit({ action: 'renew', outcome: 'done', cluster, detail: `certificate for etcd until ${until}` });
      process.stderr.write(`good until ${until}; its controllers take it up by themselves\n`);
    } finally {
      api.close();
    }
  } finally {
    await desk.close();
  }
};
