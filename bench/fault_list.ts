/**
 * The faults, in the order in which they meet one lab. Those at the far side and those at the caller's own gateways take turns: while
 * the far side recovers, calls go to the other cluster, and what happens to a local gateway is the same story there.
 *
 * Faults after which callers may hang until their own time is up come first, so that the end of a run waits for nobody.
 */
import type { FaultHandle, Lab, Place, Target } from '../scenarios/lab/lab.ts';
import type { Aim } from './fault_tally.ts';

export const home = 'us-east';
export const first = 'us-west';
export const second = 'eu-central';
export const namespace = 'shop';
const system = 'isthmus-system';

/**
 * What is measured is how traffic leaves, again and again: so it may come back as soon as a path is well, and is not held down for having
 * left often.
 */
export const failback = {
  order: [{ type: 'local' }, { type: 'cluster', name: first }, { type: 'any' }],
  thresholds: { flapPenalty: 1 },
  outlierDetection: { baseEjectionTime: '1s', maxEjectionTime: '1s' },
  failback: { mode: 'ramp', holdDown: '1s', steps: [100], stepTime: '1s' },
} as const;

export interface FaultCase {
  readonly name: string;
  /** Where it happens: before a fault at the far side all calls have to be answered there. */
  readonly side: 'far' | 'near';
  /** Of gateway mode, with no delay added. */
  readonly aim: Aim;
  /** How long it lasts, ms. */
  readonly forMs: number;
  /** Puts it in place; undone by the function it hands back. */
  strike(lab: Lab): Promise<() => Promise<void>>;
}

const gatewayPods = (lab: Lab, cluster: string): string[] =>
  lab
    .cluster(cluster)
    .pods(system)
    .map(({ name }) => name)
    .filter((name) => name.startsWith('isthmus-gateway'))
    .sort();

const gatewayPod = (lab: Lab, cluster: string): Place => ({
  kind: 'pod',
  cluster,
  namespace: system,
  name: gatewayPods(lab, cluster)[0]!,
});

const injected =
  (fault: (lab: Lab) => Parameters<Lab['inject']>[0]) =>
  async (lab: Lab): Promise<() => Promise<void>> => {
    const handle: FaultHandle = await lab.inject(fault(lab));
    return () => handle.lift();
  };

const kill = (target: (lab: Lab) => Target) => injected((lab) => ({ kind: 'kill', target: target(lab) }));
const stop = (target: (lab: Lab) => Target) => injected((lab) => ({ kind: 'stop', target: target(lab) }));

const podDeath = (silent: boolean) =>
  injected((lab) => ({
    kind: 'pod-death',
    cluster: home,
    namespace: system,
    name: gatewayPods(lab, home)[0]!,
    silent,
  }));

const calm: Aim = { failed: 1, stallMs: 600 };
const forMs = 2_500;

export const faultList: readonly FaultCase[] = [
  {
    name: 'region silently cut',
    side: 'far',
    aim: calm,
    forMs,
    strike: injected(() => ({ kind: 'partition', from: { kind: 'cluster', cluster: first } })),
  },
  {
    name: 'local gateway pod gone, silently',
    side: 'near',
    // What was on its way into it hangs until the caller gives up: no stall is promised.
    aim: { failed: 15 },
    forMs,
    strike: podDeath(true),
  },
  {
    name: 'remote gateway stopped',
    side: 'far',
    aim: calm,
    forMs,
    strike: stop((lab) => ({ place: gatewayPod(lab, first) })),
  },
  { name: 'local gateway pod gone', side: 'near', aim: { failed: 15 }, forMs, strike: podDeath(false) },
  {
    name: 'remote gateway killed',
    side: 'far',
    aim: calm,
    forMs,
    strike: kill((lab) => ({ place: gatewayPod(lab, first), process: 'envoy' })),
  },
  {
    name: 'local gateway process hung',
    side: 'near',
    // Whose CONNECT it holds when it is ended gets a reset, and ztunnel does not retry: up to its share of what comes meanwhile.
    aim: { stallMs: 1_500 },
    forMs,
    strike: stop((lab) => ({ place: gatewayPod(lab, home), process: 'envoy', index: 0 })),
  },
  {
    name: 'all remote gateways killed',
    side: 'far',
    aim: calm,
    forMs,
    strike: kill(() => ({
      place: { kind: 'pods', cluster: first, namespace: system, app: 'isthmus-gateway' },
      process: 'envoy',
    })),
  },
  {
    name: 'local gateway process killed',
    side: 'near',
    aim: calm,
    forMs,
    strike: kill((lab) => ({ place: gatewayPod(lab, home), process: 'envoy', index: 0 })),
  },
  {
    name: 'remote ztunnel killed',
    side: 'far',
    aim: calm,
    forMs,
    strike: async (lab) => {
      const pods = lab.cluster(first).pods(namespace);
      const killed = await Promise.all(
        pods.map(({ name }) =>
          lab.inject({
            kind: 'kill',
            target: { place: { kind: 'pod', cluster: first, namespace, name }, process: 'ztunnel' },
          }),
        ),
      );
      return async () => {
        await Promise.all(killed.map((fault) => fault.lift()));
      };
    },
  },
  {
    name: 'local gateway restarted as planned',
    side: 'near',
    aim: { failed: 0, stallMs: 600 },
    forMs: 0,
    strike: async (lab) => {
      await lab.cluster(home).restartPod(system, gatewayPods(lab, home)[0]!);
      return async () => {};
    },
  },
];
