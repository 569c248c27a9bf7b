/** Faults of the local lab: each is put in place, and hands back how it is undone. */

import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fault, Place, Target } from '../lab.ts';
import type { LocalCluster } from './cluster.ts';
import { ask } from './dial.ts';
import type { FederationEtcd } from './federation-etcd.ts';
import type { ControlPlane } from './kube-control-plane.ts';
import type { Network } from './network.ts';
import type { End, PathFaults } from './path-faults.ts';
import type { LivePod } from './pods.ts';
import { processesInNamespace, signalAll } from './run.ts';

type Lift = () => Promise<void>;

export interface Injectable {
  readonly network: Network;
  readonly paths: PathFaults;
  readonly etcd: FederationEtcd;
  cluster(name: string): LocalCluster;
  controlPlane(cluster: string): ControlPlane;
  restartApiserver(cluster: string): Promise<void>;
  note(what: string): void;
}

interface Found {
  readonly pids: readonly number[];
  /** Starts again what was killed. */
  readonly restart: Lift;
  /** Directories of the pods, if it is some. */
  readonly dirs: readonly string[];
}

export const describePlace = (place: Place): string => {
  switch (place.kind) {
    case 'pod':
      return `${place.cluster}/${place.namespace}/${place.name}`;
    case 'pods':
      return `${place.cluster}/${place.namespace}/${place.app}-*`;
    case 'cluster':
      return place.cluster;
    default:
      return `the ${place.kind} of ${place.cluster}`;
  }
};

const describeTarget = ({ place, process, index }: Target): string =>
  `${process === undefined ? 'all' : process}${index === undefined ? '' : ` ${index}`} of ${describePlace(place)}`;

export const describeFault = (fault: Fault): string => {
  const path = (from: Place, to: Place | undefined) =>
    `between ${describePlace(from)} and ${to === undefined ? 'all others' : describePlace(to)}`;
  switch (fault.kind) {
    case 'kill':
    case 'stop':
      return `${fault.kind} ${describeTarget(fault.target)}`;
    case 'clock-skew':
      return `clock of ${describeTarget(fault.target)} shifted by ${fault.skewMs} ms`;
    case 'partition':
      return fault.oneWay
        ? `silent drop from ${describePlace(fault.from)} to ${fault.to === undefined ? 'all others' : describePlace(fault.to)}`
        : `silent cut ${path(fault.from, fault.to)}`;
    case 'refuse':
      return `refused ${path(fault.from, fault.to)}`;
    case 'loss':
      return `${fault.perMyriad / 100} % loss ${path(fault.from, fault.to)}`;
    case 'delay':
      return `${fault.oneWayMs} ms each way ${path(fault.between[0], fault.between[1])}`;
    case 'pod-death':
      return `pod ${fault.cluster}/${fault.namespace}/${fault.name} dies${fault.silent ? ' with its machine' : ''}`;
    case 'service-errors':
      return `${percent(fault.share)}${fault.cluster}/${fault.namespace}/${fault.service} answers ${fault.status}`;
    case 'service-slow':
      return `${percent(fault.share)}${fault.cluster}/${fault.namespace}/${fault.service} answers ${fault.delayMs} ms late`;
    case 'unready':
      return `${percent(fault.share)}${fault.cluster}/${fault.namespace}/${fault.service} is not ready`;
  }
};

const percent = (share = 1): string => (share === 1 ? '' : `${Math.round(share * 100)} % of `);

const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return '';
  }
};

export class Injector {
  readonly #lab: Injectable;

  constructor(lab: Injectable) {
    this.#lab = lab;
  }

