/**
 * What a change costs for every proxy that gets it: processor time of the server process per message and stream, over TLS,
 * with the proxies in another process.
 *
 * `push` is the server's time to get a change out to every stream, with proxies that read and say nothing: what the aim and
 * comparable figures of libraries are about. `push_ack` is with each proxy's acknowledgement received, decrypted, decoded and
 * applied. Both are also measured for grpc-js alone, on the same machine in the same minute: on a busy machine only
 * the comparison means something.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import type { OpenStreams } from './fanout_client.ts';
import type { Cost, Measure } from './fanout_server.ts';
import { atMost, type Figure, figureTable, shown } from './report.ts';

const streamCounts = [1, 100, 1_000];
const aimUs = 25;

const next = <T>(child: ChildProcess): Promise<T> =>
  new Promise((resolve, reject) => {
    child.once('message', (value) => resolve(value as T));
    child.once('exit', (code) => reject(new Error(`a process of the bench ended with ${code}`)));
  });

const measure = async (what: 'ours' | 'baseline', streams: number, acks: boolean): Promise<number> => {
  const server = fork(join(import.meta.dirname, 'fanout_server.ts'), [what]);
  const client = fork(join(import.meta.dirname, 'fanout_client.ts'));
  try {
    const { port, ca } = await next<{ port: number; ca: string }>(server);
    client.send({ port, ca, streams, acks } satisfies OpenStreams);
    await next(client);
    // Let go of what opening so many streams left behind.
    await new Promise((resolve) => setTimeout(resolve, 500));
    const changes = Math.min(300, Math.max(30, Math.round(20_000 / streams)));
    server.send({ streams, changes, acks } satisfies Measure);
    return Math.round((await next<Cost>(server)).cpuUs * 10) / 10;
  } finally {
    client.kill();
    server.kill();
  }
};

export const run = async (): Promise<readonly Figure[]> => {
  const figures: Figure[] = [];
  for (const streams of streamCounts) {
    const push = await measure('ours', streams, false);
    // One stream pays a whole wake-up of the process for one message: shown, not aimed at.
    figures.push(
      streams === 1 ? shown(`fanout.push.${streams}`, push, 'µs') : atMost(`fanout.push.${streams}`, push, 'µs', aimUs),
    );
    figures.push(shown(`fanout.push.${streams}.grpc-js alone`, await measure('baseline', streams, false), 'µs'));
    figures.push(shown(`fanout.push_ack.${streams}`, await measure('ours', streams, true), 'µs'));
    figures.push(shown(`fanout.push_ack.${streams}.grpc-js alone`, await measure('baseline', streams, true), 'µs'));
  }
  return figures;
};

if (import.meta.main) {
  const figures = await run();
  process.stdout.write(`${figureTable(figures)}\n${JSON.stringify(figures)}\n`);
  process.exit(0);
}
