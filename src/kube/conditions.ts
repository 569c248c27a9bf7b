/**
 * What an export amounts to, written where its owner looks: as conditions on the ServiceExport (types and reasons of the MCS
 * API) and, when one of them changes its mind, as an event.
 */
import { errorCodes } from '../core/errors.ts';
import type { ExportProblem } from '../federation/local.ts';
import type { Conflict } from '../federation/view.ts';
import type { Announcement, ConditionKind, DesiredCondition } from './condition_writer.ts';

const conflictReasons: Readonly<Record<Conflict['field'], string>> = {
  ports: 'PortConflict',
  sessionAffinity: 'SessionAffinityConflict',
  headless: 'TypeConflict',
  mode: 'ModeConflict',
};

/** Problems that leave the export valid, but without a data path. */
const servable: readonly string[] = ['service/headless', 'service/session-affinity', 'record/not-granted'];
/** Problems that leave it working: they are told in the reason of what is true all the same. */
const remarks = ['service/capacity', 'service/unknown-reader', 'service/reader-denied'] as const;
const isRemark = (code: string): boolean => remarks.some((remark) => remark === code);

export interface ExportState {
  readonly problem: ExportProblem | undefined;
  readonly conflicts: readonly Conflict[];
  /** Our own record of it is in the store. */
  readonly published: boolean;
}

const readyCondition = ({ problem, published }: ExportState): DesiredCondition => {
  const remark = problem !== undefined && isRemark(problem.code);
  const reason = problem && errorCodes[problem.code].reason;
  if (problem !== undefined && !remark) {
    return { type: 'Ready', status: 'False', reason: reason ?? 'Failed', message: problem.message };
  }
  if (!published) {
    if (problem !== undefined && problem.code !== 'service/capacity') {
      return { type: 'Ready', status: 'False', reason: reason ?? 'Failed', message: problem.message };
    }
    return { type: 'Ready', status: 'False', reason: 'Pending', message: 'not yet shared with the other clusters' };
  }
  const message = 'the other clusters of the set can reach it';
  return problem === undefined
    ? { type: 'Ready', status: 'True', reason: 'Exported', message }
    : { type: 'Ready', status: 'True', reason: reason ?? 'Exported', message: `${message}, but ${problem.message}` };
};

/** The conditions that a state amounts to, in a fixed order. */
export const exportConditions = (state: ExportState): readonly DesiredCondition[] => {
  const { problem, conflicts } = state;
  const valid = problem === undefined || servable.includes(problem.code) || isRemark(problem.code);
  const conflictReason = [...new Set(conflicts.map((conflict) => conflictReasons[conflict.field]))].sort().join(',');
  return [
    valid
      ? { type: 'Valid', status: 'True', reason: 'Valid', message: 'the Service can be exported' }
      : { type: 'Valid', status: 'False', reason: errorCodes[problem.code].reason, message: problem.message },
    readyCondition(state),
    conflicts.length === 0
      ? { type: 'Conflict', status: 'False', reason: 'NoConflicts', message: 'all clusters export it alike' }
      : {
          type: 'Conflict',
          status: 'True',
          reason: conflictReason,
          message: conflicts
            .map((conflict) => conflict.message)
            .join('; ')
            .slice(0, 1_024),
        },
  ];
};

const remarkReasons: readonly string[] = remarks.map((code) => errorCodes[code].reason);

/** How conditions are written on ServiceExports. */
export const exportKind: ConditionKind = {
  kind: 'ServiceExport',
  plural: 'serviceexports',
  manager: 'isthmus',
  action: 'Export',
  sparse: false,
  announce: (to, before): Announcement | undefined => {
    const bad = (to.type === 'Conflict') === (to.status === 'True') || remarkReasons.includes(to.reason);
    // The first good news is what everybody expects: an event would only be noise.
    if (!bad && before === undefined && to.reason !== 'Exported') return undefined;
    const note = `${to.type} is ${to.status}: ${to.message}`;
    return { type: bad ? 'Warning' : 'Normal', reason: to.reason, note };
  },
};
