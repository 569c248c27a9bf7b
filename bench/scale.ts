/**
 * Figure 3: a controller's cold start, memory, and what the set costs in etcd, with 100 members × 1,000 services that all
 * export the same services: the worst case for merging. Real etcd over TLS; the members are made up.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { controllerNodeFlags } from '../scenarios/lab/local/programs.ts';
import { startEtcd, type TestEtcd } from '../test/real/etcd.ts';
import { type Entry, populate } from './population.ts';
import { atMost, type Figure, shown } from './report.ts';

const clusterset = 'scale';
const members = Number(process.env['ISTHMUS_BENCH_MEMBERS'] ?? 100);
const services = Number(process.env['ISTHMUS_BENCH_SERVICES'] ?? 1_000);

const write = async (etcd: TestEtcd, batches: Iterable<readonly Entry[]>): Promise<number> => {
  const store = await etcd.store('root');
  let bytes = 0;
  for (const batch of batches) {
    for (let at = 0; at < batch.length; at += 100) {
      const puts = batch.slice(at, at + 100);
      for (const { key, value } of puts) bytes += key.length + value.length;
      const done = await store.commit({ compare: [], puts, deletes: [] });
      if (!done.ok) throw new Error('the population could not be written');
    }
  }
  await store.close();
  return bytes;
};

const reader = (task: string): { lines: AsyncIterator<string>; tell(): void; end(): void } => {
  const child = spawn(
    process.execPath,
    [...controllerNodeFlags, '--expose-gc', join(import.meta.dirname, 'scale_reader.ts'), task],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return { lines, tell: () => child.stdin.write('save\n'), end: () => child.kill('SIGKILL') };
};

interface Report {
  readonly ms: number;
  readonly rssMb: number;
  readonly heapMb: number;
  readonly addresses: number;
  readonly clusters: number;
}

export const run = async (): Promise<Figure[]> => {
  const dir = mkdtempSync(join(tmpdir(), 'isthmus-bench-'));
  const etcd = await startEtcd();
  try {
    const population = await populate(clusterset, members, services);
    const batches = [population.memberships, ...population.names.map((_, i) => population.records(i))];
    const bytes = await write(etcd, batches);
    const tls = await etcd.client('root');
    const task = (from: 'store' | 'disk'): string => {
      const path = join(dir, `${from}.json`);
      const text = (b: Buffer) => b.toString('utf8');
      const authority = population.authority.export({ type: 'spki', format: 'pem' });
      writeFileSync(
        path,
        JSON.stringify({
          clusterset,
          services,
          members,
          authority,
          endpoint: etcd.endpoints[0],
          tls: { ca: text(tls.ca), cert: text(tls.cert), key: text(tls.key) },
          saved: join(dir, 'saved'),
          from,
        }),
      );
      return path;
    };
    const cold = reader(task('store'));
    const first = JSON.parse((await cold.lines.next()).value) as Report;
    cold.tell();
    const { savedMs } = JSON.parse((await cold.lines.next()).value) as { savedMs: number };
    const warm = reader(task('disk'));
    const second = JSON.parse((await warm.lines.next()).value) as Report;
    warm.end();
    return [
      atMost('scale: cold start from etcd', first.ms / 1000, 's', 10),
      atMost('scale: start from the saved state', second.ms / 1000, 's', 1),
      atMost('scale: resident memory', first.rssMb, 'MiB', 400),
      shown('scale: heap in use', first.heapMb, 'MiB'),
      shown('scale: keys and values in etcd', bytes / 2 ** 20, 'MiB'),
      shown('scale: writing the saved state', savedMs, 'ms'),
      shown('scale: workloads and services for ztunnel', first.addresses, 'resources'),
      shown('scale: gateway clusters', first.clusters, 'resources'),
    ];
  } finally {
    await etcd.stop();
    rmSync(dir, { recursive: true, force: true });
  }
};
