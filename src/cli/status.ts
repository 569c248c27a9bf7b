/** `isthmus status`: facts, with the age of each. Judgement is left to the reader; nothing is green because it was green once. */
import type { PeerReport, ProxyReport, ServiceReport, StatusReport } from '../core/report.ts';
import { age, type Format, print, printData, table } from './output.ts';
import { type ReachOptions, reachControllers } from './reach.ts';

const controlOf = (peer: PeerReport): string => {
  const state = peer.control.shuttingDown ? `${peer.control.state} (shutting down)` : peer.control.state;
  return peer.control.state === 'never' ? state : `${state} ${age(peer.control.ageSeconds)}`;
};

const dataOf = (peer: PeerReport): string =>
  peer.data.rttMs === null
    ? peer.data.state
    : `${peer.data.state} ${peer.data.rttMs < 10 ? peer.data.rttMs.toFixed(1) : Math.round(peer.data.rttMs)}ms`;

const peerRows = (peers: readonly PeerReport[]): string =>
  table(
    ['CLUSTER', 'REGION', 'CONTROL PLANE', 'DATA PLANE', 'GATEWAYS', 'SERVICES', 'CAPACITY'],
    peers.map((p) => [
      p.member,
      p.region,
      controlOf(p),
      dataOf(p),
      String(p.data.gateways),
      String(p.services),
      `${p.capacity.ready}/${p.capacity.total} ready`,
    ]),
  );

const remotesOf = (service: ServiceReport): string =>
  service.remotes.map((r) => `${r.member} ${r.ready}/${r.total}`).join(' > ');

const serviceRows = (services: readonly ServiceReport[]): string =>
  table(
    ['SERVICE', 'MODE', 'EXPORTED', 'LOCAL', 'REMOTE (IN ORDER)', 'SERVING'],
    services.map((s) => [
      s.service,
      s.mode,
      s.exported ? 'yes' : 'no',
      `${s.local.ready}/${s.local.total}`,
      remotesOf(s),
      s.serving,
    ]),
  );

const proxyRows = (proxies: readonly ProxyReport[], wide: boolean): string =>
  table(
    wide ? ['PROXY', 'ROLE', 'STATE', 'CONNECTED', 'TYPES (SENT/ACKED)'] : ['PROXY', 'ROLE', 'STATE', 'CONNECTED'],
    proxies.map((p) => [
      p.node,
      p.role,
      p.state,
      age(p.connectedSeconds),
      ...(wide ? [p.types.map((t) => `${t.type} ${t.sent}/${t.acked}`).join(', ')] : []),
    ]),
  );

const problemLines = (report: StatusReport): string[] => [
  ...report.problems.map((p) => `${p.code}: ${p.message}`),
  ...report.peers.flatMap((p) => p.problems.map((x) => `${p.member}: ${x.code}: ${x.message}`)),
  ...report.services.flatMap((s) => s.problems.map((x) => `${s.service}: ${x.code}: ${x.message}`)),
  ...report.proxies.flatMap((p) => p.rejected.map((r) => `${p.node} rejected ${r.resource}: ${r.reason}`)),
];

const head = (r: StatusReport): string => {
  const store = r.store.connected
    ? `connected to ${r.store.endpoint} (etcd ${r.store.version}, revision ${r.store.revision}); own records read back ${age(r.store.readBackSeconds)} ago`
    : `dark: ${r.store.reason}; own records read back ${age(r.store.readBackSeconds)} ago; serving what was last known`;
  const saved =
    r.saved.ageSeconds === null
      ? 'nothing saved yet'
      : `saved ${age(r.saved.ageSeconds)} ago${r.saved.servingFromDisk ? ', serving from it' : ''}`;
  const kube =
    r.kubernetes.pending.length > 0
      ? `waiting for ${r.kubernetes.pending.join(', ')}`
      : `heard ${age(r.kubernetes.staleSeconds)} ago`;
  const gateways = `${r.gateways.filter((g) => g.healthy).length}/${r.gateways.length} answer`;
  return [
    `${r.member} in cluster set ${r.clusterset}, replica ${r.replica}${r.writer ? ' (writer)' : ''}, isthmus ${r.version}`,
    `  store       ${store}`,
    `  state       ${saved}`,
    `  kubernetes  ${kube}`,
    `  gateways    ${gateways}`,
  ].join('\n');
};

/** One replica's report as a page of text. */
export const renderStatus = (report: StatusReport, wide: boolean): string => {
  const parts = [head(report)];
  parts.push(report.peers.length === 0 ? 'no peers' : peerRows(report.peers));
  parts.push(report.services.length === 0 ? 'no exported services' : serviceRows(report.services));
  parts.push(report.proxies.length === 0 ? 'no proxies connected to this replica' : proxyRows(report.proxies, wide));
  const problems = problemLines(report);
  if (problems.length > 0) parts.push(`problems:\n${problems.map((p) => `  ${p}`).join('\n')}`);
  return parts.join('\n\n');
};

export const status = async (options: ReachOptions & { output: Format }): Promise<void> => {
  const controllers = await reachControllers(options);
  const reports: StatusReport[] = [];
  let failure: unknown;
  for (const controller of controllers) {
    try {
      reports.push((await controller.get('/v1/status', 10_000)) as StatusReport);
    } catch (error) {
      failure = error;
    } finally {
      controller.close();
    }
  }
  if (reports.length === 0) throw failure;
  if (options.output === 'json' || options.output === 'yaml') {
    printData(
      options.output,
      reports.length === 1 ? reports[0] : { apiVersion: 'isthmus.dev/v1', kind: 'StatusList', items: reports },
    );
    return;
  }
  print(reports.map((r) => renderStatus(r, options.output === 'wide')).join('\n\n\n'));
};
