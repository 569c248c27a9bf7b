/**
 * Runs one scenario on a lab: set-up, control window, what happens when, what was seen. It draws no conclusions (expectations.ts
 * does), and does not know which backend the lab has.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { controlLagMs, controlStallMs, controlWindow } from '../lab/control-window.ts';
import type { FaultHandle, Lab, Load, WorkloadSpec } from '../lab/lab.ts';
import { outcome } from '../lab/outcome.ts';
import type { Patience } from './expectations.ts';
import { type Delay, type Done, type JournalLine, momentOf, type Observed, type StateSample } from './observed.ts';
import type { Mode, Scenario, ScenarioStep } from './spec.ts';

const system = 'isthmus-system';
const metricsPort = 15_020;
const sampleMs = 500;
/** Our stand-in for ztunnel takes some 6 ms of processor for a double tunnel, and more without a gateway's pool: two cores bear less. */
const bearable: Readonly<Record<Mode, number>> = process.env['ISTHMUS_ZTUNNEL']
  ? { gateway: 1, direct: 1 }
  : { gateway: 0.4, direct: 0.15 };
const settleMs = 60_000;
/** What is withdrawn waits for its canary elsewhere. */
const forgottenMs = 4_000;
const journalMax = 1_000;
/** What a command of the CLI may take, seconds; on a busy machine it takes more, and what follows has to wait for it. */
const commandS = 2;

const directly = { 'isthmus.dev/mode': 'direct' };
const serviceOf = (scenario: Scenario, mode: Mode): string =>
  mode === 'gateway' ? scenario.setup.service : `${scenario.setup.service}-direct`;

const policyPath = (namespace: string): string => `/apis/isthmus.dev/v1alpha1/namespaces/${namespace}/failoverpolicies`;

/** Both modes meet the same: each server is deployed once for each mode. */
const workloadsOf = (scenario: Scenario): { cluster: string; spec: WorkloadSpec }[] =>
  scenario.setup.workloads.flatMap(({ cluster, ...w }) => {
    const base: WorkloadSpec = {
      namespace: w.namespace,
      name: w.name,
      replicas: w.replicas,
      ...(w.kind === undefined ? {} : { kind: w.kind }),
      ...(w.exported === undefined ? {} : { exported: w.exported }),
      ...(w.annotations === undefined ? {} : { annotations: w.annotations }),
    };
    if (w.kind === 'client' || w.name !== scenario.setup.service) return [{ cluster, spec: base }];
    return scenario.setup.modes.map((mode) => ({
      cluster,
      spec: {
        ...base,
        name: serviceOf(scenario, mode),
        serviceAccount: w.name,
        annotations: { ...w.annotations, ...(mode === 'direct' ? directly : {}) },
      },
    }));
  });

const setUp = async (lab: Lab, scenario: Scenario): Promise<void> => {
  const all = workloadsOf(scenario);
  const deploy = (clients: boolean) =>
    Promise.all(
      all
        .filter(({ spec }) => (spec.kind === 'client') === clients)
        .map(({ cluster, spec }) => lab.cluster(cluster).deploy(spec)),
    );
  // Clients make the namespace; policies stand before there is anything to decide.
  await deploy(true);
  for (const { cluster, namespace, name, spec } of scenario.setup.policies) {
    await lab.cluster(cluster).api('POST', policyPath(namespace), {
      apiVersion: 'isthmus.dev/v1alpha1',
      kind: 'FailoverPolicy',
      metadata: { name, namespace },
      spec,
    });
  }
  await deploy(false);
};

/** A set-up that failed half-way has not made everything, and its own error is the one to show. */
const attempt = async (lab: Lab, undo: Promise<unknown>): Promise<void> => {
  await undo.catch((error: Error) => lab.note(`not undone: ${error.message}`));
};

/** Leaves the lab as the next scenario wants it: no workload serves, no policy stands, everything is lifted. */
const tearDown = async (lab: Lab, scenario: Scenario, faults: ReadonlyMap<string, FaultHandle>): Promise<void> => {
  for (const fault of faults.values()) await fault.lift();
  for (const { cluster, namespace, name } of scenario.setup.policies) {
    await attempt(lab, lab.cluster(cluster).api('DELETE', `${policyPath(namespace)}/${name}`));
  }
  await Promise.all(
    workloadsOf(scenario).map(({ cluster, spec }) =>
      attempt(lab, lab.cluster(cluster).scale(spec.namespace, spec.name, 0)),
    ),
  );
  // Without its Service nothing of this scenario is remembered: no hold-down, no ramp reaches into the next.
  for (const { cluster, spec } of workloadsOf(scenario).filter(({ spec }) => spec.kind !== 'client')) {
    const at = `namespaces/${spec.namespace}`;
    const api = (method: string, path: string) => lab.cluster(cluster).api(method, path);
    if (spec.exported === 'export')
      await attempt(lab, api('DELETE', `/apis/multicluster.x-k8s.io/v1alpha1/${at}/serviceexports/${spec.name}`));
    await attempt(lab, api('DELETE', `/api/v1/${at}/services/${spec.name}`));
  }
  await sleep(forgottenMs);
};

