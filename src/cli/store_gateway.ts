/**
 * `isthmus store gateway`: at the desk, what a store gateway needs to run: its etcd user, which alone writes what members publish, and a
 * directory with its certificates and configuration. Running it again makes new certificates. Members go on writing to etcd until
 * `isthmus authority roles --writes gateways`, so that gateways can run, and controllers be told of them, before.
 */
import { randomBytes } from 'node:crypto';
import { copyFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { makeEtcdClient, makeEtcdServing } from '../ca/etcdclient.ts';
import { storeGatewayFile } from '../config/store_gateway.ts';
import { realClock } from '../ops/clock.ts';
import { gatewayUser } from '../store/admin.ts';
import { parseEndpoint } from '../store/session.ts';
import { type DeskFile, type DeskOptions, replaceDesk } from './authority_desk.ts';
import type { PassphraseOptions } from './authority_key.ts';
import { openDesk } from './desk.ts';
import { readNamed, writeNew } from './files.ts';
import { print, step } from './output.ts';

const ttlS = 365 * 86_400;

/** @param dir - the desk's. Writes to `out`, over what a former run wrote there */
export const writeGateway = async (desk: DeskFile, dir: string, out: string): Promise<void> => {
  const { clusterset, etcd } = desk;
  const ca = { cert: readNamed('etcd.ca', etcd.ca), key: readNamed('etcd.caKey', etcd.caKey) };
  const hosts = etcd.gateways.map((url) => new URL(parseEndpoint(url).url).hostname.replace(/^\[|\]$/g, ''));
  const nowMs = realClock.wallMs();
  const random = (bytes: number) => new Uint8Array(randomBytes(bytes));
  const client = await makeEtcdClient(ca, { commonName: gatewayUser(clusterset), ttlS, nowMs }, random);
  const names = {
    commonName: 'isthmus store gateway',
    dns: hosts.filter((host) => isIP(host) === 0),
    ips: hosts.filter((host) => isIP(host) !== 0),
  };
  const serving = await makeEtcdServing(ca, { ...names, ttlS, nowMs }, random);
  const config = {
    clusterset,
    etcd: { endpoints: etcd.endpoints, ...(etcd.allowUnsafe && { allowUnsafeVersion: true }) },
  };
  writeNew(join(out, 'etcd-ca.pem'), ca.cert, false);
  writeNew(join(out, 'etcd-client.pem'), client.cert, false);
  writeNew(join(out, 'etcd-client-key.pem'), client.key, true);
  writeNew(join(out, 'serving.pem'), serving.cert, false);
  writeNew(join(out, 'serving-key.pem'), serving.key, true);
  writeNew(join(out, storeGatewayFile), stringify(config), false);
  copyFileSync(join(dir, 'authority.pem'), join(out, 'authority.pem'));
};

export interface StoreGatewayOptions extends DeskOptions, PassphraseOptions {
  readonly url: readonly string[];
  readonly out?: string;
}

export const storeGateway = async (options: StoreGatewayOptions): Promise<void> => {
  const { authorityDir, url } = options;
  const out = resolve(options.out ?? join(authorityDir, 'store-gateway'));
  const gateways = [...new Set(url.map((one) => parseEndpoint(one).url))];
  const desk = await openDesk(options);
  try {
    const file = { ...desk.file, etcd: { ...desk.file.etcd, gateways } };
    const done = await step('etcd user and role of the store gateways', () =>
      desk.admin.ensureGateway(desk.clusterset),
    );
    await step(`certificates and configuration in ${out}`, () => writeGateway(file, authorityDir, out));
    replaceDesk(authorityDir, file);
    desk.ledger.audit({ action: 'authority', outcome: 'done', detail: `store gateways at ${gateways.join(', ')}` });
    if (done.length > 0) print(done.join('\n'));
    process.stderr.write(
      `run it:                    isthmus store serve --set dir=${out}
tell every controller:     store.writeEndpoints: [${gateways.join(', ')}], and restart it
then close the other way:  isthmus authority roles --writes gateways\n`,
    );
  } finally {
    await desk.close();
  }
};
