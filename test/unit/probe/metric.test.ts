/** Metric queries as gray signals, against a real HTTP server. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import type { GraySignal } from '../../../src/health/signals.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { MetricProber } from '../../../src/probe/metric.ts';
import { queryMetric } from '../../../src/probe/metric_request.ts';
import { type MetricSpec, metricAnnotations, metricText, parseMetricSpec } from '../../../src/probe/metric_spec.ts';

const { query, above, below, interval, member } = metricAnnotations;
const open: { close(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.close();
});

const listening = async (handle: (request: IncomingMessage, response: ServerResponse, body: string) => void) => {
  const server: Server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString();
    });
    request.on('end', () => handle(request, response, body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  open.push({
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
};
const vector = (...samples: readonly (readonly [Record<string, string>, string])[]): string =>
  JSON.stringify({
    status: 'success',
    data: { resultType: 'vector', result: samples.map(([metric, value]) => ({ metric, value: [1, value] })) },
  });
const source = (url: string, over = {}) => ({ url, timeoutMs: 2_000, ...over });

describe('annotations', () => {
  it('a query and a number suffice', () => {
    expect(parseMetricSpec({ [query]: 'errors:ratio', [above]: '0.05' })).toEqual({
      ok: true,
      value: { query: 'errors:ratio', bad: 'above', threshold: 0.05, intervalMs: 10_000, memberLabel: 'cluster' },
    });
    expect(parseMetricSpec({})).toEqual({ ok: true, value: undefined });
    expect(parseMetricSpec({ [query]: 'q', [below]: '-1e3', [interval]: '5s', [member]: 'dest' })).toMatchObject({
      value: { bad: 'below', threshold: -1000, intervalMs: 5_000, memberLabel: 'dest' },
    });
  });

  it.each([
    [{ [above]: '1' }, above],
    [{ [query]: ' ', [above]: '1' }, query],
    [{ [query]: 'x'.repeat(limits.metricQueryLengthMax + 1), [above]: '1' }, query],
    [{ [query]: 'q' }, query],
    [{ [query]: 'q', [above]: '1', [below]: '2' }, query],
    [{ [query]: 'q', [above]: '5 %' }, above],
    [{ [query]: 'q', [below]: 'Infinity' }, below],
    [{ [query]: 'q', [above]: '1', [interval]: '5m' }, interval],
    [{ [query]: 'q', [above]: '1', [member]: 'a b' }, member],
    [{ [query]: 'q', [above]: '1', 'isthmus.dev/probe-path': '/' }, query],
  ])('%j is refused: named, with the next step', (annotations, name) => {
    const parsed = parseMetricSpec(annotations as Record<string, string>);
    if (parsed.ok) throw new Error('accepted');
    expect(parsed.error.code).toBe('service/probe');
    expect(parsed.error.message).toContain(name);
    expect(parsed.error.hint).toBeTruthy();
  });
});

describe('a query', () => {
  it('goes to the API under the configured URL alone, with its token', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'isthmus-metric-'));
    open.push({ close: () => rmSync(dir, { recursive: true, force: true }) });
    writeFileSync(join(dir, 'token'), 'secret\n');
    const asked: unknown[] = [];
    const url = await listening((request, response, body) => {
      asked.push([request.method, request.url, request.headers.authorization, new URLSearchParams(body).get('query')]);
      response.end(vector([{ cluster: 'us-west' }, '0.25'], [{}, 'NaN'], [{ cluster: 'eu' }, '+Inf']));
    });
    const answer = await queryMetric(source(`${url}/prom`, { tokenFile: join(dir, 'token') }), 'a{b="c"}', realClock);
    expect(answer).toEqual({
      ok: true,
      value: [
        { labels: { cluster: 'us-west' }, value: 0.25 },
        { labels: { cluster: 'eu' }, value: Number.POSITIVE_INFINITY },
      ],
    });
    expect(asked).toEqual([['POST', '/prom/api/v1/query', 'Bearer secret', 'a{b="c"}']]);
  });

  it.each<[string, (response: ServerResponse) => void, RegExp]>([
    ['that is wrong', (r) => r.writeHead(400).end('{"status":"error","error":"parse error at 3"}'), /parse error at 3/],
    ['that is redirected', (r) => r.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(), /status 302/],
    ['that is denied', (r) => r.writeHead(401).end(), /status 401/],
    ['answered with too much', (r) => r.end('x'.repeat(limits.metricAnswerBytesMax + 1)), /more than/],
    ['answered with something else', (r) => r.end('<html>'), /not JSON/],
    ['for a range', (r) => r.end('{"status":"success","data":{"resultType":"matrix","result":[]}}'), /a matrix/],
    ['that is cut off', (r) => r.socket?.destroy(), /came to nothing/],
  ])('%s says why it came to nothing', async (_what, answer, why) => {
    const url = await listening((_request, response) => answer(response));
    const result = await queryMetric(source(url), 'q', realClock);
    expect(result).toMatchObject({ ok: false, error: { code: 'probe/metric' } });
    expect(result.ok ? '' : result.error.message).toMatch(why);
  });

  it('that nobody answers ends', async () => {
    const url = await listening(() => {});
    const result = await queryMetric(source(url, { timeoutMs: 100 }), 'q', realClock);
    expect(result.ok ? '' : result.error.message).toMatch(/no answer within 100 ms/);
  });
});

describe('the metrics of services', () => {
  const spec: MetricSpec = { query: 'q', bad: 'above', threshold: 0.05, intervalMs: 20, memberLabel: 'cluster' };
  const proberOf = (url: string) => {
    const signals: GraySignal[] = [];
    const problems: (string | undefined)[] = [];
    const said = new Set<() => void>();
    const tell = (): void => {
      for (const look of said) look();
    };
    const prober = new MetricProber({
      self: 'us-east',
      source: source(url),
      clock: realClock,
      rng: () => 0.1,
      onSignal: (signal) => {
        signals.push(signal);
        tell();
      },
      onProblem: (_service, problem) => {
        problems.push(problem);
        tell();
      },
    });
    open.push({ close: () => prober.stop() });
    const until = (done: () => boolean): Promise<void> =>
      new Promise((resolve) => {
        const look = (): void => {
          if (!done()) return;
          said.delete(look);
          resolve();
        };
        said.add(look);
        look();
      });
    return { prober, signals, problems, until };
  };
  const target = (over: Partial<MetricSpec> = {}) => ({
    service: 'shop/checkout',
    spec: { ...spec, ...over },
    members: new Set(['us-east', 'us-west']),
  });

  it('are gray signals of the members that samples name, the worst of each', async () => {
    const url = await listening((_request, response) =>
      response.end(
        vector(
          [{}, '0.01'],
          [{ cluster: 'us-west', pod: 'a' }, '0.02'],
          [{ cluster: 'us-west', pod: 'b' }, '0.5'],
          [{ cluster: 'stranger' }, '1'],
        ),
      ),
    );
    const { prober, signals, until } = proberOf(url);
    prober.setService('shop/checkout', target());
    prober.start();
    await until(() => signals.length >= 2);
    expect(signals.slice(0, 2).map(({ member: of, ok, detail }) => [of, ok, detail])).toEqual([
      ['us-east', true, 'metric 0.01, not above 0.05'],
      ['us-west', false, 'metric 0.5, above 0.05'],
    ]);
  });

  it('say nothing while the source does not, and that is told once', async () => {
    let down = true;
    const url = await listening((_request, response) =>
      down ? response.writeHead(503).end() : response.end(vector([{}, '3'])),
    );
    const { prober, signals, problems, until } = proberOf(url);
    prober.setService('shop/checkout', target());
    prober.start();
    await until(() => problems.length > 0);
    expect(signals).toEqual([]);
    down = false;
    await until(() => signals.length > 0);
    expect(problems).toHaveLength(2);
    expect(problems[1]).toBeUndefined();
    expect(signals[0]).toMatchObject({ member: 'us-east', ok: false });
  });

  it('are asked for a few at once, and no more when they are not wanted', async () => {
    let inFlight = 0;
    let most = 0;
    let answered = 0;
    const url = await listening((_request, response) => {
      inFlight++;
      most = Math.max(most, inFlight);
      setImmediate(() => {
        inFlight--;
        answered++;
        response.end(vector([{}, '0']));
      });
    });
    const { prober, signals, until } = proberOf(url);
    for (let n = 0; n < 20; n++) prober.setService(`shop/s${n}`, { ...target(), service: `shop/s${n}` });
    prober.start();
    await until(() => answered > 8 && signals.length > 8);
    expect(most).toBeLessThanOrEqual(limits.metricQueriesInFlightMax);
    for (let n = 0; n < 20; n++) prober.setService(`shop/s${n}`, undefined);
    const told = signals.length;
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(signals.length).toBe(told);
  });

  it('are named for people', () => {
    expect(metricText(spec)).toBe('metric q above 0.05');
    expect(metricText({ ...spec, query: `sum(\n  ${'x'.repeat(200)})` }).length).toBeLessThan(110);
  });
});
