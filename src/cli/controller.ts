/** `isthmus controller`: the process of a controller pod. */
import { loadConfig } from '../config/load.ts';
import { loadCredentials } from '../controller/credentials.ts';
import { startController } from '../controller/start.ts';
import { IsthmusError } from '../core/errors.ts';
import { loadKubeConfig } from '../kube/client.ts';
import { realClock, realRng } from '../ops/clock.ts';
import { crashOnBugs } from '../ops/crash.ts';
import { openLog } from '../ops/log.ts';
import { openMetrics } from '../ops/metrics.ts';
import { version } from '../version.ts';

export const controller = async (options: { config?: string; set: string[] }): Promise<void> => {
  const config = loadConfig({ file: options.config, environment: process.env, sets: options.set });
  const log = openLog(config.log.level, { cluster: config.member, replica: config.replica });
  crashOnBugs(log);
  const credentials = loadCredentials(config);
  const kubeConfig = loadKubeConfig({ kubeconfig: config.kube.kubeconfig, context: config.kube.context });
  log('info', 'starting', { version, clusterset: config.clusterset });
  const end = (error: IsthmusError): never => {
    log('error', 'ending: cannot serve', { error });
    process.exit(error.exit);
  };
  const running = await startController({
    config,
    credentials,
    kubeConfig,
    clock: realClock,
    rng: realRng,
    log,
    metrics: openMetrics(version),
    onFatal: end,
  }).catch((error: unknown) => {
    // What has started already would keep the process alive.
    if (error instanceof IsthmusError) return end(error);
    throw error;
  });
  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) process.exit(1);
    stopping = true;
    log('info', 'shutting down', { signal });
    void running.close().then(() => process.exit(0));
  };
  process.on('SIGTERM', () => stop('SIGTERM'));
  process.on('SIGINT', () => stop('SIGINT'));
  await new Promise(() => {});
};
