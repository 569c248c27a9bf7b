/** How the command line reaches etcd: files that flags, or the desk, name. */
import { realClock } from '../ops/clock.ts';
import type { EtcdOptions } from '../store/session.ts';
import { readNamed } from './files.ts';

export interface EtcdFiles {
  readonly endpoints: readonly string[];
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly allowUnsafe: boolean;
}

export interface EtcdFlags {
  readonly etcd: readonly string[];
  readonly etcdCa: string;
  readonly etcdCert: string;
  readonly etcdKey: string;
  readonly allowUnsafeEtcd: boolean;
}

/** @param named - what the files are called where somebody wrote them down: `etcd.ca` with `etcd.` */
export const etcdAccess = (files: EtcdFiles, named: string): EtcdOptions => ({
  endpoints: [...files.endpoints],
  ca: Buffer.from(readNamed(`${named}ca`, files.ca)),
  cert: Buffer.from(readNamed(`${named}cert`, files.cert)),
  key: Buffer.from(readNamed(`${named}key`, files.key)),
  clock: realClock,
  allowUnsafeVersion: files.allowUnsafe,
  log: () => {},
});

export const flaggedEtcd = ({ etcd, etcdCa, etcdCert, etcdKey, allowUnsafeEtcd }: EtcdFlags): EtcdOptions =>
  etcdAccess({ endpoints: etcd, ca: etcdCa, cert: etcdCert, key: etcdKey, allowUnsafe: allowUnsafeEtcd }, '--etcd-');
