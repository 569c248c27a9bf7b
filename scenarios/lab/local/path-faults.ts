/**
 * Faults of the path between places: silent drop, refusal, loss and delay.
 *
 * Each fault is an nft table of its own in the nodes of the place it is about, so that lifting it is one atomic command and
 * cannot touch another fault. Packets are matched as they leave or reach a pod's link, never between nodes, so that a
 * packet meets a rule once. Delay is a TUN device in the wide area: the kernel here has no netem.
 */
import { toolPath } from '../tools.ts';
import type { Network } from './network.ts';
import { LabProcess, untilReady } from './process.ts';
import type { Run } from './run.ts';
import { ipBatch, nftLoad } from './shell.ts';

/** One end of a path: addresses (CIDRs), and the nodes (namespaces) behind which all of them are. */
export interface End {
  readonly cidrs: readonly string[];
  readonly nodes: readonly string[];
}

export type PathFault =
  | { readonly kind: 'partition'; readonly oneWay: boolean }
  | { readonly kind: 'refuse' }
  | { readonly kind: 'loss'; readonly perMyriad: number };

const set = (cidrs: readonly string[]) => `{ ${cidrs.join(', ')} }`;

/** What happens to a packet that matches, as nft statements. */
const verdicts = (fault: PathFault): readonly string[] => {
  switch (fault.kind) {
    case 'partition':
      return ['drop'];
    case 'refuse':
      return ['meta l4proto tcp reject with tcp reset', 'reject'];
    case 'loss':
      return [`numgen random mod 10000 < ${fault.perMyriad} drop`];
  }
};

/** The ruleset of a fault between `from` and `to` (undefined: everybody else), for the nodes of `from`. */
export const faultRuleset = (table: string, fault: PathFault, from: End, to: End | undefined): string => {
  const other = (side: 'saddr' | 'daddr') =>
    to === undefined ? `ip ${side} != ${set(from.cidrs)}` : `ip ${side} ${set(to.cidrs)}`;
  const leaving = `iifname "p*" ip saddr ${set(from.cidrs)} ${other('daddr')}`;
  const arriving = `oifname "p*" ip daddr ${set(from.cidrs)} ${other('saddr')}`;
  const oneWay = fault.kind === 'partition' && fault.oneWay;
  const rules = [leaving, ...(oneWay ? [] : [arriving])].flatMap((match) =>
    verdicts(fault).map((verdict) => `${match} ${verdict}`),
  );
  return `table inet ${table} {\n chain forward {\n  type filter hook forward priority 0; policy accept;\n  ${rules.join('\n  ')}\n }\n}\n`;
};

export class PathFaults {
  readonly #run: Run;
  readonly #network: Network;
  #count = 0;

  constructor(run: Run, network: Network) {
    this.#run = run;
    this.#network = network;
  }

  /** Applies a fault; the function returned lifts it. */
  async apply(fault: PathFault, from: End, to: End | undefined): Promise<() => Promise<void>> {
    const table = `fault_${++this.#count}`;
    const ruleset = faultRuleset(table, fault, from, to);
    await Promise.all(from.nodes.map((node) => nftLoad(node, ruleset)));
    return async () => {
      await Promise.all(from.nodes.map((node) => nftLoad(node, `delete table inet ${table}\n`)));
    };
  }

  /** Delays all packets that cross the wide area between two ends, each way by `oneWayMs`; `lossPerMyriad` of them are lost. */
  async delay(a: End, b: End, oneWayMs: number, lossPerMyriad: number): Promise<() => Promise<void>> {
    const id = ++this.#count;
    const device = `delay${id}`;
    const wan = this.#network.wan;
    const binary = await toolPath('netdelay');
    const argv = [binary, '-dev', device, '-delay', `${oneWayMs}ms`, '-loss', `${lossPerMyriad}`, '-seed', `${id}`];
    const process = new LabProcess({ namespace: wan, name: device, argv }, `${this.#run.dir}/logs`);
    await untilReady(process, () => process.tail().includes('ready'), 5_000, 5);
    const table = 1_000 + id;
    const rules = a.cidrs.flatMap((x) =>
      b.cidrs.flatMap((y) => [
        `from ${x} to ${y} lookup ${table} pref 200`,
        `from ${y} to ${x} lookup ${table} pref 200`,
      ]),
    );
    // What comes back out of the device takes the ordinary routes.
    await ipBatch(wan, [
      `link set ${device} up txqueuelen 10000`,
      `route add default dev ${device} table ${table}`,
      `rule add iif ${device} lookup main pref 100`,
      ...rules.map((rule) => `rule add ${rule}`),
    ]);
    return async () => {
      await ipBatch(wan, [...rules.map((rule) => `rule del ${rule}`), `rule del iif ${device} lookup main pref 100`]);
      await process.stop(1_000);
    };
  }
}
