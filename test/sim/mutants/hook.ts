/**
 * Breaks one place of the sources as they are loaded: `ISTHMUS_SIM_MUTANT` names it. Nothing on the disk is touched, so any number of
 * mutants can be run at once.
 */
import { registerHooks } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { mutants } from './table.ts';

const name = process.env['ISTHMUS_SIM_MUTANT'];
const mutant = mutants.find((m) => m.name === name);
if (mutant === undefined) throw new Error(`"${name}" is no mutant`);
const url = pathToFileURL(join(import.meta.dirname, '../../..', mutant.file)).href;

registerHooks({
  load: (loaded, context, next) => {
    const result = next(loaded, context);
    if (loaded !== url) return result;
    const source = String(result.source);
    if (source.split(mutant.find).length !== 2) {
      throw new Error(`mutant ${mutant.name}: ${mutant.file} has not exactly one "${mutant.find}"`);
    }
    return { ...result, source: source.replace(mutant.find, () => mutant.replace) };
  },
});
