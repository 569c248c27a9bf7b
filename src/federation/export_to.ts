/**
 * For whom an export is: an annotation on the ServiceExport, or on the Service. What cannot be read names nobody: an export that was meant
 * for some must not go to all because of a slip of the pen.
 */
import { limits } from '../core/limits.ts';
import { isDnsLabel, type ServiceKey } from '../core/names.ts';
import type { ExportProblem } from './local.ts';

export const exportToAnnotation = 'isthmus.dev/export-to';

export interface ExportTo {
  /** Names of members, sorted; undefined: all. */
  readonly to: readonly string[] | undefined;
  /** Then the service is exported to nobody. */
  readonly problem: ExportProblem | undefined;
}

const everybody: ExportTo = { to: undefined, problem: undefined };

/** @param annotations - of the ServiceExport, if there is one, and of the Service: the first that has it decides */
export const exportToOf = (
  key: ServiceKey,
  ...annotations: readonly (Readonly<Record<string, string>> | undefined)[]
): ExportTo => {
  const text = annotations.map((of) => of?.[exportToAnnotation]).find((found) => found !== undefined);
  if (text === undefined) return everybody;
  const names = [...new Set(text.split(',').map((name) => name.trim()))].sort();
  const wrong = names.find((name) => !isDnsLabel(name));
  if (wrong === undefined && names.length <= limits.membersMax) return { to: names, problem: undefined };
  const shown = JSON.stringify((wrong ?? text).slice(0, 80));
  const what = wrong === undefined ? `more than ${limits.membersMax} names` : `${shown} is not the name of a member`;
  const message = `annotation ${exportToAnnotation} of ${key}: ${what}, so it is exported to nobody; write members with commas between, as "us-west,eu-central"`;
  return { to: [], problem: { key, code: 'service/export-to', message } };
};

/** Said of an export that names members which the set does not have: it goes to the others. */
export const unknownReaders = (key: ServiceKey, unknown: readonly string[]): ExportProblem => ({
  key,
  code: 'service/unknown-reader',
  message: `${exportToAnnotation} of ${key} names ${unknown.slice(0, 8).join(', ')}${unknown.length > 8 ? ' and more' : ''}: the cluster set has no such member`,
});

/** Said of an export whose readers' parts the store does not let us write. */
export const deniedReaders = (key: ServiceKey, denied: readonly string[]): ExportProblem => ({
  key,
  code: 'service/reader-denied',
  message: `${denied.slice(0, 8).join(', ')} cannot have ${key} yet: the role of this member in etcd does not let it write what is for them; run "isthmus authority roles"`,
});
