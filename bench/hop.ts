/**
 * Figure 5: what the egress hop adds to a call, against direct mode, in which the ztunnel goes to the remote gateway itself. Both are
 * called by one client in the same seconds, so that what else the machine does falls on both; the median says what is usual.
 *
 * The difference is taken per block of a few seconds, and the median of the blocks reported: one slow moment moves one block.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Lab, Load } from '../scenarios/lab/lab.ts';
import { threeClusters } from '../scenarios/lab/lab.ts';
import { openLab } from '../scenarios/lab/open.ts';
import { type CallRecord, outcome } from '../scenarios/lab/outcome.ts';
import { type Mode, modes } from './fault_tally.ts';
import { atMost, type Figure, figureTable, percentile, shown } from './report.ts';

const namespace = 'shop';
const home = 'us-east';
const far = 'us-west';
const services: Readonly<Record<Mode, string>> = { gateway: 'checkout', direct: 'checkout-direct' };
/** Not the same beat: else one mode's calls would always come right after the other's, and wait for them. */
const perSecond: Readonly<Record<Mode, number>> = { gateway: 20, direct: 21 };
const everyMs: Readonly<Record<Mode, number>> = { gateway: 80, direct: 83 };
const keep = 4;
const warmUpMs = 5_000;
const blockMs = 3_000;
const blocks = 10;
const aimsMs = { new: 0.8, keep: 0.14 } as const;

const deploy = async (lab: Lab): Promise<void> => {
  for (const mode of modes) {
    await Promise.all(
      [home, far].map((cluster) =>
        lab.cluster(cluster).deploy({
          namespace,
          name: services[mode],
          serviceAccount: 'checkout',
          replicas: cluster === home ? 0 : 1,
          exported: 'export',
          ...(mode === 'direct' ? { annotations: { 'isthmus.dev/mode': 'direct' } } : {}),
        }),
      ),
    );
  }
  await lab.cluster(home).deploy({ namespace, name: 'client', replicas: 1, kind: 'client' });
};

const start = (lab: Lab, mode: Mode): Promise<Load> =>
  lab.cluster(home).load({
    namespace,
    client: 'client',
    service: `${namespace}/${services[mode]}`,
    perSecond: perSecond[mode],
    keep,
    everyMs: everyMs[mode],
  });

/** Waits until both services are answered. */
const untilAnswered = async (lab: Lab, loads: readonly Load[]): Promise<void> => {
  const deadline = lab.now() + 30_000;
  for (;;) {
    const from = lab.now();
    await sleep(1_000);
    const seen = await Promise.all(
      loads.map(async (load) => outcome(await load.calls(), { from, until: lab.now() - 200 })),
    );
    if (seen.every(({ failed, sent }) => failed === 0 && sent > 0)) return;
    if (lab.now() > deadline) throw new Error(`calls still fail: ${JSON.stringify(seen.map(({ errors }) => errors))}`);
  }
};

const figuresOf = (
  kind: CallRecord['kind'],
  calls: Readonly<Record<Mode, readonly CallRecord[]>>,
  from: number,
): Figure[] => {
  const spans = Array.from({ length: blocks }, (_, i) => ({
    from: from + i * blockMs,
    until: from + (i + 1) * blockMs,
  }));
  const medians = (mode: Mode): number[] => spans.map((span) => outcome(calls[mode], span, kind).p50Ms);
  const [gateway, direct] = [medians('gateway'), medians('direct')];
  const added = percentile(
    gateway.map((ms, i) => ms - direct[i]!),
    0.5,
  );
  const round = (ms: number): number => Math.round(ms * 1_000) / 1_000;
  const name = kind === 'new' ? 'new connection' : 'request on an open connection';
  return [
    atMost(`hop: added to a ${name}, p50`, round(added), 'ms', aimsMs[kind]),
    shown(`hop: ${name}, gateway mode, p50`, round(percentile(gateway, 0.5)), 'ms'),
    shown(`hop: ${name}, direct mode, p50`, round(percentile(direct, 0.5)), 'ms'),
  ];
};

export const run = async (): Promise<Figure[]> => {
  const lab = await openLab({
    clusters: threeClusters.slice(0, 2),
    controllers: 1,
    gateways: 1,
    report: (line) => process.stderr.write(`   ${line}\n`),
  });
  try {
    await deploy(lab);
    const loads = { gateway: await start(lab, 'gateway'), direct: await start(lab, 'direct') };
    await untilAnswered(lab, [loads.gateway, loads.direct]);
    await sleep(warmUpMs);
    const from = lab.now();
    await sleep(blocks * blockMs);
    const calls = { gateway: await loads.gateway.stop(), direct: await loads.direct.stop() };
    const until = lab.now();
    const failed = modes.reduce((sum, mode) => sum + outcome(calls[mode], { from, until }).failed, 0);
    if (failed > 0) throw new Error(`${failed} calls failed though nothing was wrong: the figures would be of no use`);
    return [...figuresOf('new', calls, from), ...figuresOf('keep', calls, from)];
  } finally {
    await lab.down();
  }
};

if (import.meta.main) {
  process.stdout.write(`${figureTable(await run())}\n`);
  process.exit(0);
}
