/** What annotations ask for, and when a service that answers is nevertheless bad. */
import { describe, expect, it } from 'vitest';
import { errorCodes } from '../../../src/core/errors.ts';
import { grayAnnotations, parseGraySpec, statusFits } from '../../../src/probe/gray_spec.ts';
import { type GrayOutcome, GrayWindow } from '../../../src/probe/gray_window.ts';

const { path, status, slow, interval, port } = grayAnnotations;

describe('annotations', () => {
  it('without any there is no probe', () => {
    expect(parseGraySpec({ 'isthmus.dev/mode': 'gateway' })).toEqual({ ok: true, value: undefined });
  });

  it('the path alone suffices', () => {
    expect(parseGraySpec({ [path]: '/healthz?deep=1' })).toEqual({
      ok: true,
      value: {
        path: '/healthz?deep=1',
        statuses: [{ from: 200, to: 299 }],
        slowMs: 1_000,
        intervalMs: 2_000,
        port: undefined,
      },
    });
  });

  it('all of them', () => {
    const all = { [path]: '/', [status]: '200-204, 418', [slow]: '250ms', [interval]: '1m30s', [port]: '8443' };
    const parsed = parseGraySpec(all);
    expect(parsed).toMatchObject({ ok: true, value: { slowMs: 250, intervalMs: 90_000, port: 8_443 } });
    if (!parsed.ok || parsed.value === undefined) throw new Error('no value');
    expect([200, 204, 418].every((code) => statusFits(parsed.value!, code))).toBe(true);
    expect([199, 205, 417, 500].some((code) => statusFits(parsed.value!, code))).toBe(false);
  });

  it.each([
    [{ [path]: 'healthz' }, path, '"healthz"'],
    [{ [path]: '/a b' }, path, '"/a b"'],
    [{ [path]: '/x\r\nHost: evil' }, path, 'evil'],
    [{ [path]: '' }, path, '""'],
    [{ [path]: `/${'x'.repeat(2_000)}` }, path, '"/xxx'],
    [{ [path]: '/', [status]: '2xx' }, status, '"2xx"'],
    [{ [path]: '/', [status]: '299-200' }, status, '"299-200"'],
    [{ [path]: '/', [status]: '600' }, status, '"600"'],
    [{ [path]: '/', [status]: '' }, status, '""'],
    [{ [path]: '/', [slow]: 'fast' }, slow, '"fast"'],
    [{ [path]: '/', [slow]: '0s' }, slow, '"0s"'],
    [{ [path]: '/', [interval]: '1ms' }, interval, '"1ms"'],
    [{ [path]: '/', [interval]: '1h' }, interval, '"1h"'],
    [{ [path]: '/', [port]: 'http' }, port, '"http"'],
    [{ [path]: '/', [port]: '0' }, port, '"0"'],
    [{ [status]: '200' }, status, '"200"'],
  ])('%j is refused: named, quoted, with the next step', (annotations, name, value) => {
    const parsed = parseGraySpec(annotations);
    if (parsed.ok) throw new Error('accepted');
    expect(parsed.error.code).toBe('service/probe');
    expect(errorCodes['service/probe']).toBeDefined();
    expect(parsed.error.message).toContain(name);
    expect(parsed.error.message).toContain(value);
    expect(parsed.error.hint).toBeTruthy();
  });
});

describe('rounds', () => {
  const good: GrayOutcome = { ok: true, detail: 'status 200 in 3 ms' };
  const bad: GrayOutcome = { ok: false, detail: 'status 503' };

  it('are bad when every request failed', () => {
    expect(new GrayWindow().add([bad, bad, bad])).toEqual({ ok: false, detail: 'status 503' });
  });

  it('bear a single failure', () => {
    const window = new GrayWindow();
    expect(window.add([good, bad, good])).toEqual({ ok: true, detail: '1 of 3 failed with status 503' });
    for (let i = 0; i < 20; i++) expect(window.add([good, good, good]).ok).toBe(true);
  });

  it('are bad while more than a fifth of the last ones fail', () => {
    const window = new GrayWindow();
    for (let i = 0; i < 4; i++) window.add([good, good, good]);
    const seen: boolean[] = [];
    for (let i = 0; i < 10; i++) seen.push(window.add([good, bad, good]).ok);
    expect(seen).toEqual([true, true, false, false, false, false, false, false, false, false]);
    const healing: boolean[] = [];
    for (let i = 0; i < 4; i++) healing.push(window.add([good, good, good]).ok);
    expect(healing).toEqual([false, true, true, true]);
  });
});
