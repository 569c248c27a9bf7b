/** Opens a lab. The one place that knows the backends. */
import type { Lab, LabOptions } from './lab.ts';

/**
 * Brings a lab up: clusters, federation, controllers and gateways. Rejects, with nothing left behind, when that fails. Ctrl-C and
 * SIGTERM take it down again before the process ends.
 */
export async function openLab(options: LabOptions): Promise<Lab> {
  const backend = process.env.ISTHMUS_LAB_BACKEND ?? 'local';
  if (backend !== 'local') throw new Error(`ISTHMUS_LAB_BACKEND="${backend}": the only backend is "local"`);
  const { LocalLab } = await import('./local/lab.ts');
  const lab = await LocalLab.start(options);
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.once(signal, () => {
      lab.down().finally(() => process.exit(code));
    });
  }
  return lab;
}
