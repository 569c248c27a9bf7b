#!/usr/bin/env node
/** Entry point: the command line. Each command is a file of its own in `cli/`, loaded only when it is called. */
import { enableCompileCache } from 'node:module';

enableCompileCache();
const { run } = await import('./cli/program.ts');
process.exitCode = await run(process.argv);
