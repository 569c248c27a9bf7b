/**
 * One instant query against a Prometheus HTTP API, bounded in time and size. Redirects are not followed: the answer comes from where the
 * configuration says, or not at all.
 */
import { readFile } from 'node:fs/promises';
import { request as requestPlain } from 'node:http';
import { request as requestTls } from 'node:https';
import type { Clock } from '../core/clock.ts';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';

export interface MetricSource {
  /** Base URL, as `http://prometheus.monitoring:9090`. */
  readonly url: string;
  /** File with a bearer token, read anew for each query. */
  readonly tokenFile?: string | undefined;
  readonly timeoutMs: number;
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const samplesMax = 1_000;

const failed = (url: string, why: string): Result<never> =>
  fail('probe/metric', `the query at ${url} came to nothing: ${why}`, { subject: { url } });

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A value may be NaN, which says nothing: such samples are left out. */
const sampleOf = (value: unknown, labels: unknown): Sample | undefined => {
  if (!Array.isArray(value) || typeof value[1] !== 'string') return undefined;
  const number = value[1] === '+Inf' ? Number.POSITIVE_INFINITY : value[1] === '-Inf' ? -Infinity : Number(value[1]);
  if (Number.isNaN(number)) return undefined;
  const named = Object.entries(isObject(labels) ? labels : {}).filter(([, text]) => typeof text === 'string');
  return { labels: Object.fromEntries(named) as Record<string, string>, value: number };
};

const samplesOf = (text: string): readonly Sample[] | string => {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return 'the answer is not JSON';
  }
  if (!isObject(body)) return 'the answer is not an object';
  if (body['status'] !== 'success')
    return `it says ${JSON.stringify(String(body['error'] ?? body['status']).slice(0, 200))}`;
  const data = isObject(body['data']) ? body['data'] : {};
  const { resultType, result } = data;
  if (resultType === 'scalar') return [sampleOf(result, {})].filter((sample) => sample !== undefined);
  if (resultType !== 'vector' || !Array.isArray(result)) return `it gives a ${String(resultType)}, not a vector`;
  if (result.length > samplesMax) return `it gives ${result.length} samples, more than ${samplesMax}`;
  return result.flatMap((each) => (isObject(each) ? (sampleOf(each['value'], each['metric']) ?? []) : []));
};

const post = (source: MetricSource, body: string, token: string | undefined, clock: Clock): Promise<Result<string>> =>
  new Promise((resolve) => {
    const { url, timeoutMs } = source;
    const target = new URL('api/v1/query', url.endsWith('/') ? url : `${url}/`);
    const open = target.protocol === 'https:' ? requestTls : requestPlain;
    const sent = open(target, {
      method: 'POST',
      // A connection of its own: queries are seconds apart.
      agent: false,
      headers: {
        'content-type': 'application/x-www-form-urlencoded',
        'content-length': Buffer.byteLength(body),
        accept: 'application/json',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
    });
    const timer = clock.after(timeoutMs, () => done(failed(url, `no answer within ${timeoutMs} ms`)));
    const done = (result: Result<string>): void => {
      timer.cancel();
      sent.destroy();
      resolve(result);
    };
    sent.on('error', (error) => done(failed(url, error.message)));
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > limits.metricAnswerBytesMax) done(failed(url, `more than ${limits.metricAnswerBytesMax} bytes`));
        else chunks.push(chunk);
      });
      response.on('error', (error) => done(failed(url, error.message)));
      response.on('end', () => {
        const status = response.statusCode ?? 0;
        const text = Buffer.concat(chunks).toString('utf8');
        // 400 and 422 come with a text that says what is wrong with the query.
        if (status === 200 || status === 400 || status === 422) done(ok(text));
        else done(failed(url, `status ${status}`));
      });
    });
    sent.end(body);
  });

/** Errors: `probe/metric`. */
export const queryMetric = async (
  source: MetricSource,
  query: string,
  clock: Clock,
): Promise<Result<readonly Sample[]>> => {
  let token: string | undefined;
  try {
    if (source.tokenFile !== undefined) token = (await readFile(source.tokenFile, 'utf8')).trim();
  } catch (error) {
    return failed(source.url, `its token cannot be read: ${(error as Error).message}`);
  }
  const body = new URLSearchParams({ query, timeout: `${Math.ceil(source.timeoutMs / 1000)}s` }).toString();
  const answer = await post(source, body, token, clock);
  if (!answer.ok) return answer;
  const samples = samplesOf(answer.value);
  return typeof samples === 'string' ? failed(source.url, samples) : ok(samples);
};
