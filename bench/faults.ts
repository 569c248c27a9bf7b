/**
 * Figure 4: new connections that failed, and the longest that one took, in each fault, in gateway mode and in direct mode at the same
 * time under the same load; without and with a round trip between the clusters; and a long lossy line with no fault at all.
 *
 * One lab serves all runs. Before each fault callers must have been calm for a while (the control window), and during it the
 * callers' own timers must have been on time: else the run measured the machine, is invalid, and is tried again. How often that
 * happened is a figure too. `ISTHMUS_BENCH_RUNS` (default 5) runs of every fault; the worst counts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { InvalidRun, invalidBecause } from '../scenarios/lab/control-window.ts';
import type { FaultHandle, Lab, Load } from '../scenarios/lab/lab.ts';
import { threeClusters } from '../scenarios/lab/lab.ts';
import { openLab } from '../scenarios/lab/open.ts';
import { type CallRecord, type Outcome, outcome, type Span } from '../scenarios/lab/outcome.ts';
import { type FaultCase, failback, faultList, first, home, namespace, second } from './fault_list.ts';
import { figuresOf, type Mode, modes, type Sample, statsSum } from './fault_tally.ts';
import { atMost, type Figure, figureTable, shown } from './report.ts';

const runs = Math.max(1, Number(process.env['ISTHMUS_BENCH_RUNS'] ?? 5));
/** Names of faults to try, by a part of them; all if absent. For development. */
const only = process.env['ISTHMUS_BENCH_FAULTS'];
/**
 * New connections a second in gateway mode: the first of these that callers bear calmly here. A double tunnel costs our stand-in for
 * ztunnel some 6 ms of processor; with a real one (`ISTHMUS_ZTUNNEL`) it is a third of that. The rate is reported.
 */
const rates = [100, 50, 25] as const;
/** Direct mode is there to compare with; with the stand-in a quarter of the calls has to do for that. */
const directShare = process.env['ISTHMUS_ZTUNNEL'] ? 1 : 0.25;
const keep = 10;
const timeoutMs = 10_000;
const addedRoundTripMs = 80;
const lossPerMyriad = 50;
const lossyMs = 30_000;

const control = {
  windowMs: 1_500,
  stallMaxMs: 250,
  lagMaxMs: 150,
  withinMs: 30_000,
  pollMs: 250,
  attempts: 4,
} as const;
/** Calls that started so shortly before a look may not have ended yet. */
const endsWithinMs = 300;

const services: Readonly<Record<Mode, string>> = { gateway: 'checkout', direct: 'checkout-direct' };
const clients: Readonly<Record<Mode, string>> = { gateway: 'client', direct: 'client-direct' };
type Loads = Readonly<Record<Mode, Load>>;

const say = (line: string): void => {
  process.stderr.write(`   ${line}\n`);
};

interface Stage {
  readonly lab: Lab;
  /** New connections a second in gateway mode. */
  readonly rate: number;
  readonly addedMs: number;
  readonly samples: Sample[];
  invalid: number;
}

interface Struck {
  readonly fault: FaultCase;
  readonly span: Span;
  /** How late the callers' timers were meanwhile. */
  readonly lagMs: number;
}

const deploy = async (lab: Lab): Promise<void> => {
  const server = (cluster: string, mode: Mode, replicas: number) =>
    lab.cluster(cluster).deploy({
      namespace,
      name: services[mode],
      serviceAccount: 'checkout',
      replicas,
      exported: 'export',
      ...(mode === 'direct' ? { annotations: { 'isthmus.dev/mode': 'direct' } } : {}),
    });
  for (const mode of modes) {
    await Promise.all([server(home, mode, 0), server(first, mode, 1), server(second, mode, 1)]);
    await lab.cluster(home).deploy({ namespace, name: clients[mode], replicas: 1, kind: 'client' });
  }
  await lab.cluster(home).api('POST', `/apis/isthmus.dev/v1alpha1/namespaces/${namespace}/failoverpolicies`, {
    apiVersion: 'isthmus.dev/v1alpha1',
    kind: 'FailoverPolicy',
    metadata: { name: 'again', namespace },
    spec: failback,
  });
};

const startLoads = async (lab: Lab, rate: number): Promise<Loads> => {
  const start = (mode: Mode): Promise<Load> =>
    lab.cluster(home).load({
      namespace,
      client: clients[mode],
      service: `${namespace}/${services[mode]}`,
      perSecond: mode === 'direct' ? Math.ceil(rate * directShare) : rate,
      keep,
      timeoutMs,
    });
  return { gateway: await start('gateway'), direct: await start('direct') };
};

