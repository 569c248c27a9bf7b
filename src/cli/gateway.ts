/** `isthmus gateway`: the process of a gateway pod. Gets its certificate from a controller and keeps two Envoys running. */
import { fetchCertificate, type WorkloadCertificate } from '../ca/client.ts';
import { type GatewayConfig, gatewaySchema } from '../config/gateway.ts';
import { loadWith } from '../config/load.ts';
import { runGateway } from '../gateway/runner.ts';
import { realClock, realRng } from '../ops/clock.ts';
import { crashOnBugs } from '../ops/crash.ts';
import { openLog } from '../ops/log.ts';
import { bootstrapFiles, gatewayIdVariable } from '../translate/envoy/bootstrap.ts';
import { listenerNames } from '../translate/envoy/resource_names.ts';
import { workloadId } from '../trust/spiffe.ts';

const split = (address: string): { address: string; port: number } => {
  const at = address.lastIndexOf(':');
  return { address: address.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(address.slice(at + 1)) };
};

/** Asks the controllers one after another: any of them can issue. */
const obtain = async (config: GatewayConfig, identity: string): Promise<WorkloadCertificate> => {
  let failure: unknown;
  for (const address of config.certificates) {
    try {
      return await fetchCertificate({
        address,
        serverName: config.controllerName,
        rootsFile: config.rootFile,
        tokenFile: config.tokenFile,
        identity,
        ttlS: 0,
        clock: realClock,
        rng: realRng,
        onCertificate: () => {},
        onError: () => {},
      });
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
};

export const gateway = async (options: { config?: string; set: string[] }): Promise<void> => {
  const config = loadWith(gatewaySchema, { file: options.config, environment: process.env, sets: options.set });
  const log = openLog(config.log.level, { cluster: config.member, pod: config.pod });
  crashOnBugs(log);
  const identity = workloadId(config.trustDomain, config.namespace, config.serviceAccount);
  const runner = await runGateway({
    envoy: config.envoy,
    envoys: config.envoys,
    concurrency: config.concurrency,
    runDir: config.runDir,
    healthAddress: config.healthAddress,
    drainMs: config.drainMs,
    listeners: Object.values(listenerNames),
    environment: { [gatewayIdVariable]: config.pod },
    bootstrap: ({ index, directory, files }) =>
      bootstrapFiles({
        nodeId: `${config.pod}~${index}`,
        cluster: config.member,
        admin: { pipe: `${directory}/admin.sock` },
        controllers: config.controllers.map(split),
        controllerIdentity: workloadId(config.trustDomain, config.namespace, 'isthmus-controller'),
        files,
        directory,
      }),
    certificate: () => obtain(config, identity),
    clock: realClock,
    rng: realRng,
    log,
  });
  let stopping = false;
  const stop = (signal: string) => {
    log('info', stopping ? 'ending at once' : 'draining', { signal });
    stopping = true;
    void runner.stop().then(() => process.exit(0));
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
  await new Promise(() => {});
};
