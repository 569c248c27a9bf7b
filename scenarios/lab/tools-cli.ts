/** `node scenarios/lab/tools-cli.ts install [names…]`: everything the lab needs beside node modules, for the Makefile. */
import { ensureCommands } from './packages.ts';
import { type ToolName, toolNames, toolPath } from './tools.ts';

const usage = `usage: node scenarios/lab/tools-cli.ts install [system] [${toolNames.join('] [')}]\n`;
const report = (line: string) => process.stderr.write(`${line}\n`);

async function main(args: readonly string[]): Promise<number> {
  const [verb, ...given] = args;
  const known = ['system', ...toolNames];
  if (verb !== 'install' || given.some((name) => !known.includes(name))) {
    process.stderr.write(usage);
    return 64;
  }
  const wanted = given.length === 0 ? known : given;
  if (wanted.includes('system')) await ensureCommands(['ip', 'nft', 'openssl', 'setpriv', 'flock'], report);
  // One after the other: each build uses every core, and the quick ones come first.
  for (const name of toolNames.filter((name) => wanted.includes(name))) {
    process.stdout.write(`${name}\t${await toolPath(name as ToolName, report)}\n`);
  }
  return 0;
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: Error) => {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  },
);
