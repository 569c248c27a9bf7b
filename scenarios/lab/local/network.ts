/**
 * The lab's network: a namespace per node and per pod, joined by routes, and one namespace in the middle as the wide area.
 *
 *   pod ── node ──┐                ┌── node ── pod
 *   pod ── node ──┼── wide area ───┼── node ── pod        (management: API servers ── their own etcd, beside all this)
 *
 * Every link is a routed veth pair, so that all traffic of a pod, even to its neighbour, passes its node's forward hook: one
 * place for every fault. Bridges were passed over: traffic inside one would need a second kind of rule. No namespace has
 * a link to the host's, so nothing gets out of the lab or in.
 */
import {
  type ClusterAddresses,
  hostAddress,
  kubeEtcdAddress,
  managementGateway,
  nodeAddress,
  nodeCidr,
  wanAddress,
} from './addresses.ts';
import { type Run, removeNamespaces } from './run.ts';
import { ipBatch, shell } from './shell.ts';

export interface Attached {
  readonly namespace: string;
  readonly address: string;
}

const routerSysctls = 'net/ipv4/ip_forward=1 net/ipv4/conf/all/rp_filter=0 net/ipv4/conf/default/rp_filter=0';

async function sysctl(namespace: string, settings: string): Promise<void> {
  const script = settings.split(' ').map((setting) => {
    const [key, value] = setting.split('=');
    return `echo ${value} > /proc/sys/${key}`;
  });
  await shell(['ip', 'netns', 'exec', namespace, 'sh', '-ec', script.join('\n')]);
}

export class Network {
  readonly #run: Run;
  readonly #used = new Map<string, Set<number>>();
  #links = 0;

  constructor(run: Run) {
    this.#run = run;
  }

  get wan(): string {
    return `${this.#run.prefix}wan`;
  }
  get management(): string {
    return `${this.#run.prefix}management`;
  }
  node(cluster: string, node: number): string {
    return `${this.#run.prefix}${cluster}-node-${node}`;
  }

  /** Makes the wide area, the management network and the nodes. Node 0 of each cluster is its control plane's. */
  async create(clusters: readonly { name: string; addresses: ClusterAddresses; nodes: number }[]): Promise<void> {
    const nodes = clusters.flatMap(({ name, addresses, nodes }) =>
      Array.from({ length: nodes + 1 }, (_, node) => ({
        namespace: this.node(name, node),
        index: addresses.index,
        node,
      })),
    );
    const link = ({ index, node }: { index: number; node: number }) => `c${index}n${node}`;
    await ipBatch(undefined, [
      ...[this.wan, this.management, ...nodes.map(({ namespace }) => namespace)].map((name) => `netns add ${name}`),
      ...nodes.map((n) => `link add ${link(n)} netns ${this.wan} type veth peer name wan netns ${n.namespace}`),
    ]);
    await Promise.all([
      sysctl(this.wan, routerSysctls),
      ipBatch(this.wan, [
        'link set lo up',
        `addr add ${wanAddress}/32 dev lo`,
        ...nodes.flatMap((n) => [
          `link set ${link(n)} up`,
          `route add ${nodeAddress(n.index, n.node)} dev ${link(n)} scope link`,
          `route add ${nodeCidr(n.index, n.node)} via ${nodeAddress(n.index, n.node)} dev ${link(n)}`,
        ]),
      ]),
      ipBatch(this.management, [
        'link set lo up',
        'link add br0 type bridge',
        'link set br0 up',
        `addr add ${managementGateway}/24 dev br0`,
        `addr add ${kubeEtcdAddress}/24 dev br0`,
      ]),
      ...nodes.flatMap((n) => [
        sysctl(n.namespace, routerSysctls),
        ipBatch(n.namespace, [
          'link set lo up',
          `addr add ${nodeAddress(n.index, n.node)}/32 dev lo`,
          'link set wan up',
          `route add ${wanAddress} dev wan scope link`,
          `route add default via ${wanAddress} dev wan`,
        ]),
      ]),
    ]);
  }

  /** Makes a namespace behind a node. `host` is its number on the node, or undefined for the next free one. */
  async attach(cluster: string, index: number, node: number, name: string, host?: number): Promise<Attached> {
    const address = this.#take(index, node, host);
    const namespace = `${this.#run.prefix}${cluster}-${name}`;
    const nodeNamespace = this.node(cluster, node);
    const link = `p${++this.#links}`;
    await ipBatch(undefined, [
      `netns add ${namespace}`,
      `link add ${link} netns ${nodeNamespace} type veth peer name eth0 netns ${namespace}`,
    ]);
    await Promise.all([
      ipBatch(namespace, ['link set lo up', `addr add ${address}/32 dev eth0`, 'link set eth0 up']),
      // Replaced: a namespace that was just removed, with this address before, takes its link with it a moment later.
      ipBatch(nodeNamespace, [`link set ${link} up`, `route replace ${address} dev ${link} scope link`]),
    ]);
    const gateway = nodeAddress(index, node);
    await ipBatch(namespace, [`route add ${gateway} dev eth0 scope link`, `route add default via ${gateway} dev eth0`]);
    return { namespace, address };
  }

  /** Gives a namespace a second link, into the management network. */
  async attachManagement(namespace: string, address: string): Promise<void> {
    const link = `m${++this.#links}`;
    await ipBatch(undefined, [`link add ${link} netns ${this.management} type veth peer name mgmt netns ${namespace}`]);
    await Promise.all([
      ipBatch(this.management, [`link set ${link} master br0 up`]),
      ipBatch(namespace, [`addr add ${address}/24 dev mgmt`, 'link set mgmt up']),
    ]);
  }

  /** Kills what runs in a namespace and removes it. Its address is free again. */
  async detach({ namespace, address }: Attached): Promise<void> {
    await removeNamespaces([namespace]);
    const [, , node, host] = address.split('.');
    const index = Number(address.split('.')[1]) - 80;
    this.#used.get(`${index}/${node}`)?.delete(Number(host));
  }

  #take(index: number, node: number, host: number | undefined): string {
    const key = `${index}/${node}`;
    let used = this.#used.get(key);
    if (used === undefined) {
      used = new Set();
      this.#used.set(key, used);
    }
    // From 40 on: lower numbers are for those with a fixed address.
    let free = host ?? 40;
    if (host === undefined) while (used.has(free)) free++;
    const address = hostAddress(index, node, free);
    if (used.has(free)) throw new Error(`${address} is taken`);
    used.add(free);
    return address;
  }
}
