/**
 * What is remembered of a service's cells: of those present, and for a while of those that are gone. When that while is over the service is
 * looked at again: else it would depend on what else happens when a cell is forgotten.
 */
import type { Draft } from './draft.ts';
import type { CellMemory } from './state.ts';

/** A withdrawn cell is remembered so long: one that comes back sooner is held down. */
const goneMs = 60_000;

const noCells: ReadonlyMap<string, CellMemory> = new Map();

/** The map of before, when nothing changed. */
export const rememberCells = (draft: Draft): ReadonlyMap<string, CellMemory> => {
  const { before, now, self, view } = draft.scene;
  let cells: Map<string, CellMemory> | undefined;
  const put = (member: string, memory: CellMemory | undefined): void => {
    if (memory === undefined) return;
    cells ??= new Map();
    cells.set(member, memory);
  };
  for (const cell of draft.cells) put(cell.member.name, cell.memory);
  put(self, draft.local?.memory);
  if (before !== undefined) {
    const gone = (member: string) => (member === self ? draft.local === undefined : !view.remotes.has(member));
    let next = 0;
    /** Members sit in the order of the cells, most of them. */
    const seated = (member: string): boolean => {
      for (let i = next; i < draft.cells.length && i < next + 4; i++) {
        if (draft.cells[i]!.member.name !== member) continue;
        next = i + 1;
        return true;
      }
      return !gone(member);
    };
    for (const [member, memory] of before.cells) {
      // What is remembered of a cell that is there has been put already.
      if (memory.sinceMs <= now - goneMs || cells?.has(member) === true || !gone(member)) continue;
      put(member, { ...memory, phase: 'out', percent: 0 });
      draft.dues.push(memory.sinceMs + goneMs);
    }
    for (const tier of (before.wished ?? before.placement).tiers) {
      for (const { member } of tier) {
        if (seated(member) || before.cells.has(member)) continue;
        put(member, { phase: 'out', percent: 0, sinceMs: now, cause: 'Withdrawn' });
        draft.dues.push(now + goneMs);
      }
    }
  }
  const kept = cells ?? noCells;
  return before !== undefined && sameCells(kept, before.cells) ? before.cells : kept;
};

const sameCells = (a: ReadonlyMap<string, CellMemory>, b: ReadonlyMap<string, CellMemory>): boolean => {
  if (a.size !== b.size) return false;
  for (const [member, memory] of a) {
    const other = b.get(member);
    if (other === memory) continue;
    if (other === undefined || other.phase !== memory.phase || other.percent !== memory.percent) return false;
    if (other.sinceMs !== memory.sinceMs || other.cause !== memory.cause) return false;
  }
  return true;
};
