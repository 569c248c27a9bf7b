/** The result as JUnit, which every CI shows: a suite for each scenario, a case for each expectation. */
import type { Result } from './result.ts';

const escaped = (text: string): string =>
  text.replace(/[<>&"']/g, (c) => `&#${c.charCodeAt(0)};`).replace(/[^\t\n\r -\uffff]/g, '');

export const junit = (results: readonly Result[]): string => {
  const suites = results.map(({ scenario, judged, invalid, error, seconds }) => {
    const cases = judged.map(({ what, met, seen }) => {
      const open = `    <testcase classname="${escaped(scenario.name)}" name="${escaped(what)}"`;
      return met ? `${open}/>` : `${open}><failure message="${escaped(seen)}"/></testcase>`;
    });
    const whole = `    <testcase classname="${escaped(scenario.name)}" name="runs"`;
    if (invalid !== undefined) cases.push(`${whole}><skipped message="${escaped(invalid)}"/></testcase>`);
    if (error !== undefined) cases.push(`${whole}><error message="${escaped(error)}"/></testcase>`);
    const failures = judged.filter(({ met }) => !met).length;
    return [
      `  <testsuite name="${escaped(scenario.title)}" tests="${cases.length}" failures="${failures}" errors="${error === undefined ? 0 : 1}" skipped="${invalid === undefined ? 0 : 1}" time="${seconds.toFixed(1)}">`,
      ...cases,
      '  </testsuite>',
    ].join('\n');
  });
  return `<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n${suites.join('\n')}\n</testsuites>\n`;
};
