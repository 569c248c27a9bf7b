// The files with failures in a report of vitest (its JSON reporter), relative to the working directory, on one line. Exits 1 when
// the report is missing or the failure belongs to no file (an error outside of any test): there is nothing to try again then.
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

interface Report {
  readonly testResults: readonly { readonly name: string; readonly status: string }[];
}

const path = process.argv[2];
if (path === undefined) throw new Error('failed-files: name the report of a run: out/test/<part>.json');
const report = JSON.parse(readFileSync(path, 'utf8')) as Report;
const files = report.testResults.filter((file) => file.status === 'failed').map((file) => relative(process.cwd(), file.name));
process.stdout.write(files.join(' '));
process.exitCode = files.length === 0 ? 1 : 0;
