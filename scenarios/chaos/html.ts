/** The report as one page of HTML that needs nothing else: a summary, then each scenario with what was expected and its curves. */
import { clusterOf } from '../lab/outcome.ts';
import { callsCurve, escaped, latencyCurve, legend, stateBands } from './curves.ts';
import type { Observed } from './observed.ts';
import { type Result, verdictOf } from './result.ts';

const style = `
:root { color-scheme: light dark; --text: #1d232b; --dim: #5d6672; --back: #ffffff; --line: #d9dee5; --good: #2e7d4f; --bad: #c0392b; --odd: #9a6b00; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ee; --dim: #9aa4b1; --back: #14181d; --line: #2c343d; --good: #6fc28f; --bad: #ef7a6c; --odd: #d9aa45; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .2rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
h3 { font-size: .85rem; color: var(--dim); margin: 1rem 0 .2rem; font-weight: 600; }
p { margin: .3rem 0 .8rem; } .about { color: var(--dim); max-width: 75ch; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } td, th { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.passed, .ok { color: var(--good); } .failed, .error, .no { color: var(--bad); font-weight: 600; } .invalid { color: var(--odd); }
svg { width: 100%; height: auto; display: block; overflow: visible; } .tick { font-size: 10px; fill: var(--dim); text-anchor: middle; } .tick.end { text-anchor: end; } .tick.start { text-anchor: start; }
.mark { stroke: var(--text); stroke-dasharray: 3 3; stroke-width: 1; } .number { font-size: 11px; fill: var(--text); stroke: var(--back); stroke-width: 3px; paint-order: stroke; }
.grid { stroke: var(--line); } .line { fill: none; stroke: var(--dim); stroke-width: 1.4; }
.legend span { margin-right: 1rem; white-space: nowrap; font-size: .85rem; } .legend i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; }
ol { font-size: .88rem; padding-left: 1.4rem; } ol span { color: var(--dim); font-variant-numeric: tabular-nums; } pre { white-space: pre-wrap; font-size: .85rem; }`;

const clustersOf = (results: readonly Result[]): string[] => {
  const names = new Set<string>();
  for (const { observed } of results)
    for (const calls of observed?.calls.values() ?? [])
      for (const call of calls) if (call.ok) names.add(clusterOf(call.answeredBy));
  return [...names].sort();
};

const curves = (observed: Observed, clusters: readonly string[]): string => {
  const { zero, untilS, done, states } = observed;
  const parts = [...observed.calls].map(
    ([mode, calls]) =>
      `<h3>New calls a second by who answered, ${mode} mode</h3>${callsCurve(calls, zero, untilS, done, clusters)}<h3>The slowest of each second</h3>${latencyCurve(calls, zero, untilS)}`,
  );
  const bands = stateBands(states, untilS);
  if (bands !== '') parts.push(`<h3>Peers that were not fresh</h3>${bands}`);
  const events = done.map(({ at, what }) => `<li><span>${at.toFixed(1)} s</span> ${escaped(what)}</li>`);
  parts.push(`<h3>What was done</h3><ol>${events.join('')}</ol>`);
  const decisions = [...observed.journals].flatMap(([cluster, { entries }]) =>
    entries
      .filter(({ wallMs }) => wallMs >= zero && wallMs <= zero + untilS * 1000)
      .map(({ wallMs, detail }) => ({ s: (wallMs - zero) / 1000, cluster, detail })),
  );
  if (decisions.length > 0) {
    const rows = decisions
      .sort((a, b) => a.s - b.s)
      .slice(0, 200)
      .map(
        ({ s, cluster, detail }) => `<li><span>${s.toFixed(1)} s ${escaped(cluster)}</span> ${escaped(detail)}</li>`,
      );
    parts.push(
      `<details><summary>${decisions.length} decisions in the journals</summary><ol>${rows.join('')}</ol></details>`,
    );
  }
  return parts.join('');
};

const section = (result: Result, clusters: readonly string[]): string => {
  const { scenario, judged, observed, invalid, error } = result;
  const verdict = verdictOf(result);
  const rows = judged.map(
    ({ what, met, seen }) =>
      `<tr><td class="${met ? 'ok' : 'no'}">${met ? 'met' : 'missed'}</td><td>${escaped(what)}</td><td>${escaped(seen)}</td></tr>`,
  );
  return `<h2 id="${scenario.name}">${escaped(scenario.title)} <small class="${verdict}">${verdict}</small></h2><p class="about">${escaped(scenario.about)}</p>${
    error === undefined ? '' : `<pre class="no">${escaped(error)}</pre>`
  }${invalid === undefined ? '' : `<p class="invalid">No valid run: ${escaped(invalid)}</p>`}${
    rows.length === 0 ? '' : `<table><tr><th></th><th>Expected</th><th>Seen</th></tr>${rows.join('')}</table>`
  }${observed === undefined ? '' : curves(observed, clusters)}`;
};

export const htmlReport = (results: readonly Result[]): string => {
  const clusters = clustersOf(results);
  const summary = results.map((r) => {
    const verdict = verdictOf(r);
    const met = r.judged.filter((j) => j.met).length;
    return `<tr><td class="${verdict}">${verdict}</td><td><a href="#${r.scenario.name}">${escaped(r.scenario.title)}</a></td><td>${met} of ${r.judged.length} met</td><td>${r.seconds.toFixed(0)} s</td></tr>`;
  });
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Scenarios</title><style>${style}</style>
<h1>Scenarios: ${results.filter((r) => verdictOf(r) === 'passed').length} of ${results.length} passed</h1>
<table>${summary.join('')}</table>
<p class="legend">${legend(clusters)}</p>
${results.map((r) => section(r, clusters)).join('\n')}</html>
`;
};
