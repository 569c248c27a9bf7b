/** All invariants, by name. */
import { converges } from './converges.ts';
import { coveredRecords } from './covered-records.ts';
import { darkChangesNothing } from './dark-changes-nothing.ts';
import { everyShiftJournalled } from './every-shift-journalled.ts';
import { evictedUnused } from './evicted-unused.ts';
import { grantsWithinHeadroom } from './grants-within-headroom.ts';
import { headsNeverBack } from './heads-never-back.ts';
import { hostileAlone } from './hostile-alone.ts';
import type { Invariant } from './invariant.ts';
import { leavesTheDead } from './leaves-the-dead.ts';
import { movesBounded } from './moves-bounded.ts';
import { neverEmpty } from './never-empty.ts';
import { noBusyLoop } from './no-busy-loop.ts';
import { noFalseEviction } from './no-false-eviction.ts';
import { noSpillOnSpill } from './no-spill-on-spill.ts';
import { restartUndoesNothing } from './restart-undoes-nothing.ts';
import { servedWhileUsable } from './served-while-usable.ts';
import { withdrawalHeld } from './withdrawal-held.ts';
import { withinGrant } from './within-grant.ts';

export const invariants: readonly Invariant[] = [
  coveredRecords,
  headsNeverBack,
  hostileAlone,
  withdrawalHeld,
  neverEmpty,
  evictedUnused,
  noFalseEviction,
  leavesTheDead,
  servedWhileUsable,
  noSpillOnSpill,
  noBusyLoop,
  grantsWithinHeadroom,
  withinGrant,
  movesBounded,
  everyShiftJournalled,
  darkChangesNothing,
  restartUndoesNothing,
  converges,
];