/** Every call ok and, if asked, answered by one cluster: the moment from which the control window may begin. */
const untilCalm = async (lab: Lab, loads: readonly Load[], answeredBy: string | undefined): Promise<void> => {
  const deadline = lab.now() + settleMs;
  for (;;) {
    const from = lab.now();
    await sleep(1_000);
    const seen = await Promise.all(
      loads.map(async (load) => outcome(await load.calls(), { from, until: lab.now() - 150 }, 'new')),
    );
    const calm = seen.every(
      (o) =>
        o.sent > 0 &&
        o.failed === 0 &&
        (answeredBy === undefined || Object.keys(o.answeredBy).every((c) => c === answeredBy)),
    );
    if (calm || lab.now() > deadline) return;
  }
};

const parseStates = (text: string): Map<string, string> => {
  const found = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^isthmus_peer_state\{(.*)\} 1$/.exec(line);
    if (match === null) continue;
    const labels = new Map([...match[1]!.matchAll(/(\w+)="([^"]*)"/g)].map((m) => [m[1]!, m[2]!]));
    found.set(labels.get('peer') ?? '', labels.get('state') ?? '');
  }
  return found;
};

/** The states that each cluster's writing controller gives its peers, twice a second, from its metrics. */
const sampleStates = (lab: Lab, zero: number, samples: StateSample[]): (() => Promise<void>) => {
  let ended = false;
  const one = async (cluster: Lab['clusters'][number]): Promise<void> => {
    const at = (lab.now() - zero) / 1000;
    for (const pod of cluster.pods(system).filter(({ name }) => name.startsWith('isthmus-controller'))) {
      try {
        const { status, body } = await cluster.http(system, pod.name, metricsPort, '/metrics');
        if (status !== 200 || !/^isthmus_writer(\{[^}]*\})? 1$/m.test(body)) continue;
        for (const [peer, state] of parseStates(body)) samples.push({ at, cluster: cluster.name, peer, state });
        return;
      } catch {
        // It is dead: that is part of some scenarios.
      }
    }
  };
  const running = (async () => {
    while (!ended) {
      const began = lab.now();
      await Promise.all(lab.clusters.map(one));
      await sleep(Math.max(50, sampleMs - (lab.now() - began)));
    }
  })();
  return async () => {
    ended = true;
    await running;
  };
};

