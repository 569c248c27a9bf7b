/** Makes faults happen, and undoes them. Faults overlap, so everything is counted or listed, never set. */
import type { Fault } from './fault.ts';
import { actHostile } from './hostile.ts';
import { etcdNode } from './network.ts';
import type { Slot } from './slot.ts';
import type { World } from './world.ts';

type Undo = () => void;
const nothing: Undo = () => {};
const membershipsAgainMs = 3_000;

const takeDown = (world: World, slots: readonly Slot[], keepDisk: boolean): Undo => {
  for (const slot of slots) {
    slot.down++;
    world.stop(slot, keepDisk);
  }
  return () => {
    for (const slot of slots) {
      slot.down--;
      world.start(slot);
    }
  };
};

const stopped = (slot: Slot, world: World): Undo => {
  if (slot.stopped++ === 0) {
    slot.stoppedAtMs = world.nowMs;
    slot.clock.stop();
  }
  return () => {
    if (--slot.stopped === 0) slot.clock.go();
  };
};

const cutBoth = (world: World, pairs: readonly (readonly [string, string])[]): Undo => {
  for (const [a, b] of pairs) world.network.cutBoth(a, b, 1);
  return () => {
    for (const [a, b] of pairs) world.network.cutBoth(a, b, -1);
    world.linesChanged();
  };
};

const regionCut = (world: World, region: string): Undo => {
  const nodes = [...world.clusters.keys(), etcdNode];
  const inside = nodes.filter((n) => world.network.region(n) === region);
  const outside = nodes.filter((n) => world.network.region(n) !== region);
  return cutBoth(
    world,
    inside.flatMap((a) => outside.map((b) => [a, b] as const)),
  );
};

const listed = (list: number[], value: number, changed: () => void): Undo => {
  list.push(value);
  changed();
  return () => {
    list.splice(list.indexOf(value), 1);
    changed();
  };
};

/** On and off, every half period. */
const flapping = (world: World, periodMs: number, on: () => Undo): Undo => {
  let off: Undo | undefined;
  let over = false;
  const turn = (): void => {
    if (over) return;
    if (off === undefined) off = on();
    else {
      off();
      off = undefined;
    }
    world.time.after(periodMs / 2, turn);
  };
  turn();
  return () => {
    over = true;
    off?.();
  };
};

const etcdState = (world: World, state: 'stopped' | 'hung'): Undo => {
  if (state === 'stopped') world.etcd.stop();
  else world.etcd.hang();
  return () => {
    world.etcd.start();
    world.linesChanged();
  };
};

const once = (world: World, fault: Fault): void => {
  if (fault.kind === 'etcd-compacted') world.etcd.compact();
  else if (fault.kind === 'etcd-dropped') world.etcd.dropConnections();
  else if (fault.kind === 'etcd-lost') {
    world.etcd.replace();
    world.time.after(membershipsAgainMs, () => world.writeMemberships());
  } else if (fault.kind === 'etcd-restored') {
    const then = world.revisions.findLast(({ atMs }) => atMs <= world.nowMs - fault.agoMs);
    if (then !== undefined && then.revision < world.etcd.revision) world.etcd.restoreTo(then.revision);
  }
};

/** A person at one cluster. */
const commanded = (world: World, fault: Extract<Fault, { kind: 'drain' | 'freeze' }>): Undo => {
  const who = { author: 'someone', reason: 'simulated' };
  if (fault.kind === 'freeze') {
    world.command(fault.at, { kind: 'freeze', ...who });
    return () => world.command(fault.at, { kind: 'thaw', ...who });
  }
  const { member, service, at } = fault;
  const target =
    service === undefined ? ({ scope: 'cluster', member } as const) : ({ scope: 'service', member, service } as const);
  const rest = { target, overMs: undefined, graceMs: undefined, ...who };
  world.command(at, { kind: 'drain', ...rest });
  return () => world.command(at, { kind: 'undrain', ...rest });
};

const line = (world: World, from: string, to: string, what: 'addMs' | 'loss', by: number): Undo => {
  world.network.line(from, to)[what] += by;
  return () => {
    world.network.line(from, to)[what] -= by;
  };
};

