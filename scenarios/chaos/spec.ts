/**
 * What a scenario file says: set-up, load, what happens when, and what must be seen. One zod schema, so that a wrong file names the
 * field. Times are seconds after the control window, in which nothing happens and everything must be calm.
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';
import type { Fault, Place, Target } from '../lab/lab.ts';

const name = z.string().min(1).max(63);
const seconds = z.number().min(0).max(600);
const place: z.ZodType<Place> = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('cluster'), cluster: name }),
  z.strictObject({ kind: z.literal('pod'), cluster: name, namespace: name, name }),
  z.strictObject({ kind: z.literal('pods'), cluster: name, namespace: name, app: name }),
  z.strictObject({ kind: z.literal('apiserver'), cluster: name }),
  z.strictObject({ kind: z.literal('etcd'), cluster: name }),
]);
const target: z.ZodType<Target> = z.strictObject({
  place,
  process: name.optional(),
  index: z.number().int().min(0).optional(),
}) as z.ZodType<Target>;
const perMyriad = z.number().int().min(1).max(10_000);
const fault: z.ZodType<Fault> = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('kill'), target }),
  z.strictObject({ kind: z.literal('stop'), target }),
  z.strictObject({ kind: z.literal('partition'), from: place, to: place.optional(), oneWay: z.boolean().optional() }),
  z.strictObject({ kind: z.literal('refuse'), from: place, to: place.optional() }),
  z.strictObject({ kind: z.literal('loss'), from: place, to: place.optional(), perMyriad }),
  z.strictObject({
    kind: z.literal('delay'),
    between: z.tuple([place, place]),
    oneWayMs: z.number().min(0),
    lossPerMyriad: perMyriad.optional(),
  }),
  z.strictObject({
    kind: z.literal('pod-death'),
    cluster: name,
    namespace: name,
    name,
    noticedAfterMs: z.number().optional(),
    silent: z.boolean().optional(),
  }),
  z.strictObject({
    kind: z.literal('service-errors'),
    cluster: name,
    namespace: name,
    service: name,
    status: z.number().int(),
    share: z.number().optional(),
  }),
  z.strictObject({
    kind: z.literal('service-slow'),
    cluster: name,
    namespace: name,
    service: name,
    delayMs: z.number(),
    share: z.number().optional(),
  }),
  z.strictObject({
    kind: z.literal('unready'),
    cluster: name,
    namespace: name,
    service: name,
    share: z.number().optional(),
  }),
  z.strictObject({ kind: z.literal('clock-skew'), target, skewMs: z.number() }),
]) as z.ZodType<Fault>;

const workload = z.strictObject({
  cluster: name,
  namespace: name.default('shop'),
  name,
  replicas: z.number().int().min(0).max(50).default(1),
  kind: z.enum(['server', 'client']).optional(),
  exported: z.enum(['label', 'export']).optional(),
  annotations: z.record(z.string(), z.string()).optional(),
});

/** One thing that happens. */
const step = z.intersection(
  z.object({ at: seconds }),
  z.union([
    z.strictObject({ at: seconds, inject: fault, as: name }),
    z.strictObject({ at: seconds, lift: name }),
    /** The same fault in and out, `every` seconds, until `until`. */
    z.strictObject({ at: seconds, flap: fault, every: seconds, until: seconds }),
    z.strictObject({
      at: seconds,
      scale: z.strictObject({
        cluster: name,
        namespace: name.default('shop'),
        name,
        replicas: z.number().int().min(0),
      }),
    }),
    /** A rotation of the mesh's root; `refused`: it must be refused, for this reason. */
    z.strictObject({
      at: seconds,
      rotate: z.strictObject({ cluster: name, args: z.array(z.string()).min(1), refused: z.string().optional() }),
    }),
    z.strictObject({ at: seconds, isthmus: z.strictObject({ cluster: name, args: z.array(z.string()).min(1) }) }),
  ]),
);

