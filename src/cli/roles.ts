/**
 * `isthmus authority roles`: every member's role in etcd as this version wants it. A cluster set that began with an older version has
 * roles that read everything; those are narrowed here and nowhere else, because a controller of that version watches everything.
 */
import type { DeskOptions } from './authority_desk.ts';
import type { PassphraseOptions } from './authority_key.ts';
import { membersOf, openDesk, othersOf } from './desk.ts';
import { print, step } from './output.ts';

export const authorityRoles = async (options: DeskOptions & PassphraseOptions): Promise<void> => {
  const desk = await openDesk(options);
  try {
    const members = othersOf(await membersOf(desk.store, desk.clusterset, desk.authority), '');
    const done = await step(`etcd roles of ${members.length} members`, () =>
      desk.admin.ensureMembers(desk.clusterset, members),
    );
    print(done.length === 0 ? 'all roles are as they should be' : done.join('\n'));
    if (done.length > 0)
      desk.ledger.audit({ action: 'authority', outcome: 'done', detail: `roles: ${done.length} changes` });
  } finally {
    await desk.close();
  }
};
