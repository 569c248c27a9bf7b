/** `isthmus status`: facts, with the age of each. Judgement is left to the reader; nothing is green because it was green once. */
import { percentText } from '../controller/wording.ts';
import type { EgressReport } from '../core/egress_report.ts';
import type { FailoverReport, JournalHealth, VerdictReport, WithdrawalReport } from '../core/failover_report.ts';
import type { MembershipReport, PeerReport, ProxyReport, ServiceReport, StatusReport } from '../core/report.ts';
import { denialHeads, denialRow } from './denials_text.ts';
import { age, aligned, type Format, paint, paintState, print, printData, table, wrap } from './output.ts';
import { type ReachOptions, reachControllers } from './reach.ts';

const controlOf = (peer: PeerReport): string => {
  const state = peer.control.shuttingDown ? `${peer.control.state} (shutting down)` : peer.control.state;
  return peer.control.state === 'never' ? state : `${state} ${age(peer.control.ageSeconds)}`;
};

const dataOf = (peer: PeerReport): string =>
  peer.data.rttMs === null || peer.data.state === 'unreachable'
    ? peer.data.state
    : `${peer.data.state} ${peer.data.rttMs < 10 ? peer.data.rttMs.toFixed(1) : Math.round(peer.data.rttMs)}ms`;

const stateOf = (verdict: VerdictReport | undefined): string =>
  verdict === undefined ? '' : paintState(verdict.state, `${verdict.state} ${age(verdict.ageSeconds)}`);

/** Why a cell or a peer is not simply healthy, and until when: a line under the table. */
const verdictRow = (who: string, verdict: VerdictReport): string[] => {
  const until = verdict.untilSeconds === null ? 'until evidence comes' : `changes in ${age(verdict.untilSeconds)}`;
  const detail = verdict.detail === '' ? '' : `: ${verdict.detail}`;
  return [who, stateOf(verdict), `${verdict.reason}, ${until}${detail}`];
};

const peerRows = (peers: readonly PeerReport[]): string => {
  const judged = peers.some((peer) => peer.verdict !== undefined);
  const rows = table(
    [
      ...['CLUSTER', 'REGION'],
      ...(judged ? ['STATE'] : []),
      ...['CONTROL PLANE', 'DATA PLANE', 'GATEWAYS', 'SERVICES', 'READY'],
    ],
    peers.map((p) => [
      p.member,
      p.region,
      ...(judged ? [stateOf(p.verdict)] : []),
      controlOf(p),
      dataOf(p),
      String(p.data.gateways),
      String(p.services),
      `${p.capacity.ready}/${p.capacity.total}`,
    ]),
  );
  const doubted = peers.flatMap((p) =>
    p.verdict === undefined || p.verdict.reason === 'Healthy' ? [] : [verdictRow(p.member, p.verdict)],
  );
  const open = peers.filter(({ trust }) => trust?.registered === false).map(({ member }) => member);
  const said =
    open.length === 0 ? '' : `\nroots not registered, any is taken: ${open.join(', ')} (isthmus trust register)`;
  return (doubted.length === 0 ? rows : `${rows}\n${aligned(doubted)}`) + said;
};

const remotesOf = (service: ServiceReport): string =>
  service.remotes.map((r) => `${r.member} ${r.ready}/${r.total}`).join(' > ');

const servingOf = ({ serving, shares }: ServiceReport): string => {
  if (shares === undefined) return serving;
  if (shares.length === 0) return paint('red', 'nobody');
  return shares.length === 1
    ? shares[0]!.member
    : shares.map(({ member, percent }) => `${member} ${percentText(percent).replace(' ', '')}`).join(' + ');
};

const grayOf = ({ gray }: ServiceReport, wide: boolean): string =>
  gray === undefined || gray === null ? '' : wide ? gray.probe : 'yes';

