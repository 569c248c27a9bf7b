/**
 * What the replicas of a cluster tell each other of the certificates that they issued and the gateways that answered them, by a ConfigMap
 * each. The writer puts them together: a certificate comes from whichever replica the proxy happened to reach.
 *
 * Through etcd was passed over: there a member has one writer, and its manifest covers every record.
 */
import { z } from 'zod';
import type { Clock } from '../core/clock.ts';
import type { KubeApi } from '../kube/api.ts';
import { deleteConfigMap, listConfigMaps, putConfigMap } from '../kube/config_maps.ts';
import type { Log } from '../ops/log.ts';
import type { GivenRoots, ReplicaReport } from '../trust/loaded.ts';

const prefix = 'isthmus-issued-';
const label = { label: 'isthmus.dev/report', value: 'issued' } as const;
const fingerprint = z.string().regex(/^([0-9a-f]{64})?$/);
const ms = z.number().int().min(0);
const at = z.number().int().min(0).max(100_000);

/** Roots are told once, and named by their place. */
const reportSchema = z.object({
  version: z.literal(1),
  atMs: ms,
  closed: z.boolean(),
  sets: z.array(z.object({ roots: z.array(fingerprint).max(1_024), issuer: fingerprint })).max(1_024),
  gives: at,
  /** Holder, pod, set, issued, until. */
  certificates: z.array(z.tuple([z.string().max(512), z.string().max(128), at, ms, ms])).max(50_000),
  /** Set, until. */
  earlier: z.array(z.tuple([at, ms])).max(1_024),
  /** Node, set, seen. */
  gateways: z.array(z.tuple([z.string().max(512), at, ms])).max(1_024),
});

export const reportText = (report: ReplicaReport): string => {
  const sets: GivenRoots[] = [];
  const known = new Map<string, number>();
  const setOf = ({ roots, issuer }: GivenRoots): number => {
    const key = `${issuer} ${roots.join()}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    known.set(key, sets.length);
    return sets.push({ roots, issuer }) - 1;
  };
  const told = {
    version: 1,
    atMs: report.atMs,
    closed: report.closed,
    gives: setOf(report.gives),
    certificates: report.certificates.map((c) => [c.holder, c.pod, setOf(c), c.issuedMs, c.untilMs]),
    earlier: report.earlier.map((e) => [setOf(e), e.untilMs]),
    gateways: report.gateways.map((g) => [g.node, setOf(g), g.seenMs]),
  };
  return JSON.stringify({ ...told, sets });
};

/** Undefined: not to be read; its replica then counts as one that does not report. */
export const parseReport = (replica: string, text: string): ReplicaReport | undefined => {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  const parsed = reportSchema.safeParse(json);
  if (!parsed.success) return undefined;
  const { atMs, closed, sets, gives, certificates, earlier, gateways } = parsed.data;
  const nothing: GivenRoots = { roots: [], issuer: '' };
  const set = (i: number): GivenRoots => sets[i] ?? nothing;
  return {
    ...{ replica, atMs, closed },
    gives: set(gives),
    certificates: certificates.map(([holder, pod, i, issuedMs, untilMs]) => ({
      ...{ holder, pod, issuedMs, untilMs },
      ...set(i),
    })),
    earlier: earlier.map(([i, untilMs]) => ({ ...set(i), untilMs })),
    gateways: gateways.map(([node, i, seenMs]) => ({ ...set(i), node, seenMs })),
  };
};

export interface ReplicaReportsOptions {
  readonly api: Pick<KubeApi, 'request'>;
  readonly namespace: string;
  readonly replica: string;
  readonly clock: Clock;
  readonly log: Log;
}

export class ReplicaReports {
  readonly #o: ReplicaReportsOptions;
  #all: readonly ReplicaReport[] = [];
  #busy: Promise<void> = Promise.resolve();
  #writtenAtMs = Number.NEGATIVE_INFINITY;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #read = false;
  #idle = true;

  constructor(options: ReplicaReportsOptions) {
    this.#o = options;
  }

  /** As last read, our own among them. */
  get all(): readonly ReplicaReport[] {
    return this.#all;
  }
  /** They have been read once. */
  get known(): boolean {
    return this.#read;
  }
  /** Nothing is under way. */
  get idle(): boolean {
    return this.#idle;
  }
  get sinceWrittenMs(): number {
    return this.#o.clock.monotonicMs() - this.#writtenAtMs;
  }
  get sinceReadMs(): number {
    return this.#o.clock.monotonicMs() - this.#readAtMs;
  }

  /** Never rejects: what was not written is written next time. */
  write(report: ReplicaReport): Promise<void> {
    const { api, namespace, replica, clock } = this.#o;
    this.#writtenAtMs = clock.monotonicMs();
    const labels = { [label.label]: label.value };
    const map = { name: prefix + replica, data: { report: reportText(report) } };
    return this.#run('issued certificates not reported', () => putConfigMap(api, namespace, map, labels));
  }

  read(): Promise<void> {
    const { api, namespace, clock, log } = this.#o;
    this.#readAtMs = clock.monotonicMs();
    return this.#run('reports of the other replicas not read', async () => {
      const maps = await listConfigMaps(api, namespace, label);
      this.#all = maps.flatMap(({ name, data }) => {
        const report = name.startsWith(prefix) ? parseReport(name.slice(prefix.length), data.report ?? '') : undefined;
        if (report === undefined) log('warn', 'a report of issued certificates cannot be read', { name });
        return report === undefined ? [] : [report];
      });
      this.#read = true;
    });
  }

  /** Of a replica that is gone, when nothing of it is in use. */
  remove(replica: string): Promise<void> {
    const { api, namespace } = this.#o;
    return this.#run('an old report is not removed', () => deleteConfigMap(api, namespace, prefix + replica));
  }

  #run(what: string, work: () => Promise<void>): Promise<void> {
    this.#idle = false;
    const done = this.#busy.then(work).catch((error: unknown) => {
      this.#o.log('warn', what, { error: error as Error });
    });
    this.#busy = done;
    void done.then(() => {
      if (this.#busy === done) this.#idle = true;
    });
    return done;
  }
}