/**
 * Waits until the last moments were calm in both modes, and for a fault at the far side answered there alone: the control window, as
 * late as it can be. Throws InvalidRun when that does not come.
 */
const untilCalm = async ({ lab, addedMs }: Stage, loads: Loads, answeredBy: string | undefined): Promise<void> => {
  const began = lab.now();
  const lags: number[] = [];
  // Five round trips make a new connection.
  const stallMaxMs = control.stallMaxMs + 5 * addedMs;
  const settleMs = endsWithinMs + 5 * addedMs;
  for (const mode of modes) await loads[mode].lagMs();
  for (;;) {
    await sleep(control.pollMs);
    lags.push(Math.max(await loads.gateway.lagMs(), await loads.direct.lagMs()));
    const until = lab.now() - settleMs;
    const from = until - control.windowMs;
    if (from < began) continue;
    const lagMs = Math.max(...lags.slice(-Math.ceil((control.windowMs + settleMs) / control.pollMs)));
    const reasons = await Promise.all(
      modes.map(async (mode) => {
        // New ones alone: what is open stays where it is.
        const reason = invalidBecause(outcome(await loads[mode].calls(), { from, until }, 'new'), lagMs, {
          forMs: control.windowMs,
          callsMin: Math.floor((loads[mode].spec.perSecond * control.windowMs) / 2_000),
          stallMaxMs,
          lagMaxMs: control.lagMaxMs,
          // Direct mode has no order among the other regions: both serve.
          ...(answeredBy === undefined || mode === 'direct' ? {} : { answeredBy }),
        });
        return reason === undefined ? [] : [`${mode}: ${reason}`];
      }),
    );
    if (reasons.flat().length === 0) return;
    if (lab.now() > began + control.withinMs) throw new InvalidRun(reasons.flat().join('; '));
  }
};

/** One fault, once. Throws InvalidRun when the machine got in the way. */
const strike = async (stage: Stage, fault: FaultCase, loads: Loads): Promise<Struck> => {
  const { lab } = stage;
  await untilCalm(stage, loads, fault.side === 'far' ? first : undefined);
  for (const mode of modes) await loads[mode].lagMs();
  const from = lab.now();
  const lift = await fault.strike(lab);
  try {
    await sleep(Math.max(0, from + fault.forMs - lab.now()));
    const until = lab.now();
    const lagMs = Math.max(...(await Promise.all(modes.map((mode) => loads[mode].lagMs()))));
    if (lagMs > control.lagMaxMs)
      throw new InvalidRun(`the callers' own timers were ${Math.round(lagMs)} ms late during the fault`);
    return { fault, span: { from, until }, lagMs };
  } finally {
    await lift();
  }
};

const sampleOf = (stage: Stage, fault: string, mode: Mode, calls: readonly CallRecord[], span: Span): Sample => {
  const fresh = outcome(calls, span, 'new');
  return {
    fault,
    mode,
    addedMs: stage.addedMs,
    sent: fresh.sent,
    failed: fresh.failed,
    stallMs: fresh.longestStallMs,
    keptFailed: outcome(calls, span, 'keep').failed,
  };
};

/**
 * Every fault once. What callers saw is read at the end, so that a call that hangs is counted where it started.
 *
 * @returns false when it was given up: callers did not become calm again after a fault, so the rate is too high for this machine
 */
const runAll = async (stage: Stage, cases: readonly FaultCase[]): Promise<boolean> => {
  const loads = await startLoads(stage.lab, stage.rate);
  const struck: Struck[] = [];
  try {
    for (const fault of cases) {
      const measured = struck.length;
      const began = stage.lab.now();
      for (let attempt = 1; attempt <= control.attempts; attempt++) {
        try {
          struck.push(await strike(stage, fault, loads));
          say(`${fault.name}: done, ${Math.round(stage.lab.now() - began)} ms`);
          break;
        } catch (error) {
          if (!(error instanceof InvalidRun)) throw error;
          stage.invalid++;
          say(`invalid run of "${fault.name}" (${attempt} of ${control.attempts}): ${error.message}`);
        }
      }
      if (struck.length === measured && stage.rate > rates.at(-1)!) return false;
    }
    return true;
  } finally {
    const calls = { gateway: await loads.gateway.stop(), direct: await loads.direct.stop() };
    for (const { fault, span, lagMs } of struck) {
      const seen = modes.map((mode) => sampleOf(stage, fault.name, mode, calls[mode], span));
      stage.samples.push(...seen);
      const line = seen.map(
        (s) => `${s.mode} ${s.failed} of ${s.sent} failed, ${Math.round(s.stallMs)} ms, kept ${s.keptFailed}`,
      );
      say(
        `${fault.name}${stage.addedMs === 0 ? '' : `, +${stage.addedMs} ms`}: ${line.join('; ')} (lag ${Math.round(lagMs)} ms)`,
      );
      const { errors } = outcome(calls.gateway, span, 'new');
      if (Object.keys(errors).length > 0) say(`   gateway errors: ${JSON.stringify(errors)}`);
    }
  }
};

