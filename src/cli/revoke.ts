/**
 * `isthmus revoke`: puts a member out that is not trusted any more, now.
 *
 * etcd checks who may watch when a watch begins, and never again: a member whose user is gone goes on reading what it had open. Only the
 * end of its connections ends that, and only etcd's own processes can be made to end them: one after the other is restarted, so that
 * a quorum of three stays. Everything else etcd refuses from the moment that the user is gone.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeCrl } from '../ca/crl.ts';
import { IsthmusError } from '../core/errors.ts';
import { realClock } from '../ops/clock.ts';
import { storeKeys } from '../records/keys.ts';
import { connectStore } from '../store/etcd.ts';
import { type DeskOptions, deskEtcd } from './authority_desk.ts';
import type { PassphraseOptions } from './authority_key.ts';
import { confirm, realTerminal } from './confirm.ts';
import { type Desk, membersOf, mustBeKnown, openDesk, othersOf } from './desk.ts';
import { readNamed } from './files.ts';
import { mark, step } from './output.ts';
import { isOf, lossesOf, proveUntouched, putOut, showLosses } from './put_out.ts';
import { replace, revokeInMesh, standing } from './revoke_mesh.ts';

export interface RevokeOptions extends DeskOptions, PassphraseOptions {
  readonly reason: string;
  readonly keepRecords: boolean;
  /** Ends the connections of one etcd member; `{endpoint}` is its URL. */
  readonly restartEtcd?: string;
  /** etcd's --client-crl-file, when this machine can write it. */
  readonly etcdCrl?: string;
  /** What `isthmus trust init` wrote: the mesh's root and its clusters. */
  readonly trustDir?: string;
  readonly yes: boolean;
}

const run = promisify(execFile);
const crlTtlS = 365 * 86_400;
const restartTimeoutMs = 60_000;
const backTimeoutMs = 30_000;
const pause = (ms: number): Promise<void> => new Promise((resolve) => realClock.after(ms, resolve));

/** etcd reads its list at every handshake, in DER alone, so writing it is enough. @returns where it is */
/** Certificates that store gateways issued to it, into the ledger. */
const noteIssued = async ({ store, ledger, clusterset }: Desk, name: string): Promise<void> => {
  const prefix = storeKeys(clusterset).issuedPrefix(name);
  const known = new Set(ledger.certificates(name));
  for (const { key } of (await store.list(prefix)).entries) {
    const serial = key.slice(prefix.length);
    if (/^[0-9a-f]{2,64}$/.test(serial) && !known.has(serial)) ledger.certificate(name, serial);
  }
};

const revokeAtEtcd = async (desk: Desk, name: string, options: RevokeOptions): Promise<string> => {
  const path = options.etcdCrl ?? join(options.authorityDir, 'etcd-crl.der');
  const { ca, caKey } = desk.file.etcd;
  const nowMs = realClock.wallMs();
  await noteIssued(desk, name);
  const crl = await makeCrl({
    ca: { cert: readNamed('etcd.ca', ca), key: readNamed('etcd.caKey', caKey) },
    revoked: desk.ledger.certificates(name).map((serial) => ({ serial, atMs: nowMs })),
    before: standing(path),
    nowMs,
    ttlS: crlTtlS,
    what: 'etcd CA',
  });
  replace(path, crl.der);
  return path;
};

/** Waits until this endpoint answers again: the next one may then be restarted. */
const backAgain = async (desk: Desk, endpoint: string): Promise<void> => {
  const endMs = realClock.monotonicMs() + backTimeoutMs;
  const { root } = storeKeys(desk.clusterset);
  for (;;) {
    const store = connectStore({ ...deskEtcd(desk.file), endpoints: [endpoint] });
    try {
      return await store.check(root);
    } catch (error) {
      if (realClock.monotonicMs() >= endMs) throw error;
    } finally {
      await store.close();
    }
    await pause(100);
  }
};

const endWatches = async (desk: Desk, command: string): Promise<void> => {
  for (const endpoint of desk.file.etcd.endpoints) {
    await step(`connections to ${endpoint} ended`, async () => {
      try {
        await run('/bin/sh', ['-c', command.replaceAll('{endpoint}', endpoint)], {
          timeout: restartTimeoutMs,
          env: { ...process.env, ISTHMUS_ETCD_ENDPOINT: endpoint },
        });
      } catch (cause) {
        const { message } = cause as Error;
        throw new IsthmusError(
          'store/unavailable',
          `--restart-etcd failed for ${endpoint}: ${message.split('\n')[0]}`,
          {
            hint: 'the member is out, but what it watches there goes on: restart this etcd by hand',
            cause,
          },
        );
      }
      await backAgain(desk, endpoint);
    });
  }
};

const warn = (text: string): void => {
  process.stderr.write(` ${mark('warn')} ${text}\n`);
};

const revokeFrom = async (desk: Desk, name: string, options: RevokeOptions): Promise<void> => {
  const { clusterset, store } = desk;
  const { root } = storeKeys(clusterset);
  const known = await membersOf(store, clusterset, desk.authority);
  const member = mustBeKnown(known, name, clusterset);
  const before = (await store.list(root)).entries;
  showLosses(name, lossesOf(before, clusterset, name, known), known);
  if (!options.yes) await confirm(`revoke ${name}`, name, 'run it with --yes', realTerminal);
  const startedMs = realClock.monotonicMs();
  const { reason, keepRecords } = options;
  const crl = await step('its etcd certificates are on the revocation list', () => revokeAtEtcd(desk, name, options));
  const { revisions, sequence } = await putOut(desk, name, member, {
    reason,
    keepRecords,
    others: othersOf(known, name),
  });
  // Since the mark nothing is issued any more; what was before it, and after the list was made, is on it now.
  await revokeAtEtcd(desk, name, options);
  desk.ledger.audit({ action: 'revoke', outcome: 'done', cluster: name, detail: `sequence ${sequence}: ${reason}` });
  const restart = options.restartEtcd ?? desk.file.etcd.restart;
  if (restart !== undefined) {
    await endWatches(desk, restart);
    const seconds = ((realClock.monotonicMs() - startedMs) / 1_000).toFixed(1);
    process.stderr.write(`${name} reads and writes nothing any more, ${seconds} s after the command\n`);
  }
  const after = (await store.list(root)).entries;
  const proof = proveUntouched(before, after, isOf(clusterset, name), revisions);
  process.stderr.write(`nothing else changed: ${proof.same} keys of others are as they were\n`);
  if (options.trustDir !== undefined) {
    const files = await step(`the intermediate CA of ${name} is on the revocation list`, () =>
      revokeInMesh(name, options.trustDir!, realClock.wallMs()),
    );
    process.stderr.write(
      'give each cluster its own: as ca-crl.pem of the Secret cacerts, and to ztunnels (docs/SECURITY.md)\n',
    );
    for (const file of files) process.stderr.write(`     ${file}\n`);
  }
  if (options.etcdCrl === undefined) warn(`give etcd the list: --client-crl-file ${crl}`);
  if (restart !== undefined) return;
  warn('what it had open goes on: etcd ends no watch by itself. Restart each etcd, one after the other:');
  for (const endpoint of desk.file.etcd.endpoints) process.stderr.write(`     ${endpoint}\n`);
  process.exitCode = 79;
};

/** Exit 79 while its open watches go on. */
export const revoke = async (name: string, options: RevokeOptions): Promise<void> => {
  const desk = await openDesk(options);
  try {
    await revokeFrom(desk, name, options);
  } finally {
    await desk.close();
  }
};
