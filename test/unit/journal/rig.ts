/** A journal over a disk in memory, with time and keys of its own. */
import { generateKeyPairSync } from 'node:crypto';
import { seededRng } from '../../../src/core/rng.ts';
import { type ExportFilter, exportChain } from '../../../src/journal/export.ts';
import { Journal, type JournalEvent, type JournalOptions } from '../../../src/journal/journal.ts';
import { JournalReader } from '../../../src/journal/reading.ts';
import { SimClock } from '../../sim/clock.ts';
import { MemoryJournalFiles } from '../../sim/journal_files.ts';

export const keys = generateKeyPairSync('ed25519');
export const otherKeys = generateKeyPairSync('ed25519');

export interface Move {
  readonly author: string;
  readonly text: string;
}
export const move = (text: string, author = 'controller'): Move => ({ author, text });

export const rig = (options: Partial<JournalOptions> & { disk?: MemoryJournalFiles; seed?: number } = {}) => {
  const files = options.disk ?? new MemoryJournalFiles();
  const clock = new SimClock();
  const events: JournalEvent[] = [];
  const journal = new Journal({
    member: 'us-east',
    replica: 'isthmus-controller-0',
    key: keys.privateKey,
    files,
    clock,
    rng: seededRng(options.seed ?? 1),
    version: '0.2.0',
    epoch: () => 7n,
    whenUnwritable: 'refuse',
    onEvent: (event) => events.push(event),
    ...options,
  });
  const reader = new JournalReader(files, journal.disk);
  const writer = { member: 'us-east', replica: 'isthmus-controller-0', key: options.key ?? keys.privateKey };
  const exported = async (
    more: {
      filter?: ExportFilter;
      chain?: string;
      inputs?: boolean;
      anchors?: Parameters<typeof exportChain>[3]['anchors'];
    } = {},
  ): Promise<Buffer> => {
    const result = await exportChain(writer, journal.disk, reader, {
      chain: more.chain ?? journal.disk.chain!,
      filter: more.filter ?? {},
      inputs: more.inputs ?? true,
      anchors: more.anchors ?? [],
      wallMs: clock.wallMs(),
      version: '0.2.0',
    });
    if (!result.ok) throw result.error;
    return result.value;
  };
  return { journal, files, clock, events, reader, exported };
};

export type Rig = ReturnType<typeof rig>;

/** Appends steps one after the other, with `gapMs` between them. */
export const fill = async (r: Rig, steps: number, perStep = 1, gapMs = 1_000): Promise<void> => {
  for (let i = 0; i < steps; i++) {
    const bodies = Array.from({ length: perStep }, (_, k) => move(`step ${i} move ${k}`));
    await r.journal.append(bodies, { step: i, at: BigInt(i), cells: new Map([['us-west', i]]) });
    await r.clock.advance(gapMs);
  }
};