const serviceRows = (services: readonly ServiceReport[], wide: boolean): string => {
  const decided = services.some((s) => s.gray !== undefined);
  const rows = table(
    [...['SERVICE', 'MODE', 'EXPORTED', 'LOCAL', 'REMOTE (IN ORDER)', 'SERVING'], ...(decided ? ['GRAY PROBE'] : [])],
    services.map((s) => [
      s.service,
      s.mode,
      s.exportedTo === undefined ? (s.exported ? 'yes' : 'no') : `to ${s.exportedTo.join(' ') || 'nobody'}`,
      `${s.local.ready}/${s.local.total}`,
      s.notImported === undefined ? remotesOf(s) : `not imported (${s.notImported.join(' ')})`,
      servingOf(s),
      ...(decided ? [grayOf(s, wide)] : []),
    ]),
  );
  const below = services.flatMap((s) => [
    ...(s.cells ?? []).map((cell) => verdictRow(`${s.service} at ${cell.member}`, cell)),
    ...(s.held ?? []).map((hold) => [
      hold.member === null ? s.service : `${s.service} at ${hold.member}`,
      paint('yellow', 'held'),
      `${hold.guard}: ${hold.detail}`,
    ]),
  ]);
  return below.length === 0 ? rows : `${rows}\n${aligned(below)}`;
};

const proxyRows = (proxies: readonly ProxyReport[], wide: boolean): string =>
  table(
    wide ? ['PROXY', 'ROLE', 'STATE', 'CONNECTED', 'TYPES (SENT/ACKED)'] : ['PROXY', 'ROLE', 'STATE', 'CONNECTED'],
    proxies.map((p) => [
      p.node,
      p.role,
      p.state === 'acked' ? p.state : paint(p.state === 'rejected' ? 'red' : 'yellow', p.state),
      age(p.connectedSeconds),
      ...(wide ? [p.types.map((t) => `${t.type} ${t.sent}/${t.acked}`).join(', ')] : []),
    ]),
  );

const drainRows = ({ drains }: FailoverReport): string => {
  const rows = table(
    ['DRAINING', 'MOVED', 'FOR', 'DONE', 'CONNECTIONS END', 'BY', 'REASON'],
    drains.map((d) => [
      d.target,
      `${d.percent} %`,
      age(d.ageSeconds),
      d.doneInSeconds === null ? 'yes' : `in ${age(d.doneInSeconds)}`,
      d.graceSeconds === null ? 'ended' : `in ${age(d.graceSeconds)}`,
      d.author,
      d.reason,
    ]),
  );
  const held = drains.flatMap((d) =>
    d.held.map((hold) => [d.target, paint('yellow', 'held'), `${hold.guard}: ${hold.detail}`]),
  );
  return held.length === 0 ? rows : `${rows}\n${aligned(held)}`;
};

const problemLines = (report: StatusReport): string[] => [
  ...report.problems.map((p) => `${p.code}: ${p.message}`),
  ...report.peers.flatMap((p) => p.problems.map((x) => `${p.member}: ${x.code}: ${x.message}`)),
  ...report.services.flatMap((s) => s.problems.map((x) => `${s.service}: ${x.code}: ${x.message}`)),
  ...report.proxies.flatMap((p) => p.rejected.map((r) => `${p.node} rejected ${r.resource}: ${r.reason}`)),
];

const journalOf = ({ state, spooled, ageSeconds, reason }: JournalHealth): string => {
  const newest = ageSeconds === null ? 'no entry yet' : `newest entry ${age(ageSeconds)} old`;
  if (state === 'written') return `on disk, ${newest}`;
  const waiting = `${spooled} entr${spooled === 1 ? 'y waits' : 'ies wait'} in memory`;
  const text =
    state === 'spooled'
      ? `behind: ${waiting}`
      : `not writable: ${reason}; ${waiting}, and changes by people are refused`;
  return paint(state === 'spooled' ? 'yellow' : 'red', text);
};

const withdrawalOf = ({ member, services, mass, ageSeconds, untilSeconds }: WithdrawalReport): string => {
  const what = `${member} withdrew ${services} service${services === 1 ? '' : 's'} ${age(ageSeconds)} ago; kept for ${age(untilSeconds)} more`;
  return mass
    ? paint('yellow', `${what}, unless a person confirms: isthmus confirm-withdrawal --cluster ${member}`)
    : `${what}, unless its gateway refuses a probe before`;
};

const lasting = (seconds: number): string => (seconds <= 0 ? paint('red', 'ended') : `ends in ${age(seconds)}`);

const keysOf = ({ keys }: MembershipReport): string => {
  const due = keys.dueInSeconds === null ? 'never by age' : `in ${age(Math.max(0, keys.dueInSeconds))}`;
  const stages = {
    current: `next ${due}`,
    overlap: `those before are still accepted; next ${due}`,
    announced: `the next are announced, in use ${due} at the latest${keys.waiting.length === 0 ? '' : `; waiting for ${keys.waiting.join(', ')}`}`,
  };
  const text = `number ${keys.number}, ${age(keys.ageSeconds)} old; ${stages[keys.stage]}`;
  return keys.late ? paint('red', `${text}; late`) : text;
};

