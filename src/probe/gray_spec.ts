/**
 * The opt-in HTTP probe of a service, as its annotations ask for it. Readiness and gateways do not see an application that answers
 * badly or late; this does, and only where somebody has said what a good answer is.
 */
import { parseDuration } from '../core/duration.ts';
import { fail, ok, type Result } from '../core/errors.ts';

export const grayAnnotations = {
  path: 'isthmus.dev/probe-path',
  status: 'isthmus.dev/probe-status',
  slow: 'isthmus.dev/probe-slow',
  interval: 'isthmus.dev/probe-interval',
  port: 'isthmus.dev/probe-port',
} as const;

export interface StatusRange {
  readonly from: number;
  readonly to: number;
}

export interface GraySpec {
  readonly path: string;
  readonly statuses: readonly StatusRange[];
  /** An answer that takes longer counts as bad. */
  readonly slowMs: number;
  readonly intervalMs: number;
  /** Of the service; undefined: its first one. */
  readonly port: number | undefined;
}

export const grayDefaults = { status: '200-299', slow: '1s', interval: '2s' } as const;
const bounds = { slowMs: [10, 30_000], intervalMs: [500, 300_000] } as const;
const rangesMax = 16;
/** Visible ASCII: what may stand in a request line. */
const pathForm = /^\/[\x21-\x7e]{0,1023}$/;

const problem = (annotation: string, value: string, hint: string): Result<never> =>
  fail('service/probe', `${annotation}: ${JSON.stringify(value.slice(0, 200))} cannot be used`, {
    hint,
    subject: { annotation },
  });

const statuses = (text: string): readonly StatusRange[] | undefined => {
  const parts = text.split(',');
  if (parts.length > rangesMax) return undefined;
  const ranges: StatusRange[] = [];
  for (const part of parts) {
    const match = /^\s*([1-5]\d\d)(?:-([1-5]\d\d))?\s*$/.exec(part);
    if (match === null) return undefined;
    const from = Number(match[1]);
    const to = match[2] === undefined ? from : Number(match[2]);
    if (to < from) return undefined;
    ranges.push({ from, to });
  }
  return ranges;
};

const time = (text: string, [min, max]: readonly [number, number]): number | undefined => {
  const ms = parseDuration(text);
  return ms !== undefined && ms >= min && ms <= max ? ms : undefined;
};

/** Undefined without the annotation of the path: no probe. Errors (`service/probe`) name the annotation, the value and what would do. */
export const parseGraySpec = (annotations: Readonly<Record<string, string>>): Result<GraySpec | undefined> => {
  const { path: pathKey, status: statusKey, slow: slowKey, interval: intervalKey, port: portKey } = grayAnnotations;
  const path = annotations[pathKey];
  if (path === undefined) {
    const other = [statusKey, slowKey, intervalKey, portKey].find((key) => annotations[key] !== undefined);
    if (other === undefined) return ok(undefined);
    return problem(other, annotations[other]!, `it needs ${pathKey} beside it, as "/healthz"`);
  }
  if (!pathForm.test(path))
    return problem(pathKey, path, 'write a path that begins with /, without blanks: "/healthz"');
  const status = annotations[statusKey] ?? grayDefaults.status;
  const ranges = statuses(status);
  if (ranges === undefined) {
    return problem(statusKey, status, 'write HTTP statuses and ranges of them: "200-299" or "200,204"');
  }
  const slow = annotations[slowKey] ?? grayDefaults.slow;
  const slowMs = time(slow, bounds.slowMs);
  if (slowMs === undefined) return problem(slowKey, slow, 'write a duration from 10ms to 30s: "500ms"');
  const interval = annotations[intervalKey] ?? grayDefaults.interval;
  const intervalMs = time(interval, bounds.intervalMs);
  if (intervalMs === undefined) return problem(intervalKey, interval, 'write a duration from 500ms to 5m: "2s"');
  const portText = annotations[portKey];
  const port = portText === undefined ? undefined : Number(portText);
  if (portText !== undefined && !(/^\d{1,5}$/.test(portText) && port! >= 1 && port! <= 65_535)) {
    return problem(portKey, portText, 'write the number of one of the service’s ports: "8080"');
  }
  return ok({ path, statuses: ranges, slowMs, intervalMs, port });
};

export const statusFits = ({ statuses: ranges }: Pick<GraySpec, 'statuses'>, status: number): boolean =>
  ranges.some(({ from, to }) => status >= from && status <= to);