const mode = z.enum(['gateway', 'direct']);
const share = z.record(name, z.number().min(0).max(100));
/** What must be seen. Each is one line of the report. */
const expectation = z.union([
  /** The error budget of new connections that began in a span. */
  z.strictObject({
    calls: z.strictObject({
      mode: mode.default('gateway'),
      from: seconds,
      until: seconds,
      failedMax: z.number().int().min(0).optional(),
      failedPercentMax: z.number().min(0).max(100).optional(),
      stallMaxMs: z.number().optional(),
      lastFailureMaxS: z.number().optional(),
    }),
  }),
  /** Shares of answers by cluster in a span, percent; each at least or at most. */
  z.strictObject({
    answered: z.strictObject({
      mode: mode.default('gateway'),
      from: seconds,
      until: seconds,
      atLeast: share.optional(),
      atMost: share.optional(),
    }),
  }),
  /** A peer's state at a cluster's controller, reached in a span and, if `for`, kept until its end. */
  z.strictObject({
    state: z.strictObject({
      cluster: name,
      peer: name,
      is: z.array(z.enum(['fresh', 'suspect', 'quarantined', 'evicted'])).min(1),
      from: seconds,
      until: seconds,
      always: z.boolean().default(false),
    }),
  }),
  /** Entries of a cluster's journal between two times. */
  z.strictObject({
    journal: z.strictObject({
      cluster: name,
      kind: z.string().optional(),
      rule: z.string().optional(),
      service: z.string().optional(),
      member: z.string().optional(),
      from: seconds,
      until: seconds,
      atLeast: z.number().int().min(0).default(1),
      atMost: z.number().int().min(0).optional(),
    }),
  }),
  /** The journal's chain is whole at the end. */
  z.strictObject({ journalVerifies: z.strictObject({ cluster: name }) }),
  /** The longest time from `from` until every new call is answered by these clusters alone. */
  z.strictObject({
    shifted: z.strictObject({
      mode: mode.default('gateway'),
      from: seconds,
      to: z.array(name).min(1),
      withinS: z.number(),
      until: seconds,
    }),
  }),
]);

export const scenarioSchema = z.strictObject({
  title: z.string().min(1),
  /** Why it exists and what is to be learnt from it; shown in the report. */
  about: z.string().min(1),
  setup: z.strictObject({
    workloads: z.array(workload).min(1),
    /** `gateway` calls `<service>`, `direct` calls `<service>-direct`, deployed alike. */
    modes: z.array(mode).min(1).default(['gateway']),
    /** FailoverPolicy objects by cluster: the spec. */
    policies: z
      .array(
        z.strictObject({
          cluster: name,
          namespace: name.default('shop'),
          name,
          spec: z.record(z.string(), z.unknown()),
        }),
      )
      .default([]),
    service: name.default('checkout'),
    storeLeader: name.default('us-west'),
    /** A lab of its own, in which certificates live so long, seconds. */
    certificateTtlS: z.number().int().min(60).max(86_400).optional(),
  }),
  load: z.strictObject({
    from: name,
    client: name.default('client'),
    perSecond: z.number().positive().max(500),
    keep: z.number().int().min(0).max(100).default(0),
    timeoutMs: z.number().default(10_000),
  }),
  control: z.strictObject({ forS: seconds.default(2), answeredBy: name.optional() }).default({ forS: 2 }),
  steps: z.array(step).min(1),
  until: seconds,
  expect: z.array(expectation).min(1),
});

export type Scenario = z.infer<typeof scenarioSchema> & { readonly name: string };
export type Expectation = z.infer<typeof expectation>;
export type ScenarioStep = z.infer<typeof step>;
export type Mode = z.infer<typeof mode>;

/** Reads a scenario file. Throws an Error that names the file and each field that is wrong. */
export const readScenario = (path: string): Scenario => {
  const found = scenarioSchema.safeParse(parse(readFileSync(path, 'utf8')));
  const file = basename(path);
  if (!found.success) {
    const lines = found.error.issues.map((issue) => `  ${issue.path.join('.') || '(top)'}: ${issue.message}`);
    throw new Error(`${file} is not a scenario:\n${lines.join('\n')}`);
  }
  const problem = inconsistent(found.data);
  if (problem !== undefined) throw new Error(`${file}: ${problem}`);
  return { ...found.data, name: file.replace(/\.scenario\.yaml$/, '') };
};

/** What a schema cannot say. */
const inconsistent = ({ steps, until, setup, load }: z.infer<typeof scenarioSchema>): string | undefined => {
  const names = new Set(steps.flatMap((s) => ('as' in s ? [s.as] : [])));
  for (const s of steps) {
    if (s.at > until) return `steps: something happens at ${s.at} s, after the end at ${until} s`;
    if ('lift' in s && !names.has(s.lift)) return `steps: lift "${s.lift}", but no step injects a fault as "${s.lift}"`;
  }
  if (!setup.workloads.some((w) => w.cluster === load.from && w.name === load.client))
    return `load.client: no workload "${load.client}" in ${load.from}`;
  return undefined;
};
