/** One HTTP request over a tunnel: its status and how long it took. The body is not read. */
import { request } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Clock } from '../core/clock.ts';
import { type GraySpec, statusFits } from './gray_spec.ts';
import type { GrayOutcome } from './gray_window.ts';

const answerOf = (
  stream: Duplex,
  host: string,
  path: string,
  timeoutMs: number,
  clock: Clock,
): Promise<{ readonly status: number } | { readonly error: string }> =>
  new Promise((resolve) => {
    const end = (answer: { readonly status: number } | { readonly error: string }): void => {
      timer.cancel();
      asked.on('error', () => {});
      asked.destroy();
      resolve(answer);
    };
    const timer = clock.after(timeoutMs, () => end({ error: 'late' }));
    const asked = request({
      createConnection: () => stream,
      path,
      headers: { host, 'user-agent': 'isthmus-probe', connection: 'close' },
      maxHeaderSize: 16 * 1024,
    });
    asked.on('response', (answer) => {
      answer.on('error', () => {});
      end({ status: answer.statusCode ?? 0 });
    });
    asked.on('error', (error) => end({ error: error.message }));
    asked.end();
  });

/** Waits a little longer than what counts as slow, so that the time can be told. */
const marginMs = 500;

export const askGray = async (
  stream: NodeJS.ReadWriteStream,
  host: string,
  spec: GraySpec,
  clock: Clock,
): Promise<GrayOutcome> => {
  const startMs = clock.monotonicMs();
  const answer = await answerOf(stream as Duplex, host, spec.path, spec.slowMs + marginMs, clock);
  const ms = Math.round(clock.monotonicMs() - startMs);
  if ('error' in answer) {
    if (answer.error !== 'late') return { ok: false, detail: answer.error };
    return { ok: false, detail: `no answer in ${ms} ms, above ${spec.slowMs} ms`, slow: true };
  }
  if (!statusFits(spec, answer.status)) return { ok: false, detail: `status ${answer.status}` };
  if (ms > spec.slowMs) return { ok: false, detail: `took ${ms} ms, above ${spec.slowMs} ms`, slow: true };
  return { ok: true, detail: `status ${answer.status} in ${ms} ms` };
};