/** The parts of `isthmus journal list -o json` that are looked at: a list for each replica. */
interface ListedJournals {
  readonly items: readonly {
    readonly entries: readonly { readonly kind: string; readonly at: string; readonly body: Record<string, unknown> }[];
  }[];
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

const readJournal = async (
  lab: Lab,
  cluster: string,
): Promise<{ entries: JournalLine[]; verified: string | undefined } | undefined> => {
  const listed = await lab.cluster(cluster).isthmus(['journal', 'list', '--limit', String(journalMax), '-o', 'json']);
  if (listed.code !== 0) {
    lab.note(`the journal of ${cluster} cannot be read: ${listed.stderr.trim()}`);
    return undefined;
  }
  const { items } = JSON.parse(listed.stdout) as ListedJournals;
  const entries = items
    .flatMap(({ entries }) => entries)
    .filter(({ kind }) => kind === 'decision')
    .map(({ at, body }) => ({
      wallMs: Date.parse(at),
      kind: text(body['kind']) ?? '',
      rule: text(body['rule']) ?? '',
      service: text(body['service']),
      member: text(body['member']),
      detail: text(body['detail']) ?? '',
    }))
    .sort((a, b) => a.wallMs - b.wallMs);
  const verified = await lab.cluster(cluster).isthmus(['journal', 'verify']);
  return { entries, verified: verified.code === 0 ? undefined : (verified.stdout || verified.stderr).trim() };
};

interface Stage {
  readonly lab: Lab;
  readonly faults: Map<string, FaultHandle>;
  readonly done: Done[];
  readonly delays: Delay[];
  readonly zero: number;
}

const wait = async ({ lab, zero, delays }: Stage, at: number): Promise<void> => {
  await sleep(Math.max(0, zero + momentOf(delays, at) * 1000 - lab.now()));
};

const happen = async (stage: Stage, step: ScenarioStep): Promise<void> => {
  const { lab, faults } = stage;
  const note = (what: string): void => {
    stage.done.push({ at: (lab.now() - stage.zero) / 1000, what });
  };
  if ('inject' in step) {
    faults.set(step.as, await lab.inject(step.inject));
    note(lab.timeline.at(-1)?.what ?? step.as);
  } else if ('lift' in step) {
    await faults.get(step.lift)?.lift();
    faults.delete(step.lift);
    note(`lifted: ${step.lift}`);
  } else if ('flap' in step) {
    for (let at = step.at; at < step.until; at += 2 * step.every) {
      await wait(stage, at);
      const fault = await lab.inject(step.flap);
      faults.set('flap', fault);
      note(`out: ${lab.timeline.at(-1)?.what ?? ''}`);
      await wait(stage, at + step.every);
      await fault.lift();
      faults.delete('flap');
      note('back');
    }
  } else if ('scale' in step) {
    const { cluster, namespace, name, replicas } = step.scale;
    await lab.cluster(cluster).scale(namespace, name, replicas);
    note(`${cluster}/${namespace}/${name} has ${replicas} pods`);
  } else if ('rotate' in step) {
    const { cluster, args, refused } = step.rotate;
    const { code, stdout, stderr } = await lab.rotateTrust(cluster, args);
    note(`${cluster}: isthmus trust rotate ${args.join(' ')}${code === 0 ? '' : ` (exit ${code})`}`);
    const said = stderr || stdout;
    const asExpected = refused === undefined ? code === 0 : code !== 0 && said.includes(refused);
    if (!asExpected)
      throw new Error(`isthmus trust rotate ${args.join(' ')} at ${cluster} ended with ${code}: ${said}`);
  } else {
    const { cluster, args } = step.isthmus;
    const began = lab.now();
    const { code, stdout, stderr } = await lab.cluster(cluster).isthmus(args);
    note(`${cluster}: isthmus ${args.join(' ')}${code === 0 ? '' : ` (exit ${code})`}`);
    const byS = (lab.now() - began) / 1000 - commandS;
    if (byS > 0) stage.delays.push({ at: step.at, byS });
    if (code !== 0) throw new Error(`isthmus ${args.join(' ')} at ${cluster} ended with ${code}: ${stderr || stdout}`);
  }
};

/** Runs it once. Throws InvalidRun when the control window was not calm: the machine was measured, not the fault. */
export const runScenario = async (lab: Lab, scenario: Scenario, patience: Patience): Promise<Observed> => {
  const faults = new Map<string, FaultHandle>();
  const loads = new Map<Mode, Load>();
  try {
    await setUp(lab, scenario);
    const { load, control } = scenario;
    for (const mode of scenario.setup.modes) {
      loads.set(
        mode,
        await lab.cluster(load.from).load({
          namespace: 'shop',
          client: load.client,
          service: `shop/${serviceOf(scenario, mode)}`,
          perSecond: Math.max(2, Math.round(load.perSecond * bearable[mode])),
          keep: load.keep,
          timeoutMs: load.timeoutMs,
        }),
      );
    }
    const all = [...loads.values()];
    await untilCalm(lab, all, control.answeredBy);
    const limits = {
      forMs: control.forS * 1000,
      stallMaxMs: controlStallMs * patience,
      lagMaxMs: controlLagMs * patience,
      ...(control.answeredBy === undefined ? {} : { answeredBy: control.answeredBy }),
    };
    await Promise.all(all.map((one) => controlWindow(lab, one, limits)));
    const stage: Stage = { lab, faults, done: [], delays: [], zero: lab.now() };
    const states: StateSample[] = [];
    const stopSampling = sampleStates(lab, stage.zero, states);
    try {
      // Flaps take their time while other steps go on.
      const aside: Promise<void>[] = [];
      for (const step of scenario.steps.toSorted((a, b) => a.at - b.at)) {
        await wait(stage, step.at);
        if ('flap' in step) aside.push(happen(stage, step));
        else await happen(stage, step);
      }
      await Promise.all(aside);
      await wait(stage, scenario.until);
    } finally {
      await stopSampling();
    }
    for (const fault of faults.values()) await fault.lift();
    faults.clear();
    const lagMs = Math.max(...(await Promise.all(all.map((one) => one.lagMs()))));
    const calls = new Map(await Promise.all([...loads].map(async ([mode, one]) => [mode, await one.stop()] as const)));
    loads.clear();
    const journals = new Map<string, { entries: JournalLine[]; verified: string | undefined }>();
    for (const { name } of lab.clusters) {
      const journal = await readJournal(lab, name);
      if (journal !== undefined) journals.set(name, journal);
    }
    const { zero, delays } = stage;
    const untilS = momentOf(delays, scenario.until);
    return { zero, delays, untilS, calls, states, journals, done: stage.done, lagMs };
  } finally {
    await Promise.all([...loads.values()].map((one) => one.stop()));
    await tearDown(lab, scenario, faults);
  }
};