/** The rate that callers bear calmly at this distance with nothing wrong. Throws InvalidRun when this machine bears none. */
const bearableRate = async (lab: Lab, addedMs: number, below = Number.POSITIVE_INFINITY): Promise<number> => {
  for (const rate of rates.filter((rate) => rate < below)) {
    const loads = await startLoads(lab, rate);
    try {
      await untilCalm({ lab, rate, addedMs, samples: [], invalid: 0 }, loads, first);
      say(`${rate} new connections a second in gateway mode, ${Math.ceil(rate * directShare)} in direct mode`);
      return rate;
    } catch (error) {
      if (!(error instanceof InvalidRun)) throw error;
      say(`${rate} new connections a second are too many for this machine now: ${error.message}`);
    } finally {
      await Promise.all(modes.map((mode) => loads[mode].stop()));
    }
  }
  throw new InvalidRun('callers are not calm at any rate: the machine is too busy to measure anything');
};

/** Puts every pair of clusters this far apart. */
const distance = async (lab: Lab, roundTripMs: number, lost: number): Promise<FaultHandle[]> => {
  const pairs = lab.clusters.flatMap((a, i) => lab.clusters.slice(i + 1).map((b) => [a.name, b.name] as const));
  const place = (cluster: string) => ({ kind: 'cluster', cluster }) as const;
  return await Promise.all(
    pairs.map(([a, b]) =>
      lab.inject({
        kind: 'delay',
        between: [place(a), place(b)],
        oneWayMs: roundTripMs / 2,
        ...(lost === 0 ? {} : { lossPerMyriad: lost }),
      }),
    ),
  );
};

const liftAll = async (faults: readonly FaultHandle[]): Promise<void> => {
  await Promise.all(faults.map((fault) => fault.lift()));
};

/** How often gateways of the caller's and the answering cluster ejected somebody so far. */
const ejections = async (lab: Lab): Promise<number> => {
  const counts = await Promise.all(
    [home, first].flatMap((name) => {
      const cluster = lab.cluster(name);
      const pods = cluster.pods('isthmus-system').filter((pod) => pod.name.startsWith('isthmus-gateway'));
      return pods.flatMap((pod) =>
        [0, 1].map(async (index) =>
          statsSum(await cluster.envoy(pod.name, index, '/stats?filter=outlier_detection'), 'ejections_enforced_total'),
        ),
      );
    }),
  );
  return counts.reduce((a, b) => a + b, 0);
};

interface Lossy {
  readonly fresh: Outcome;
  readonly keptFailed: number;
  readonly ejected: number;
  readonly lagMs: number;
}

const lossyRun = async (lab: Lab, rate: number): Promise<Lossy> => {
  const load = await lab.cluster(home).load({
    namespace,
    client: clients.gateway,
    service: `${namespace}/${services.gateway}`,
    perSecond: rate,
    keep,
    timeoutMs,
  });
  // What opened before the line was as it is now is none of this.
  await sleep(5_000);
  const before = await ejections(lab);
  await load.lagMs();
  const from = lab.now();
  await sleep(lossyMs);
  const until = lab.now();
  const lagMs = await load.lagMs();
  const ejected = (await ejections(lab)) - before;
  const calls = await load.stop();
  const span = { from, until };
  return { fresh: outcome(calls, span, 'new'), keptFailed: outcome(calls, span, 'keep').failed, ejected, lagMs };
};

