/**
 * A controller, put together: the only place where adapters meet. Everything that decides is elsewhere; here it is said who tells
 * whom, in which order things start, and what waits for what.
 *
 * Start: the saved state first, so that proxies are served within a second however dark the world is; then the API server and the
 * store, each in its own time. Proxies are let in once the local cluster is known and something may be said of the others.
 */
import { randomBytes } from 'node:crypto';
import type { KubeConfig } from '@kubernetes/client-node';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng } from '../core/clock.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { StatusReport } from '../core/report.ts';
import type { ExportProblem } from '../federation/local.ts';
import { ViewKeeper } from '../federation/view_keeper.ts';
import type { Route } from '../ops/http.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import { openSavedState } from '../store/saved.ts';
import { types } from '../xds/resource.ts';
import { adminRoutes } from './admin.ts';
import { answers } from './answers.ts';
import { CertificateKeeper } from './certificates.ts';
import { Cluster, gatewayOf, meshOf } from './cluster.ts';
import type { Credentials } from './credentials.ts';
import { Engine } from './engine.ts';
import { facts } from './facts.ts';
import { Failover } from './failover.ts';
import { OfferedSecrets } from './gateway_secrets.ts';
import { MemberKeys } from './keys.ts';
import { startListening } from './listening.ts';
import { MeshTrust } from './mesh_trust.ts';
import { Opening } from './opening.ts';
import { Publishing } from './publishing.ts';
import { ownSingles } from './publishing_options.ts';
import { readinessOf } from './readiness.ts';
import { Records } from './records.ts';
import { TradedRoots } from './roots.ts';
import { Sensing } from './sensing.ts';
import { StateKeeper, stateSources, unpackLocal, unpackSecrets } from './state.ts';
import { openStores } from './stores.ts';
import { Telling } from './telling.ts';
import { runTrace } from './tracing.ts';
import { startUpkeep } from './upkeep.ts';

export interface ControllerOptions {
  readonly config: Config;
  readonly credentials: Credentials;
  readonly kubeConfig: KubeConfig;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  readonly metrics: Metrics;
  /** The controller cannot go on: it must not serve. */
  readonly onFatal: (error: IsthmusError) => void;
}

export interface Controller {
  status(): StatusReport;
  close(): Promise<void>;
}

const closeGraceMs = 2_000;

