/**
 * `isthmus authority roles`: every member's role in etcd as this version wants it. A cluster set that began with an older version has
 * roles that read everything; those are narrowed here and nowhere else, because a controller of that version watches everything. And here it
 * is decided whether members write to etcd themselves or through a store gateway alone.
 */
import { IsthmusError } from '../core/errors.ts';
import type { WrittenBy } from '../store/admin.ts';
import { type DeskOptions, replaceDesk } from './authority_desk.ts';
import type { PassphraseOptions } from './authority_key.ts';
import { membersOf, openDesk, othersOf } from './desk.ts';
import { print, step } from './output.ts';

export interface RolesOptions extends DeskOptions, PassphraseOptions {
  /** Absent: as it was. */
  readonly writes?: WrittenBy;
}

export const authorityRoles = async (options: RolesOptions): Promise<void> => {
  const desk = await openDesk(options);
  try {
    const writes = options.writes ?? desk.file.etcd.writes;
    if (writes === 'gateways' && desk.file.etcd.gateways.length === 0) {
      throw new IsthmusError('usage/invalid', '--writes gateways: this desk knows of no store gateway', {
        hint: 'make one first: isthmus store gateway --url https://<host>:15024',
      });
    }
    const members = othersOf(await membersOf(desk.store, desk.clusterset, desk.authority), '');
    const done = await step(`etcd roles of ${members.length} members`, () =>
      desk.admin.ensureMembers(desk.clusterset, members, [], writes),
    );
    replaceDesk(options.authorityDir, { ...desk.file, etcd: { ...desk.file.etcd, writes } });
    print(done.length === 0 ? 'all roles are as they should be' : done.join('\n'));
    if (done.length > 0)
      desk.ledger.audit({ action: 'authority', outcome: 'done', detail: `roles: ${done.length} changes` });
  } finally {
    await desk.close();
  }
};