const membershipLines = (m: MembershipReport): string[] => [
  `  membership  ${m.endsInSeconds === null ? 'not known' : lasting(m.endsInSeconds)}; certificate for etcd ${lasting(m.keys.etcdCertificateEndsInSeconds)}`,
  wrap(`  keys        ${keysOf(m)}`, '              '),
  ...m.revoked.map((r) =>
    wrap(
      `  revoked     ${r.member} ${age(r.sinceSeconds)} ago, up to sequence ${r.sequence}: ${r.reason}`,
      '              ',
    ),
  ),
  ...m.ending.map((e) => `  ending      ${e.member}: its membership ${lasting(e.endsInSeconds)}`),
];

const failoverLines = (f: FailoverReport): string[] => [
  `  failover    ${f.deciding ? 'decides' : 'serves what the writer decides'}${f.observing.length === 0 ? '' : `; only observed: ${f.observing.join(', ')}`}`,
  wrap(`  journal     ${journalOf(f.journal)}`, '              '),
  ...f.withdrawals.map((w) => wrap(`  withdrawal  ${withdrawalOf(w)}`, '              ')),
  ...f.regions.map(
    (r) => `  region      ${r.region}: ${paintState(r.state)} ${age(r.ageSeconds)}, ${r.reason}: ${r.detail}`,
  ),
];

const egressLine = ({ policies, refused, deniesByDefault, denied, more }: EgressReport): string => {
  const rules = deniesByDefault ? 'what none allows is denied' : 'what none denies is allowed';
  const bad = refused === 0 ? '' : paint('red', `; ${refused} refused as they stand, see problems`);
  const times = denied.reduce((sum, { count }) => sum + count, 0);
  const recent = times === 0 ? '' : `; ${more > 0 ? 'more than ' : ''}${times} denied in 10 minutes`;
  return `${policies === 0 ? 'no policies' : `${policies} ${policies === 1 ? 'policy' : 'policies'}, ${rules}`}${bad}${recent}`;
};

const denialRows = ({ denied }: EgressReport, wide: boolean): string =>
  table(denialHeads, denied.slice(0, wide ? denied.length : denialsShort).map(denialRow));
const denialsShort = 8;

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
    wrap(`  store       ${store}`, '              '),
    `  state       ${saved}`,
    `  kubernetes  ${kube}`,
    `  gateways    ${gateways}`,
    ...(r.egress === undefined ? [] : [wrap(`  egress      ${egressLine(r.egress)}`, '              ')]),
    ...(r.membership === undefined ? [] : membershipLines(r.membership)),
    ...(r.failover === undefined ? [] : failoverLines(r.failover)),
  ].join('\n');
};

const banner = ({ failover }: StatusReport): string[] => {
  const frozen = failover?.frozen;
  if (frozen === undefined || frozen === null) return [];
  const why = frozen.reason === '' ? '' : ` (${frozen.reason})`;
  const text = `FROZEN for ${age(frozen.ageSeconds)} by ${frozen.author}${why}: verdicts go on, nothing is moved. To go on: isthmus thaw`;
  return [paint('yellow', wrap(text, '  '))];
};

/** One replica's report as a page of text. */
export const renderStatus = (report: StatusReport, wide: boolean): string => {
  const parts = [...banner(report), head(report)];
  const { failover } = report;
  if (failover !== undefined && failover.drains.length > 0) parts.push(drainRows(failover));
  parts.push(report.peers.length === 0 ? 'no peers' : peerRows(report.peers));
  parts.push(report.services.length === 0 ? 'no exported services' : serviceRows(report.services, wide));
  parts.push(report.proxies.length === 0 ? 'no proxies connected to this replica' : proxyRows(report.proxies, wide));
  const { egress } = report;
  if (egress !== undefined && egress.denied.length > 0)
    parts.push(`denied in the last 10 minutes:\n${denialRows(egress, wide)}`);
  const problems = problemLines(report);
  if (problems.length > 0) parts.push(`problems:\n${problems.map((p) => wrap(`  ${p}`, '    ')).join('\n')}`);
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
