/**
 * A stand-in for ztunnel in dedicated mode, for machines that have none: same environment, same protocols, same servers,
 * and the same failings (no retry, a 10 s connect timeout, pools of 100 streams, RST_STREAM at the end of a double
 * tunnel). It is the lab's, never shipped. What it lacks: policies, waypoints, DNS, plaintext inbound, calls to pod IPs.
 */
import { createServer } from 'node:http';
import type { Clock } from '../../../src/core/clock.ts';
import type { Workload } from '../../../src/gen/istio/workload/workload_pb.ts';
import { types } from '../../../src/xds/resource.ts';
import { AdsClient } from './ads.ts';
import { OwnCertificate } from './certificate.ts';
import { readConfig } from './config.ts';
import { startInbound } from './inbound.ts';
import { Outbound } from './outbound.ts';
import { identityOfWorkload, MeshState } from './state.ts';

const clock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

const log = (line: string): void => {
  process.stdout.write(/^\d{4}-/.test(line) ? `${line}\n` : `${new Date().toISOString()} ${line}\n`);
};

const config = readConfig(process.env);
const state = new MeshState();
const certificate = new OwnCertificate(config, clock, log);
let inbound = false;

// Looked up again on every use would be a scan per connection; discovery is the only thing that changes it.
let self: Workload | undefined;

const outbound = new Outbound({
  state,
  clock,
  rng: Math.random,
  network: config.network,
  streamsMax: config.streamsMax,
  self: () => self,
  credentials: () => certificate.current,
  log,
});

const ads = new AdsClient(
  config,
  clock,
  (typeUrl, updates, removed) => {
    if (typeUrl !== types.address) return state.applyPolicies(updates, removed);
    const rejected = state.applyAddresses(updates, removed);
    self = state.workloadNamed(config.namespace, config.name, config.serviceAccount, config.nodeName);
    if (self !== undefined) certificate.want(identityOfWorkload(self));
    outbound.reconcile();
    return rejected;
  },
  log,
);

const tryInbound = (): void => {
  const first = certificate.current;
  if (first === undefined) {
    clock.after(20, tryInbound);
    return;
  }
  const host = process.env.INSTANCE_IP ?? '0.0.0.0';
  const options = { host, state, clock, self: () => self, credentials: () => certificate.current ?? first, log };
  startInbound(options).then(
    () => {
      inbound = true;
      log(`info inbound listener established address=${host}:15008`);
    },
    (error: Error) => {
      log(`error inbound listener error="${error.message}"`);
      process.exit(1);
    },
  );
};

const pendingTasks = (): string[] => [
  ...(ads.synced ? [] : ['state manager']),
  ...(certificate.current === undefined ? ['certificate'] : []),
  ...(inbound ? [] : ['inbound listener']),
];

const sayReady = (): void => {
  if (pendingTasks().length === 0) log('info readiness task complete, marking server ready');
  else clock.after(20, sayReady);
};

createServer((request, response) => {
  const pending = pendingTasks();
  const ready = request.url === '/healthz/ready' && pending.length === 0;
  response.writeHead(ready ? 200 : request.url === '/healthz/ready' ? 500 : 404);
  response.end(ready ? 'ready\n' : `not ready, pending: ${pending.join(', ')}\n`);
}).listen(15_021, '0.0.0.0');

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    outbound.close();
    process.exit(0);
  });
}

log(
  `info stand-in for ztunnel ${config.namespace}/${config.name}/${config.serviceAccount} network="${config.network}"`,
);
ads.start();
tryInbound();
sayReady();
