/** The curves of one run as SVG: calls by answering cluster and those that failed, how long calls took, states over time, events. */
import { type CallRecord, clusterOf } from '../lab/outcome.ts';
import type { Done, StateSample } from './observed.ts';

const width = 960;
const left = 44;
const right = 12;
const callsHeight = 150;
const bandHeight = 14;
const failedName = 'failed';

/** Told apart without colours that many cannot tell apart. */
const palette = ['#2f6db3', '#e0a030', '#4b9b8e', '#8a63a8', '#7a8a35'];
const failedColour = '#c0392b';
const stateColours: Record<string, string> = {
  fresh: '#cfe3d4',
  suspect: '#f3dc9b',
  quarantined: '#e8a87c',
  evicted: '#c0392b',
};

export const escaped = (text: string): string => text.replace(/[<>&"]/g, (c) => `&#${c.charCodeAt(0)};`);
const at = (seconds: number, untilS: number): number => left + (seconds / untilS) * (width - left - right);

/** Colours by cluster, the same in every curve of a page. */
export const colourOf = (cluster: string, clusters: readonly string[]): string =>
  cluster === failedName ? failedColour : palette[Math.max(0, clusters.indexOf(cluster)) % palette.length]!;

interface Bins {
  readonly counts: ReadonlyMap<string, readonly number[]>;
  readonly worstMs: readonly number[];
}

/** New calls of each second, by who answered. */
const bin = (calls: readonly CallRecord[], zero: number, untilS: number): Bins => {
  const seconds = Math.ceil(untilS);
  const counts = new Map<string, number[]>();
  const worstMs = new Array<number>(seconds).fill(0);
  for (const call of calls) {
    const s = Math.floor((call.start - zero) / 1000);
    if (call.kind !== 'new' || s < 0 || s >= seconds) continue;
    const who = call.ok ? clusterOf(call.answeredBy) : failedName;
    const row = counts.get(who) ?? new Array<number>(seconds).fill(0);
    counts.set(who, row);
    row[s] = row[s]! + 1;
    worstMs[s] = Math.max(worstMs[s]!, call.ms);
  }
  return { counts, worstMs };
};

const axis = (untilS: number, height: number, top: number, unit: string): string => {
  const every = untilS > 60 ? 10 : 5;
  const lines: string[] = [];
  for (let s = 0; s <= untilS; s += every) {
    const x = at(s, untilS).toFixed(1);
    lines.push(`<text x="${x}" y="${height + 14}" class="tick">${s} s</text>`);
  }
  lines.push(
    `<text x="${left - 6}" y="10" class="tick end">${top}</text><text x="${left - 6}" y="${height}" class="tick end">0</text>`,
  );
  lines.push(`<text x="2" y="10" class="tick start">${unit}</text>`);
  return lines.join('');
};

const marks = (done: readonly Done[], untilS: number, height: number): string =>
  done
    .map(({ at: s, what }, i) => {
      const x = at(s, untilS).toFixed(1);
      return `<line x1="${x}" x2="${x}" y1="0" y2="${height}" class="mark"/><text x="${x}" y="${height - 4}" class="number" >${i + 1}<title>${escaped(what)}</title></text>`;
    })
    .join('');

/** Stacked columns, a second each; what failed is on top, in red. */
export const callsCurve = (
  calls: readonly CallRecord[],
  zero: number,
  untilS: number,
  done: readonly Done[],
  clusters: readonly string[],
): string => {
  const { counts } = bin(calls, zero, untilS);
  const order = [...clusters, failedName].filter((name) => counts.has(name));
  const seconds = Math.ceil(untilS);
  const totals = Array.from({ length: seconds }, (_, s) => order.reduce((sum, name) => sum + counts.get(name)![s]!, 0));
  const top = Math.max(1, ...totals);
  const bars: string[] = [];
  const step = (width - left - right) / untilS;
  for (let s = 0; s < seconds; s++) {
    let y = callsHeight;
    for (const name of order) {
      const h = (counts.get(name)![s]! / top) * callsHeight;
      if (h === 0) continue;
      y -= h;
      bars.push(
        `<rect x="${at(s, untilS).toFixed(1)}" y="${y.toFixed(1)}" width="${Math.max(1, step - 0.6).toFixed(1)}" height="${h.toFixed(1)}" fill="${colourOf(name, clusters)}"><title>${s} s: ${name} ${counts.get(name)![s]}</title></rect>`,
      );
    }
  }
  return `<svg viewBox="0 0 ${width} ${callsHeight + 18}" role="img" aria-label="new calls a second by answering cluster">${bars.join('')}${marks(done, untilS, callsHeight)}${axis(untilS, callsHeight, top, '/s')}</svg>`;
};

/** The slowest call of each second, on a logarithmic scale from 1 ms to 10 s. */
export const latencyCurve = (calls: readonly CallRecord[], zero: number, untilS: number): string => {
  const height = 60;
  const { worstMs } = bin(calls, zero, untilS);
  const y = (ms: number): number => height - (Math.log10(Math.max(1, Math.min(10_000, ms))) / 4) * height;
  const points = worstMs.map((ms, s) => `${at(s + 0.5, untilS).toFixed(1)},${y(ms).toFixed(1)}`).join(' ');
  const grid = [10, 100, 1_000]
    .map(
      (ms) =>
        `<line x1="${left}" x2="${width - right}" y1="${y(ms)}" y2="${y(ms)}" class="grid"/><text x="${left - 6}" y="${y(ms) + 4}" class="tick end">${ms < 1000 ? `${ms} ms` : '1 s'}</text>`,
    )
    .join('');
  return `<svg viewBox="0 0 ${width} ${height + 4}" role="img" aria-label="slowest new call of each second">${grid}<polyline points="${points}" class="line"/></svg>`;
};

/** A band for each cluster's view of each peer that was ever anything else than fresh. */
export const stateBands = (states: readonly StateSample[], untilS: number): string => {
  const rows = new Map<string, StateSample[]>();
  for (const sample of states) {
    const key = `${sample.peer} as ${sample.cluster} sees it`;
    rows.set(key, [...(rows.get(key) ?? []), sample]);
  }
  const shown = [...rows].filter(([, samples]) => samples.some(({ state }) => state !== 'fresh')).sort();
  if (shown.length === 0) return '';
  const labelWidth = 210;
  const x = (s: number): number => labelWidth + (Math.max(0, s) / untilS) * (width - labelWidth - right);
  const lines = shown.map(([label, samples], row) => {
    const y = row * (bandHeight + 4);
    const rects = samples.map((sample, i) => {
      const end = samples[i + 1]?.at ?? untilS;
      const title = `<title>${sample.at.toFixed(1)} s: ${sample.state}</title>`;
      return `<rect x="${x(sample.at).toFixed(1)}" y="${y}" width="${Math.max(0.5, x(end) - x(sample.at)).toFixed(1)}" height="${bandHeight}" fill="${stateColours[sample.state] ?? '#bbb'}">${title}</rect>`;
    });
    return `<text x="0" y="${y + 11}" class="tick start">${escaped(label)}</text>${rects.join('')}`;
  });
  return `<svg viewBox="0 0 ${width} ${shown.length * (bandHeight + 4)}" role="img" aria-label="states over time">${lines.join('')}</svg>`;
};

export const legend = (clusters: readonly string[]): string =>
  [...clusters, failedName]
    .map((name) => `<span><i style="background:${colourOf(name, clusters)}"></i>${escaped(name)}</span>`)
    .join('') +
  Object.entries(stateColours)
    .map(([state, colour]) => `<span><i style="background:${colour}"></i>${state}</span>`)
    .join('');
