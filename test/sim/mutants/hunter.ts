/** A process that runs seeds until one shows that the loaded code is broken; used with a mutant loaded (hook.ts). */
import { runScenario } from '../run.ts';
import { drawScenario } from '../world/draw-scenario.ts';
import { mutants } from './table.ts';

export interface Hunted {
  readonly seed: number | undefined;
  readonly runs: number;
  readonly detail: string;
  /** Other invariants that were violated on the way. */
  readonly others: readonly string[];
}

process.on('message', ({ name, from, seedsMax }: { name: string; from: number; seedsMax: number }) => {
  void hunt(name, from, seedsMax).then(
    (hunted) => process.send!(hunted),
    (error: unknown) => process.send!({ seed: undefined, runs: 0, detail: String(error), others: [] }),
  );
});
process.on('disconnect', () => process.exit(0));

const hunt = async (name: string, from: number, seedsMax: number): Promise<Hunted> => {
  const mutant = mutants.find((m) => m.name === name)!;
  const others = new Set<string>();
  for (let i = 0; i < seedsMax; i++) {
    const { violation } = await runScenario(drawScenario(from + i, mutant.wanted));
    if (violation?.invariant === mutant.invariant) {
      return { seed: from + i, runs: i + 1, detail: violation.detail.split('\n')[0]!, others: [...others] };
    }
    if (violation !== undefined) others.add(violation.invariant);
  }
  return { seed: undefined, runs: seedsMax, detail: 'not caught', others: [...others] };
};
