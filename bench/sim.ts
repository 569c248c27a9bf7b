/** How fast the simulation is, on one core: what a minute of CI buys. The same seeds each time, so that commits can be compared. */
import { runScenario } from '../test/sim/run.ts';
import { drawScenario } from '../test/sim/world/draw-scenario.ts';
import { type Figure, shown } from './report.ts';

const seeds = 20;
const large = 50;

const timed = async (
  from: number,
  count: number,
  clusters?: number,
): Promise<{ simulatedS: number; wallS: number }> => {
  const start = performance.now();
  let simulatedMs = 0;
  for (let seed = from; seed < from + count; seed++) {
    simulatedMs += (await runScenario(drawScenario(seed, { clusters }))).simulatedMs;
  }
  return { simulatedS: simulatedMs / 1_000, wallS: (performance.now() - start) / 1_000 };
};

export const run = async (): Promise<readonly Figure[]> => {
  await timed(1, 2);
  const usual = await timed(1, seeds);
  const many = await timed(1, 1, large);
  return [
    shown('sim: simulated seconds per second', Math.round(usual.simulatedS / usual.wallS), 's/s'),
    shown('sim: seeds per minute and core', Math.round((seeds * 60) / usual.wallS), 'seeds'),
    shown(`sim: simulated seconds per second, ${large} clusters`, many.simulatedS / many.wallS, 's/s'),
  ];
};
