/** The controller's HTTP ports: the admin API, its health, its metrics. */
import type { Config } from '../config/controller.ts';
import { type HttpListener, healthRoute, listenHttp, metricsRoute, type Route } from '../ops/http.ts';
import type { Metrics } from '../ops/metrics.ts';

export interface ListeningOptions {
  readonly config: Config;
  readonly admin: Route;
  readonly post: Parameters<typeof listenHttp>[2];
  readonly readiness: Parameters<typeof healthRoute>[0];
  readonly metrics: Metrics;
}

/** All of them, or an error: an address that another has. */
export const startListening = ({
  config,
  admin,
  post,
  readiness,
  metrics,
}: ListeningOptions): Promise<HttpListener[]> =>
  Promise.all([
    listenHttp(config.listen.adminAddress, admin, post),
    listenHttp(config.listen.healthAddress, healthRoute(readiness)),
    listenHttp(config.listen.metricsAddress, metricsRoute(metrics)),
  ]);