  /** Puts a fault in place. The function returned undoes it. */
  async inject(fault: Fault): Promise<Lift> {
    const { paths } = this.#lab;
    switch (fault.kind) {
      case 'kill': {
        const found = this.#find(fault.target);
        signalAll(found.pids, 'SIGKILL');
        return found.restart;
      }
      case 'stop': {
        const { pids } = this.#find(fault.target);
        signalAll(pids, 'SIGSTOP');
        return async () => signalAll(pids, 'SIGCONT');
      }
      case 'partition':
        return await paths.apply({ kind: 'partition', oneWay: fault.oneWay === true }, ...this.#ends(fault));
      case 'refuse':
        return await paths.apply({ kind: 'refuse' }, ...this.#ends(fault));
      case 'loss':
        return await paths.apply({ kind: 'loss', perMyriad: fault.perMyriad }, ...this.#ends(fault));
      case 'delay': {
        const [a, b] = fault.between;
        return await paths.delay(this.#end(a), this.#end(b), fault.oneWayMs, fault.lossPerMyriad ?? 0);
      }
      case 'pod-death':
        return await this.#podDeath(fault);
      case 'service-errors':
        return await this.#behaves(fault, { status: fault.status, share: fault.share ?? 1 });
      case 'service-slow':
        return await this.#behaves(fault, { delayMs: fault.delayMs, share: fault.share ?? 1 });
      case 'unready':
        return await this.#behaves(fault, { ready: false }, fault.share ?? 1);
      case 'clock-skew':
        return await this.#clockSkew(fault);
    }
  }

  #ends(fault: { readonly from: Place; readonly to?: Place }): [End, End | undefined] {
    return [this.#end(fault.from), fault.to === undefined ? undefined : this.#end(fault.to)];
  }

  #end(place: Place): End {
    const { network } = this.#lab;
    const cluster = this.#lab.cluster(place.cluster);
    const { addresses, nodes, pods } = cluster.parts;
    const nodeOf = (address: string) => network.node(cluster.name, Number(address.split('.')[2]));
    const single = (address: string): End => ({ cidrs: [`${address}/32`], nodes: [nodeOf(address)] });
    switch (place.kind) {
      case 'cluster':
        return {
          cidrs: [addresses.podCidr],
          nodes: [0, ...nodes.map(({ number }) => number)].map((n) => network.node(cluster.name, n)),
        };
      case 'apiserver':
        return single(addresses.apiserver);
      case 'etcd':
        return single(addresses.etcd);
      case 'pod':
        return single(pods.find(place.namespace, place.name).pod.state.address);
      case 'pods': {
        const found = this.#podsAt(place).map(({ pod }) => pod.state.address);
        return { cidrs: found.map((address) => `${address}/32`), nodes: [...new Set(found.map(nodeOf))] };
      }
    }
  }

  #podsAt(place: Place & { kind: 'pods' }): LivePod[] {
    const found = this.#lab
      .cluster(place.cluster)
      .parts.pods.all.filter(
        ({ pod: { state } }) => state.namespace === place.namespace && state.labels.app === place.app,
      );
    if (found.length === 0) throw new Error(`there are no pods at ${describePlace(place)}`);
    return found;
  }

  #find(target: Target): Found {
    const { place } = target;
    switch (place.kind) {
      case 'cluster':
        throw new Error('a whole cluster is no process: name a pod, the API server or the etcd member');
      case 'apiserver': {
        const { process } = this.#lab.controlPlane(place.cluster);
        return { pids: [process.pid], restart: () => this.#lab.restartApiserver(place.cluster), dirs: [] };
      }
      case 'etcd': {
        const { process } = this.#lab.etcd.member(place.cluster);
        const restart = () => this.#lab.etcd.restart(place.cluster);
        return { pids: [process.pid], restart, dirs: [] };
      }
      case 'pods': {
        const each = this.#podsAt(place).map((live) => this.#inPod(live, target));
        return {
          pids: each.flatMap(({ pids }) => pids),
          restart: async () => {
            for (const { restart } of each) await restart();
          },
          dirs: each.flatMap(({ dirs }) => dirs),
        };
      }
      case 'pod':
        return this.#inPod(this.#lab.cluster(place.cluster).parts.pods.find(place.namespace, place.name), target);
    }
  }

  /** By the names the lab gave its processes, else by the command of any process in the pod (a gateway's Envoys). */
  #inPod(live: LivePod, { place, process: name, index }: Target): Found {
    const named = [...live.processes].filter(([key]) => name === undefined || key === name);
    const others = processesInNamespace(live.pod.attached.namespace).filter((pid) =>
      commandOf(pid).startsWith(name ?? ''),
    );
    const all =
      named.length > 0 && name !== undefined ? named.map(([, process]) => process.pid) : others.sort((a, b) => a - b);
    const pids = index === undefined ? all : all.slice(index, index + 1);
    if (pids.length === 0) throw new Error(`no process "${name ?? 'any'}" runs in ${describePlace(place)}`);
    const { pods } = this.#lab.cluster(place.cluster).parts;
    const again = async (): Promise<void> => {
      for (const [key, process] of named) {
        // Ended by us, and nobody started another since.
        const same = live.processes.get(key) === process;
        if (same && (await process.endsWithin(1_000))) pods.launch(live, key);
      }
    };
    return { pids, restart: again, dirs: [live.pod.dir] };
  }

  async #podDeath(fault: Fault & { kind: 'pod-death' }): Promise<Lift> {
    const { pods } = this.#lab.cluster(fault.cluster).parts;
    const live = pods.find(fault.namespace, fault.name);
    await pods.kill(live, fault.silent === true);
    const noticed = sleep(fault.noticedAfterMs ?? 1_000, undefined, { ref: false }).then(() => pods.forget(live));
    noticed.catch((error: Error) => this.#lab.note(`a dead pod stays in the API: ${error.message}`));
    return async () => {
      await noticed;
      await pods.untilReady(await pods.start(live.template, fault.name, live.node), 60_000);
    };
  }

  /** Tells the apps of a service, or the first of them, to behave otherwise. */
  async #behaves(
    { cluster, namespace, service }: { readonly cluster: string; readonly namespace: string; readonly service: string },
    behaviour: object,
    share = 1,
  ): Promise<Lift> {
    const tell = async (what: object, part: number) => {
      const pods = this.#podsAt({ kind: 'pods', cluster, namespace, app: service });
      await Promise.all(
        pods
          .slice(0, Math.ceil(pods.length * part))
          .map(({ node, pod }) =>
            ask(node.portal, pod.state.address, 8_080, '/-/behave', { method: 'POST', body: JSON.stringify(what) }),
          ),
      );
    };
    await tell(behaviour, share);
    return () => tell({ status: 200 }, 1);
  }

  async #clockSkew({ target, skewMs }: Fault & { kind: 'clock-skew' }): Promise<Lift> {
    const { pids, dirs } = this.#find(target);
    if (dirs.length === 0 || !['controller', 'gateway'].includes(target.process ?? '')) {
      throw new Error('only clocks of pods\' "controller" or "gateway" processes can be shifted');
    }
    const shift = async (ms: number) => {
      await Promise.all(dirs.map((dir) => writeFile(join(dir, 'clock'), `${ms}\n`)));
      signalAll(pids, 'SIGUSR2');
    };
    await shift(skewMs);
    return () => shift(0);
  }
}