/** No fault, a long lossy line: nothing may break, nobody be ejected. */
const quietButLossy = async (stage: Stage): Promise<Figure[]> => {
  const name = (what: string): string => `no fault, +${stage.addedMs} ms, ${lossPerMyriad / 100} % loss: ${what}`;
  for (let attempt = 1; ; attempt++) {
    const { fresh, keptFailed, ejected, lagMs } = await lossyRun(stage.lab, stage.rate);
    say(`lossy: ${JSON.stringify({ ...fresh, keptFailed, ejected, lagMs })}`);
    if (lagMs > control.lagMaxMs && attempt < control.attempts) {
      stage.invalid++;
      continue;
    }
    const elsewhere = fresh.sent - fresh.failed - (fresh.answeredBy[first] ?? 0);
    return [
      atMost(name('failed'), fresh.failed, 'calls', 0),
      atMost(name('failed on kept connections'), keptFailed, 'calls', 0),
      atMost(name('ejections'), ejected, 'hosts', 0),
      shown(name('tried'), fresh.sent, 'calls'),
      shown(name('answered by the second cluster'), elsewhere, 'calls'),
      shown(name('p50'), Math.round(fresh.p50Ms), 'ms'),
      shown(name('longest stall'), Math.round(fresh.longestStallMs), 'ms'),
    ];
  }
};

/** Waits until the caller's controllers know the distance to the others, and have given gateways timers to suit it. */
const untilMeasured = async (lab: Lab): Promise<void> => {
  await sleep(15_000);
  const { stdout, stderr } = await lab.cluster(home).isthmus(['status']);
  say(`status with the distance known:\n${stdout || stderr}`);
};

/** All runs of all faults at one distance; undefined when callers were calm at no rate, which is no reason to lose the rest. */
const distanceFigures = async (lab: Lab, addedMs: number, cases: readonly FaultCase[]): Promise<Stage | undefined> => {
  try {
    let invalid = 0;
    let stage: Stage = { lab, addedMs, rate: await bearableRate(lab, addedMs), samples: [], invalid: 0 };
    for (let i = 0; i < runs; i++) {
      say(`-- run ${i + 1} of ${runs}, ${addedMs} ms added`);
      if (await runAll(stage, cases)) continue;
      // All runs of one distance are at one rate: begin again with a lower one.
      invalid += stage.invalid;
      say(`callers were not calm again at ${stage.rate} a second: all runs at this distance begin anew, with less`);
      stage = { lab, addedMs, rate: await bearableRate(lab, addedMs, stage.rate), samples: [], invalid: 0 };
      i = -1;
    }
    stage.invalid += invalid;
    return stage;
  } catch (error) {
    if (!(error instanceof InvalidRun)) throw error;
    say(`with ${addedMs} ms added nothing could be measured: ${error.message}`);
    return undefined;
  }
};

export const run = async (): Promise<Figure[]> => {
  const cases = faultList.filter(
    ({ name }) => only === undefined || only.split(',').some((part) => name.includes(part)),
  );
  const lab = await openLab({ clusters: threeClusters, storeLeader: first, controllers: 1, report: say });
  const figures: Figure[] = [];
  let invalid = 0;
  try {
    await deploy(lab);
    for (const addedMs of [0, addedRoundTripMs]) {
      const far = addedMs === 0 ? [] : await distance(lab, addedMs, 0);
      if (addedMs > 0) await untilMeasured(lab);
      const stage = await distanceFigures(lab, addedMs, cases);
      invalid += stage?.invalid ?? 0;
      await liftAll(far);
      const where = addedMs === 0 ? '' : `, +${addedMs} ms`;
      figures.push(shown(`faults${where}: new connections in gateway mode`, stage?.rate ?? Number.NaN, 'a second'));
      for (const mode of modes)
        for (const { name, aim } of cases) figures.push(...figuresOf(name, aim, mode, addedMs, stage?.samples ?? []));
    }
    const lossy: Stage = { lab, addedMs: addedRoundTripMs, rate: rates[0], samples: [], invalid: 0 };
    const far = await distance(lab, lossy.addedMs, lossPerMyriad);
    figures.push(...(await quietButLossy(lossy)));
    await liftAll(far);
    return [
      ...figures,
      shown('faults: runs of each', runs, 'runs'),
      shown('faults: invalid runs, tried again', invalid + lossy.invalid, 'runs'),
    ];
  } finally {
    await lab.down();
  }
};

if (import.meta.main) {
  const figures = await run();
  process.stdout.write(`${figureTable(figures)}\n`);
  process.exit(0);
}
