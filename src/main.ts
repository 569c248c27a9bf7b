#!/usr/bin/env node
/** Entry point: the command line. Each command is a file of its own in `cli/`, loaded only when it is called. */
import { enableCompileCache } from 'node:module';

enableCompileCache();
// What a dependency calls that Node will drop one day is for us to see (in tests), not for the logs of those who run it.
process.noDeprecation = true;
const { run } = await import('./cli/program.ts');
process.exitCode = await run(process.argv);
