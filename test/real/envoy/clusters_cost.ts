/**
 * What the two shapes of clusters cost a running Envoy: one for each class, against one for each service (docs/adr/0005).
 * Not a test: `node test/real/envoy/clusters_cost.ts [services] [class|service]`, as root. Prints one line of JSON.
 */
import { readFileSync } from 'node:fs';
import { typeUrls } from '../../../src/translate/envoy/encoded.ts';
import { sleep } from './processes.ts';
import { Rig } from './rig.ts';

const count = Number(process.argv[2] ?? 1_000);
const shape = process.argv[3] ?? 'class';
const peers = ['us-west', 'eu-central', 'ap-south'];
const addresses: Record<string, string> = {
  'us-west': '127.0.2.1',
  'eu-central': '127.0.3.1',
  'ap-south': '127.0.4.1',
};

const tiers = peers.map((peer) => [peer]);
const services = Array.from({ length: count }, (_, i) => ({
  key: `shop/service-${i}`,
  ports: [80, 443],
  tiers,
  // A policy of its own gives a service a cluster of its own.
  ...(shape === 'service' ? { trafficPolicy: { maxConnections: 1_000_000 }, exported: false } : {}),
}));

const status = (pid: number, field: string): number =>
  Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
const cpuMs = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
};

const rig = await Rig.start(['us-east', ...peers]);
try {
  for (const peer of peers) await rig.configure({ name: peer, address: addresses[peer]!, services: [] });
  const gateways = await Promise.all(peers.map((peer) => rig.launch(peer)));
  const spec = { name: 'us-east', address: '127.0.1.1', services: services.slice(0, 1) };
  await rig.configure(spec);
  const east = await rig.launch('us-east');
  // `ip netns exec` becomes the Envoy, so its pid is Envoy's.
  const before = { rssKb: status(east.pid, 'VmRSS'), allocated: JSON.parse(await east.admin('/memory')).allocated };
  const all = { ...spec, services };
  const resources = rig.resources(all);
  const bytes = (typeUrl: string) =>
    resources.filter((one) => one.typeUrl === typeUrl).reduce((sum, one) => sum + one.bytes.length, 0);
  const clusters = resources.filter((one) => one.typeUrl === typeUrls.cluster).length;
  const peersBefore = gateways.map(({ pid }) => cpuMs(pid));
  const startMs = performance.now();
  const startCpu = cpuMs(east.pid);
  await rig.configure(all);
  let appliedMs = 0;
  for (;;) {
    const stats = await east
      .stats(/^cluster_manager\.(active_clusters|warming_clusters)$|egress\.rds\.egress\.config_reload$/)
      .catch(() => ({}) as Record<string, number>);
    const active = stats['cluster_manager.active_clusters'] ?? 0;
    if (active >= clusters + 1 && stats['cluster_manager.warming_clusters'] === 0) {
      appliedMs = performance.now() - startMs;
      break;
    }
    if (performance.now() - startMs > 120_000) break;
    await sleep(20);
  }
  const applyCpuMs = cpuMs(east.pid) - startCpu;
  await sleep(3_000);
  const idleCpu = cpuMs(east.pid);
  const idlePeers = gateways.map(({ pid }) => cpuMs(pid));
  await sleep(8_000);
  const memory = JSON.parse(await east.admin('/memory')) as { allocated: string };
  const sumChecks = Object.values(await east.stats(/health_check\.attempt$/)).reduce((sum, n) => sum + n, 0);
  console.log(
    JSON.stringify({
      shape,
      services: count,
      clusters,
      cdsBytes: bytes(typeUrls.cluster),
      edsBytes: bytes(typeUrls.endpoints),
      rdsBytes: bytes(typeUrls.routes),
      appliedMs: Math.round(appliedMs),
      applyCpuMs,
      rssMb: Math.round(status(east.pid, 'VmRSS') / 1024),
      rssBeforeMb: Math.round(before.rssKb / 1024),
      allocatedMb: Math.round(Number(memory.allocated) / 1e5) / 10,
      allocatedBeforeMb: Math.round(Number(before.allocated) / 1e5) / 10,
      idleCpuPercent: Math.round((cpuMs(east.pid) - idleCpu) / 80),
      peerCpuPercent: gateways.map(({ pid }, i) => Math.round((cpuMs(pid) - idlePeers[i]!) / 80)),
      peerCpuMsWhileApplied: gateways.map((_, i) => idlePeers[i]! - peersBefore[i]!),
      checks: sumChecks,
      refusals: (await rig.world.adsRefusals()).length,
    }),
  );
} finally {
  await rig.stop();
}
process.exit(0);
