/**
 * The main job as a story in acts. One lab, two services that differ in one annotation: `checkout` is reached through the local
 * gateway, `checkout-direct` straight from ztunnel to the remote gateway, as stock ambient does. Both meet the same faults
 * at the same time, under the same load.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { controlWindow, InvalidRun } from '../lab/control-window.ts';
import type { ClusterHandle, FaultHandle, Lab, Load } from '../lab/lab.ts';
import { outcome } from '../lab/outcome.ts';
import type { Mode, Row } from './report.ts';

const namespace = 'shop';
const services: Record<Mode, string> = { gateway: 'checkout', direct: 'checkout-direct' };
const modes: readonly Mode[] = ['gateway', 'direct'];

/** What has failed comes back in steps, and by default within a minute: too long for a story. */
const quickFailback = {
  apiVersion: 'isthmus.dev/v1alpha1',
  kind: 'FailoverPolicy',
  metadata: { name: 'quick-failback', namespace },
  spec: { failback: { mode: 'ramp', holdDown: '3s', steps: [50, 100], stepTime: '3s' } },
};

/** New connections a second to each of the two services. */
const perSecond = 20;
const keep = 3;

export interface StoryResult {
  /** Proof that the two workloads knew each other: lines of the ztunnels' logs. */
  readonly identities: readonly string[];
  readonly status: string;
  readonly trace: string;
}

const deployAll = async (lab: Lab): Promise<void> => {
  const home = lab.cluster('us-east');
  await home.deploy({ namespace, name: 'client', replicas: 1, kind: 'client' });
  await home.api('POST', `/apis/isthmus.dev/v1alpha1/namespaces/${namespace}/failoverpolicies`, quickFailback);
  await Promise.all(
    lab.clusters.flatMap((cluster) =>
      modes.map((mode) =>
        cluster.deploy({
          namespace,
          name: services[mode],
          serviceAccount: 'checkout',
          replicas: 1,
          exported: mode === 'gateway' ? 'export' : 'label',
          ...(mode === 'direct' ? { annotations: { 'isthmus.dev/mode': 'direct' } } : {}),
        }),
      ),
    ),
  );
};

/** Waits until every call is answered by that cluster alone, so that an act begins where the one before it ended. */
const settled = async (lab: Lab, load: Load, answeredBy: string, withinMs: number): Promise<void> => {
  const deadline = lab.now() + withinMs;
  for (;;) {
    const from = lab.now();
    await sleep(1_000);
    // Kept connections stay where they are while they live; new ones show where traffic goes.
    const seen = outcome(await load.calls(), { from, until: lab.now() - 100 }, 'new');
    const clusters = Object.keys(seen.answeredBy);
    if (seen.failed === 0 && clusters.length === 1 && clusters[0] === answeredBy) return;
    if (lab.now() > deadline)
      throw new Error(
        `after ${withinMs} ms calls are answered by ${clusters.join(', ') || 'nobody'} (${seen.failed} failed), not by ${answeredBy} alone`,
      );
  }
};

interface Act {
  readonly title: string;
  readonly aim: Row['aim'];
  readonly from: number;
  readonly until: number;
}

interface Stage {
  readonly lab: Lab;
  readonly acts: Act[];
}

/** Runs one act: does something and lets calls go on for the rest of its time. */
const act = async (
  stage: Stage,
  title: string,
  aim: Row['aim'],
  forMs: number,
  run: () => Promise<void>,
): Promise<void> => {
  const from = stage.lab.now();
  await run();
  await sleep(Math.max(0, forMs - (stage.lab.now() - from)));
  stage.acts.push({ title, aim, from, until: stage.lab.now() });
};

/**
 * Every call that started in an act counts there, whenever it ended: so rows are made when the clients have stopped, and a call
 * that hangs is counted with its stall instead of being left out.
 */
const rowsOf = async (acts: readonly Act[], loads: Record<Mode, Load>): Promise<Row[]> => {
  const calls = { gateway: await loads.gateway.stop(), direct: await loads.direct.stop() };
  return acts.flatMap(({ title, aim, from, until }) =>
    modes.map((mode) => ({
      act: title,
      mode,
      seen: outcome(calls[mode], { from, until }, 'new'),
      kept: outcome(calls[mode], { from, until }, 'keep'),
      aim: mode === 'gateway' ? aim : undefined,
    })),
  );
};

