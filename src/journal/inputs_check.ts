/** Holds the inputs in a file against the entries that name them. */
import type { ChainCheck, Numbered } from './chain_check.ts';
import { type ExportHead, isWhole } from './export.ts';
import type { Findings, SectionReport } from './finding.ts';
import { readInputs } from './inputs.ts';
import { typeOf } from './lines.ts';

/** @param removed - inputs of entries up to this one were removed, as an entry says */
export const checkInputs = (
  lines: readonly Numbered[],
  check: ChainCheck,
  head: ExportHead | undefined,
  removed: number,
  findings: Findings,
): SectionReport['inputs'] => {
  const wanted = new Map<string, number>();
  let left = 0;
  for (const { entry } of check.good.values()) {
    if (entry.inputs === undefined) continue;
    if (entry.inputs.left === undefined)
      wanted.set(entry.inputs.digest, Math.min(entry.sequence, wanted.get(entry.inputs.digest) ?? entry.sequence));
    else left++;
  }
  const there = new Set<string>();
  const whole = findings.count === 0;
  for (const { line, number } of lines) {
    if (typeOf(line) !== 'inputs') continue;
    const read = readInputs(line);
    const sequence = read === undefined ? undefined : wanted.get(read.digest);
    const at = { line: number, ...(sequence === undefined ? {} : { sequence }) };
    if (read?.data === undefined) {
      const of = sequence === undefined ? '' : ` of entry ${sequence}`;
      findings.add('changed', `line ${number}: the inputs${of} are not those that were journalled`, at);
      // Named already: not missing as well.
      if (read !== undefined) there.add(read.digest);
    } else if (sequence === undefined || there.has(read.digest)) {
      // When an entry was changed or is missing, they may well be its own.
      if (whole || sequence !== undefined) findings.add('file', `line ${number}: inputs that no entry here names`, at);
    } else there.add(read.digest);
  }
  let kept = 0;
  for (const [digest, sequence] of wanted) {
    if (there.has(digest)) kept++;
    else if (head?.inputs === 'kept' && sequence > removed && (isWhole(head.filter) || sequence >= head.inputsFrom)) {
      findings.add('missing', `the inputs of entry ${sequence} are not in the file`, { sequence });
    } else left++;
  }
  return { kept, left };
};