export const startController = async (o: ControllerOptions): Promise<Controller> => {
  const { config, credentials, clock, rng, log, metrics } = o;
  const parts = () => ({ cluster, engine, keeper, opening, publishing, records, secrets, traded, viewed });
  const trust: MeshTrust = new MeshTrust({ config, clock, log, parts });
  const disk = await openSavedState({ dir: config.state.dir, clock, log });
  const [savedRecords, savedCluster, savedTokens, savedGateways, savedFailover, savedMarks] = await Promise.all(
    (['records', 'cluster', 'tokens', 'gateways', 'failover', 'revocations'] as const).map((part) => disk.load(part)),
  );
  const savedSecrets = savedGateways === undefined ? undefined : unpackSecrets(savedGateways.payload);
  const traded = new TradedRoots();

  const viewed = new ViewKeeper({ ...config, self: config.member });
  const engine: Engine = new Engine({
    self: config.member,
    keeper: viewed,
    decide: (view) => failover.decide(view),
    ztunnel: meshOf(config),
    gateway: gatewayOf(config),
    egress: () => cluster.egress.rules,
    schedule: (run) => setImmediate(run),
    local: () => cluster.local,
    members: () => failover.members,
    onResources: () => opening.serving?.changed(),
    onProgrammed: (types, atMs) => opening.serving?.programming.programmed(types, atMs),
    onPlanned: (services) => {
      traded.update(services, viewed.view);
      cluster.report(services);
      secrets.offer();
      failover.announce();
      sensing.services(services);
      telling.services(services);
      void opening.open();
    },
    onSeconds: (seconds) => metrics.observe('isthmus_translate_seconds', seconds),
    onPropagated: (seconds) => metrics.observe('isthmus_propagation_seconds', seconds),
    clock,
  });

  const stores = openStores({ config, credentials, clock, log, recordKey: () => keys.recordKey });
  const store = stores.shared;
  const records: Records = new Records({
    federation: {
      clusterset: config.clusterset,
      self: config.member,
      trustDomain: config.trustDomain,
      ...{ authorityKey: credentials.authorityKey, quota: config.quota },
      gatewayAccount: `${config.namespace}/${config.gateway.serviceAccount}`,
    },
    store,
    apart: stores.apart,
    clock,
    log,
    metrics,
    onChange: (change) => {
      const services = failover.records(change);
      if (services.size + change.members.size + change.signals.size > 0) engine.markRecords({ ...change, services });
      if (change.own.size > 0) cluster.report(change.own);
      if (change.members.size > 0) publishing.members(records.members);
      if (change.revocations) state.now('revocations');
      // Manifests that rise are the heartbeat of every peer: not worth writing everything each second.
      state.touch('records', change.services.size + change.own.size + change.members.size === 0);
    },
  });
  const publishing: Publishing = new Publishing({
    config,
    store: stores.own,
    keys: () => keys,
    authority: trust.authority,
    epochFloor: () => records.federation.seen(config.member)?.epoch ?? 0n,
    clock,
    rng,
    log,
    metrics,
    heads: () => ({ journal: failover.journaling.journal.head(), audit: sensing.auditing.journal.head() }),
    standing: () => ({ known: records.known, ...ownSingles(records.members.get(config.member)) }),
    onNamed: (services) => cluster.report(services),
    // The lease was ours and the store disagreed: another writer lives. Try again only when the lease says so anew.
    onFenced: () => clock.after(config.lease.ttlMs, () => cluster.leading && lead()),
  });
  const cluster: Cluster = new Cluster({
    config,
    kubeConfig: o.kubeConfig,
    clock,
    rng,
    log,
    identity: `${config.replica}-${randomBytes(4).toString('hex')}`,
    savedTokens: savedTokens?.payload,
    onChange: (change) => {
      opening.seen(change.policies);
      if (change.failoverPolicies) {
        failover.policies();
        telling.policies();
      }
      engine.markLocal(change);
      publishing.local(cluster.local, change, cluster.gatewayPods(), isDead);
      state.touch('cluster');
    },
    onGatewayHealth: (health) => {
      engine.setGatewayHealth(new Map(health));
      publishing.gateways(cluster.gatewayPods(), isDead);
    },
    onLead: (term) => {
      log('info', 'this replica writes', { term });
      lead();
      keeper.check();
    },
    // With the API server dark nobody can take the lease: who wrote goes on, and is fenced by the store if another does begin.
    onLost: (reason) => {
      if (reason !== 'expired') publishing.follow();
    },
    onTokens: () => state.touch('tokens'),
    said: () => ({ view: viewed.view, problemOf, own: publishing.shared(records.members.get(config.member)) }),
  });
  const failover: Failover = new Failover({
    config,
    ...{ recordKey: credentials.recordKey, seals: () => keys.seals, clock, rng, log, metrics },
    epoch: () => publishing.epoch,
    chosen: () => publishing.chosen,
    recordsKnown: () => records.known,
    rawMembers: () => records.members,
    local: () => cluster.local,
    readBackMs: () => publishing.readBackMs() ?? records.readBackMs(),
    dark: stores.dark,
    roundTrips: () => publishing.roundTrips(),
    receivingSpill: () => sensing.receivingSpill(),
    policySpec: () => records.federation.policySpec,
    anchors: () =>
      [...records.members].flatMap(([of, { journals }]) =>
        (journals ?? []).map((head) => ({ ...head, of, source: of === config.member ? 'own manifest' : of })),
      ),
    wake: () => engine.wake(),
    onServices: (services) => engine.markRecords({ services, members: new Set(), topology: new Set() }),
    save: (bytes) => disk.save('failover', bytes),
    announce: (announcement) => publishing.announce(announcement, cluster.local),
    beside: { api: cluster.api, mayShip: () => cluster.leading && keys.known },
  });
  const sensing: Sensing = new Sensing({
    config,
    authority: trust.authority,
    moreRoots: trust.moreRoots,
    failover,
    onRevocations: (peer, text) => records.learnRevocations(peer, text),
    chosen: () => publishing.chosen,
    view: () => viewed.view,
    local: () => cluster.local,
    gatewayPods: () => cluster.gatewayPods().filter(({ name }) => !isDead(name)),
    path: (member) => publishing.path(member),
    clusters: () => engine.tables.gateway.names(types.cluster),
    signing: { recordKey: credentials.recordKey, epoch: () => publishing.epoch },
    clock,
    rng,
    log,
    metrics,
  });
  const telling: Telling = new Telling({
    cluster: () => cluster,
    failover: () => failover,
    input: () => ({
      view: viewed.view,
      plan: engine.plan,
      verdicts: failover.deciding.verdicts,
      policies: failover.book.policies,
      nowMs: failover.deciding.scale.now(),
    }),
  });
  const state: StateKeeper = new StateKeeper({
    disk,
    clock,
    log,
    intervalMs: config.state.saveIntervalMs,
    sources: stateSources({ records, cluster, engine }),
  });
  const keys: MemberKeys = new MemberKeys({
    ...{ config, credentials, api: cluster.api, isWriter: () => publishing.leading },
    ...{ federation: records.federation, renewEtcd: stores.renew, onEtcd: stores.use, clock, rng, log },
    onKeys: () => {
      publishing.keys();
      keeper.check();
    },
  });
  const keeper: CertificateKeeper = new CertificateKeeper({
    config,
    api: cluster.api,
    authority: trust.authority,
    federationCa: () => keys.federationCa,
    saved: savedSecrets,
    isWriter: () => cluster.leading && keys.known,
    clock,
    rng,
    log,
    onCertificates: (found) => secrets.certificates(found),
  });

  /** Both in one turn: a leader withdraws what it does not itself want. */
  function lead(): void {
    publishing.lead();
    failover.announce(true);
  }

  function problemOf(key: string): ExportProblem | undefined {
    const { problems, services } = cluster.local;
    return problems.get(key) ?? publishing.problemOf(services.get(key), records.members.get(config.member)?.member);
  }

  function isDead(pod: string): boolean {
    return cluster.liveness.health.get(pod) === false;
  }

  const secrets = new OfferedSecrets({
    engine,
    meshRoots: trust.meshRoots,
    tradedRoots: trust.moreRoots,
    lists: { dir: config.mesh.cacertsDir, authority: trust.authority, clock, log, metrics },
    onChange: () => state.touch('gateways'),
  });

  const opening: Opening = new Opening({
    serving: {
      config,
      authority: trust.authority,
      issuers: trust.issuers,
      onIssued: trust.onIssued,
      engine,
      authenticate: (token) => cluster.tokens.review(token),
      isGatewayPod: (pod) => engine.gatewaysKnown && cluster.isGateway(pod),
      local: () => cluster.local,
      moreRoots: trust.moreRoots,
      reports: sensing.telemetry,
      onGatewayStreams: (streams) => cluster.gatewayStreams(streams),
      clock,
      rng,
      log,
      metrics,
    },
    engine,
    records,
    local: () => cluster.local,
    log,
    remember: () => {
      state.touch('cluster');
      return state.flush();
    },
    onFatal: o.onFatal,
  });

  const status = (): StatusReport =>
    facts({
      config,
      clock,
      store,
      records,
      publishing,
      cluster,
      view: () => viewed.view,
      plan: () => engine.plan,
      proxies: () => opening.serving?.proxies() ?? [],
      problemOf,
      savedAge,
      keys,
      problems: () =>
        [disk, failover, cluster, sensing.auditing, secrets, keys, trust, stores].flatMap((part) => part.problems()),
    });
  const savedAge = (): number | null => {
    const own = records.fromDisk ? null : state.ageSeconds();
    if (own !== null) return own;
    return savedRecords === undefined ? null : Math.max(0, (clock.wallMs() - savedRecords.savedWallMs) / 1000);
  };

  const routes = adminRoutes(
    answers({
      config,
      failover,
      // A dry run goes on over many turns, and the view is live.
      view: () => ({ ...viewed.view, members: new Map(viewed.view.members), services: new Map(viewed.view.services) }),
      plan: () => engine.plan,
      facts: status,
      trace: (request) => {
        const issuing = { config, clock, authority: trust.authority(), moreRoots: trust.moreRoots() };
        const now = { local: cluster.local, view: viewed.view, plan: engine.plan, gateways: cluster.gatewayPods() };
        return runTrace(request, { ...issuing, ...now, gatewayOnly: cluster.egress.restricts });
      },
      readBackMs: () => publishing.readBackMs() ?? records.readBackMs() ?? undefined,
      graySignal: (service) => sensing.graySignal(service),
      loads: () => sensing.loads.rates(clock.monotonicMs()),
      ...{ denials: () => sensing.denied(), egress: cluster.egress },
      chosen: () => publishing.chosen,
      clock,
      rng,
    }),
  );
  const admin: Route = (...a) =>
    trust.route(a[0]) ?? failover.journaling.route(...a) ?? sensing.auditing.route(...a) ?? routes.get(...a);
  const listening = () => opening.serving?.listening === true;
  const readiness = readinessOf({ config, engine, cluster, records, store, listening });
  const listeners = await startListening({ config, admin, post: routes.post, readiness, metrics });

  const forgotten = await failover.open(savedFailover?.payload);
  if (forgotten !== undefined) log('error', 'decisions of the last run cannot be read', { error: forgotten });
  records.restoreRevocations(savedMarks?.payload);
  if (savedRecords !== undefined) records.restore(savedRecords.payload);
  if (savedSecrets !== undefined) engine.setSecrets(savedSecrets);
  const savedLocal = savedCluster === undefined ? undefined : unpackLocal(savedCluster.payload);
  if (savedLocal !== undefined && records.known) {
    cluster.restore(savedLocal);
    log('info', 'serving from the last good state', { ageSeconds: savedAge() });
    engine.markLocal({ services: new Set(), pods: new Set(), policies: false, failoverPolicies: true });
  }
  records.start();
  const endUpkeep = startUpkeep({
    ...{ config, clock, metrics, engine, cluster, records, publishing },
    ...{ failover, sensing, opening, savedAge, keys, trust },
  });

  return {
    status,
    close: async () => {
      endUpkeep();
      engine.close();
      sensing.close();
      await failover.close();
      await publishing.leave(cluster.lastController());
      await opening.serving?.close(closeGraceMs);
      await sensing.auditing.close();
      await trust.close();
      await cluster.close();
      publishing.close();
      for (const part of [keeper, secrets, keys]) part.close();
      await state.close();
      records.close();
      await stores.close();
      await Promise.all(listeners.map((l) => l.close()));
    },
  };
};
