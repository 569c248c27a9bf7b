/**
 * `isthmus leave`: takes a member out in order. First it says what changes for everybody else, then it asks, and afterwards it proves that
 * nothing else did. With --force the cluster itself is not asked: it is dead.
 */
import { IsthmusError } from '../core/errors.ts';
import { statusOf } from '../kube/api_errors.ts';
import { storeKeys } from '../records/keys.ts';
import type { DeskOptions } from './authority_desk.ts';
import type { PassphraseOptions } from './authority_key.ts';
import { confirm, realTerminal } from './confirm.ts';
import { type Desk, membersOf, mustBeKnown, openDesk, othersOf } from './desk.ts';
import { type ClusterOptions, openCluster } from './install_member.ts';
import { step } from './output.ts';
import { isOf, lossesOf, proveUntouched, putOut, showLosses } from './put_out.ts';

export interface LeaveOptions extends DeskOptions, PassphraseOptions, ClusterOptions {
  readonly cluster?: string;
  readonly force: boolean;
  readonly yes: boolean;
  readonly dryRun: boolean;
}

/** Its controllers must not go on with keys that nobody knows any more. */
const takeKeysAway = async (name: string, options: LeaveOptions): Promise<void> => {
  const api = await openCluster(options);
  try {
    await step(`keys of ${name} are gone from its cluster`, async () => {
      const path = `/api/v1/namespaces/${options.namespace}/secrets/isthmus-member`;
      try {
        await api.request({ method: 'DELETE', path });
      } catch (error) {
        if (statusOf(error) !== 404) throw error;
      }
    });
  } finally {
    api.close();
  }
};

/** The cluster must answer before anything is done, or be given up by name. */
const mustAnswer = async (name: string, options: LeaveOptions): Promise<void> => {
  try {
    (await openCluster(options)).close();
  } catch (error) {
    if (!(error instanceof IsthmusError)) throw error;
    throw new IsthmusError(error.code, error.message, {
      hint: `name its context with --context; if ${name} is dead: isthmus leave --cluster ${name} --force`,
      cause: error,
    });
  }
};

const leaveFrom = async (desk: Desk, name: string, options: LeaveOptions): Promise<void> => {
  const { clusterset, store } = desk;
  const { root } = storeKeys(clusterset);
  const known = await membersOf(store, clusterset, desk.authority);
  const member = mustBeKnown(known, name, clusterset);
  const before = (await store.list(root)).entries;
  showLosses(name, lossesOf(before, clusterset, name, known), known);
  if (options.dryRun) return;
  if (!options.force) await mustAnswer(name, options);
  if (!options.yes) await confirm(`take ${name} out of ${clusterset}`, name, 'run it with --yes', realTerminal);
  // As it is after the person has thought about it.
  const standing = (await store.list(root)).entries;
  const settings = { reason: 'left', keepRecords: false, others: othersOf(known, name) };
  const { revisions, removed, sequence } = await putOut(desk, name, member, settings);
  const after = (await store.list(root)).entries;
  const proof = proveUntouched(standing, after, isOf(clusterset, name), revisions);
  desk.ledger.audit({
    action: 'leave',
    outcome: 'done',
    cluster: name,
    detail: `sequence ${sequence}, ${removed} records`,
  });
  if (!options.force) await takeKeysAway(name, options);
  process.stderr.write(
    `nothing else changed: ${proof.same} keys of others are as they were (sha256 ${proof.digest.slice(0, 16)}), ${proof.byOthers} were written by their own members meanwhile\n`,
  );
};

export const leave = async (options: LeaveOptions): Promise<void> => {
  const name = options.cluster ?? options.context;
  if (name === undefined) {
    throw new IsthmusError('usage/invalid', '--cluster is not given', { hint: 'name the member that leaves' });
  }
  const desk = await openDesk(options);
  try {
    await leaveFrom(desk, name, options);
  } finally {
    await desk.close();
  }
};