const identityLines = async (cluster: ClusterHandle): Promise<string[]> => {
  const pod = cluster
    .pods(namespace)
    .find((p) => p.name.startsWith('checkout-') && !p.name.startsWith('checkout-direct'));
  if (pod === undefined) return [];
  const log = await cluster.log(namespace, pod.name, 'ztunnel');
  return log
    .split('\n')
    .filter((line) => /src\.identity|src_identity/.test(line) && line.includes('/sa/client'))
    .slice(-1);
};

/** @param rows - filled at the end, also of a story that breaks off */
export const tellStory = async (lab: Lab, rows: Row[]): Promise<StoryResult> => {
  const home = lab.cluster('us-east');
  lab.note('workloads: checkout (gateway mode) and checkout-direct in every cluster, a client in us-east');
  await deployAll(lab);
  const start = (mode: Mode): Promise<Load> =>
    home.load({
      namespace,
      client: 'client',
      service: `${namespace}/${services[mode]}`,
      perSecond,
      keep,
      timeoutMs: 15_000,
    });
  const loads = { gateway: await start('gateway'), direct: await start('direct') };
  const stage: Stage = { lab, acts: [] };
  try {
    return await play(stage, loads);
  } finally {
    rows.push(...(await rowsOf(stage.acts, loads)));
  }
};

const calm = { failed: 0, stallMs: 600 };

/** The control window. Pods that became ready one after another come into use in steps, which a second of calm does not tell. */
const untilCalm = async (lab: Lab, loads: Record<Mode, Load>): Promise<void> => {
  for (let attempt = 1; ; attempt++) {
    for (const mode of modes) await settled(lab, loads[mode], 'us-east', 30_000);
    lab.note('control window: nothing is wrong, us-east answers its own client');
    try {
      await controlWindow(lab, loads.gateway, { forMs: 4_000, answeredBy: 'us-east' });
      return;
    } catch (error) {
      if (!(error instanceof InvalidRun) || attempt === 4) throw error;
      lab.note(`not calm yet: ${error.message}`);
    }
  }
};

const play = async (stage: Stage, loads: Record<Mode, Load>): Promise<StoryResult> => {
  const { lab } = stage;
  const home = lab.cluster('us-east');
  await untilCalm(lab, loads);
  await act(stage, 'nothing', calm, 3_000, async () => {});

  lab.note('the service in us-east is taken away');
  await act(stage, 'service at home taken away', { failed: 1, stallMs: 600 }, 8_000, async () => {
    await Promise.all(modes.map((mode) => home.scale(namespace, services[mode], 0)));
  });
  await settled(lab, loads.gateway, 'us-west', 20_000);
  const identities = await identityLines(lab.cluster('us-west'));
  const trace = await home.isthmus(['trace', `${namespace}/client`, `${namespace}/${services.gateway}`]);

  lab.note('both controllers of us-east are killed');
  const killed: FaultHandle[] = [];
  await act(stage, 'us-east controllers killed', calm, 5_000, async () => {
    const pods = home.pods('isthmus-system').filter((p) => p.name.startsWith('isthmus-controller'));
    for (const { name } of pods) {
      const place = { kind: 'pod', cluster: 'us-east', namespace: 'isthmus-system', name } as const;
      killed.push(await lab.inject({ kind: 'kill', target: { place, process: 'controller' } }));
    }
  });

  lab.note('us-west is cut off without a word; no controller of us-east is alive');
  let cut: FaultHandle | undefined;
  await act(stage, 'us-west silently cut off', { failed: 1, stallMs: 600 }, 15_000, async () => {
    cut = await lab.inject({ kind: 'partition', from: { kind: 'cluster', cluster: 'us-west' } });
  });

  lab.note('us-west is back');
  await act(stage, 'us-west back', calm, 10_000, async () => {
    await cut?.lift();
  });
  await settled(lab, loads.gateway, 'us-west', 60_000);
  lab.note('traffic is back in us-west; the controllers of us-east start again');
  await Promise.all(killed.map((fault) => fault.lift()));
  await act(stage, 'us-east controllers back, service back at home', calm, 10_000, async () => {
    await Promise.all(modes.map((mode) => home.scale(namespace, services[mode], 1)));
  });
  await settled(lab, loads.gateway, 'us-east', 60_000);
  lab.note('the service is back at home');
  const status = await home.isthmus(['status']);
  return { identities, status: status.stdout || status.stderr, trace: trace.stdout || trace.stderr };
};
