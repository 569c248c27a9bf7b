/**
 * `isthmus store init`: users and roles in an etcd that is one member's own. Run it again with all readers when a member comes or goes.
 * It needs root there and nothing else: no key of the authority, no other member's.
 */
import { realClock } from '../ops/clock.ts';
import { connectAdmin } from '../store/admin.ts';
import { readNamed } from './files.ts';
import { print, step } from './output.ts';

export interface StoreInitOptions {
  readonly clusterset: string;
  readonly member: string;
  readonly reader: readonly string[];
  readonly etcd: readonly string[];
  readonly etcdCa: string;
  readonly etcdCert: string;
  readonly etcdKey: string;
  readonly allowUnsafeEtcd: boolean;
}

export const storeInit = async (options: StoreInitOptions): Promise<void> => {
  const admin = connectAdmin({
    endpoints: [...options.etcd],
    ca: Buffer.from(readNamed('--etcd-ca', options.etcdCa)),
    cert: Buffer.from(readNamed('--etcd-cert', options.etcdCert)),
    key: Buffer.from(readNamed('--etcd-key', options.etcdKey)),
    clock: realClock,
    allowUnsafeVersion: options.allowUnsafeEtcd,
    log: () => {},
  });
  try {
    const auth = await step('etcd authentication is on', () => admin.enableAuth());
    const roles = await step(`${options.member} writes there, ${options.reader.length} others read`, () =>
      admin.ensureOwnStore(options.clusterset, options.member, options.reader),
    );
    const done = [...auth, ...roles];
    print(done.length === 0 ? 'all is as it should be' : done.join('\n'));
  } finally {
    admin.close();
  }
};
