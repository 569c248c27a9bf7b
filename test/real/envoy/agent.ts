/**
 * What a test runs inside its network namespace: a discovery server, pods, callers. Driven over Node's own channel, so that
 * the test itself stays outside and its work does not disturb the callers' clocks.
 */

import type { Credentials } from '../../../src/hbone/credentials.ts';
import type { Encoded } from '../../../src/translate/envoy/encoded.ts';
import { Observer, type ObserverSpec } from '../probe/observer.ts';
import { type Behaviour, Workloads } from '../probe/workloads.ts';
import { AdsServer, type AdsTls } from './ads.ts';
import { call } from './call.ts';
import { garbage } from './garbage.ts';
import { Load, type LoadSpec } from './load.ts';
import { Pods } from './pods.ts';
import { Storm, type StormSpec } from './storm.ts';

const ads = new AdsServer();
const pods = new Pods();
const workloads = new Workloads();
const observer = new Observer();
const storm = new Storm();
const loads = new Map<string, Load>();

const loadOf = (name: string): Load => {
  const load = loads.get(name);
  if (load === undefined) throw new Error(`no load ${name}`);
  return load;
};

export const operations = {
  adsListen: (address: string, tls: AdsTls) => ads.listen(address, tls),
  adsSet: (node: string, resources: Encoded[]) => ads.set(node, resources),
  adsRefusals: () => ads.refusals,
  adsSent: (node: string) => ads.sent(node),
  /** What Envoys reported since the last call. */
  reports: () => ads.reports.take(),
  podStart: (name: string, address: string, port: number) => pods.start(name, address, port),
  podKill: (name: string) => pods.kill(name),
  podOpen: (name: string) => pods.open(name),
  workloadStart: (name: string, address: string, credentials: Credentials) =>
    workloads.start(name, address, credentials),
  workloadBehave: (name: string, behaviour: Partial<Behaviour>) => workloads.behave(name, behaviour),
  workloadSeen: (name: string) => workloads.seen(name),
  workloadStop: (name: string) => workloads.stop(name),
  observerStart: (spec: ObserverSpec) => observer.start(spec),
  observerTake: () => observer.take(),
  observerState: () => observer.state(),
  observerAccept: (accepts: boolean) => observer.accept(accepts),
  observerStop: () => observer.stop(),
  call,
  garbage,
  stormConnections: (spec: StormSpec, count: number) => storm.connections(spec, count),
  stormStanding: () => storm.standing(),
  stormResets: (spec: StormSpec, count: number) => storm.resets(spec, count),
  stormHeaders: (spec: StormSpec, bytes: number) => storm.headers(spec, bytes),
  stormSilence: (spec: StormSpec, count: number) => storm.silence(spec, count),
  stormSilent: () => storm.silent(),
  stormEnd: () => storm.end(),
  loadStart: (name: string, spec: LoadSpec) => {
    const load = new Load(spec);
    loads.set(name, load);
    load.start();
  },
  loadMark: (name: string) => loadOf(name).mark(),
  loadResult: (name: string) => loadOf(name).result(),
  loadStop: (name: string) => loadOf(name).stop(),
};

export type Operations = typeof operations;

interface Call {
  readonly id: number;
  readonly name: keyof Operations;
  readonly args: unknown[];
}

process.on('message', async ({ id, name, args }: Call) => {
  try {
    const run = operations[name] as (...args: unknown[]) => unknown;
    process.send?.({ id, value: await run(...args) });
  } catch (error) {
    process.send?.({ id, error: (error as Error).message });
  }
});
process.on('disconnect', () => process.exit(0));
process.send?.({ id: -1 });