/** @returns what lifts it */
export const applyFault = (world: World, fault: Fault): Undo => {
  switch (fault.kind) {
    case 'controller-crash':
      return takeDown(world, [world.slotsOf(fault.cluster)[fault.replica]!], fault.disk);
    case 'controllers-down':
      return takeDown(world, world.slotsOf(fault.cluster), true);
    case 'controller-stopped':
      return stopped(world.slotsOf(fault.cluster)[fault.replica]!, world);
    case 'clock-jump':
      world.slotsOf(fault.cluster)[fault.replica]!.jump(fault.ms);
      return nothing;
    case 'api-dark': {
      const cluster = world.cluster(fault.cluster);
      cluster.apiDark++;
      return () => {
        cluster.apiDark--;
        world.localChanged(fault.cluster);
      };
    }
    case 'etcd-stopped':
      return etcdState(world, 'stopped');
    case 'etcd-hung':
      return etcdState(world, 'hung');
    case 'etcd-compacted':
    case 'etcd-dropped':
    case 'etcd-lost':
    case 'etcd-restored':
      once(world, fault);
      return nothing;
    case 'etcd-cut':
      return cutBoth(world, [[fault.cluster, etcdNode]]);
    case 'hostile':
      return actHostile(world, fault.act, (slots) => takeDown(world, slots, true));
    case 'drain':
    case 'freeze':
      return commanded(world, fault);
    default:
      return applyToData(world, fault);
  }
};

type DataFault = Extract<
  Fault,
  {
    kind:
      | 'path-cut'
      | 'path-one-way'
      | 'gateway-cut'
      | 'region-cut'
      | 'path-slow'
      | 'path-lossy'
      | 'path-flapping'
      | 'gateway-down'
      | 'gateways-down'
      | 'cluster-down'
      | 'pods-unready'
      | 'pods-flapping'
      | 'gray'
      | 'overload';
  }
>;

/** Those that requests feel. */
const applyToData = (world: World, fault: DataFault): Undo => {
  switch (fault.kind) {
    case 'path-cut':
      return cutBoth(world, [[fault.a, fault.b]]);
    case 'path-one-way':
      world.network.cut(fault.from, fault.to, 1);
      return () => world.network.cut(fault.from, fault.to, -1);
    case 'gateway-cut':
      world.cutGateway(fault.from, fault.to, fault.gateway, 1);
      return () => world.cutGateway(fault.from, fault.to, fault.gateway, -1);
    case 'region-cut':
      return regionCut(world, fault.region);
    case 'path-slow':
      return line(world, fault.a, fault.b, 'addMs', fault.addMs);
    case 'path-lossy':
      return line(world, fault.a, fault.b, 'loss', fault.loss);
    case 'path-flapping':
      return flapping(world, fault.periodMs, () => cutBoth(world, [[fault.a, fault.b]]));
    default:
      return applyToCluster(world, fault);
  }
};

const applyToCluster = (world: World, fault: Extract<DataFault, { readonly cluster: string }>): Undo => {
  const cluster = world.cluster(fault.cluster);
  const changed = (): void => world.localChanged(fault.cluster);
  switch (fault.kind) {
    case 'gateway-down':
    case 'gateways-down': {
      const which = fault.kind === 'gateway-down' ? [fault.gateway] : cluster.gatewaysDown.keys().toArray();
      for (const i of which) cluster.gatewaysDown[i]!++;
      return () => {
        for (const i of which) cluster.gatewaysDown[i]!--;
      };
    }
    case 'cluster-down': {
      cluster.down++;
      const back = takeDown(world, world.slotsOf(fault.cluster), true);
      return () => {
        cluster.down--;
        back();
      };
    }
    case 'overload':
      cluster.factor.set(fault.service, fault.factor);
      return () => cluster.factor.delete(fault.service);
    case 'pods-unready':
      return listed(cluster.pods.get(fault.service)!.unready, fault.percent, changed);
    case 'pods-flapping':
      return flapping(world, fault.periodMs, () => listed(cluster.pods.get(fault.service)!.unready, 100, changed));
    case 'gray':
      return listed(cluster.pods.get(fault.service)!.gray, fault.percent, () => {});
  }
};
