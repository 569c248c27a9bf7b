/**
 * How to connect and as whom, decided anew for each request: tokens and certificates on disk rotate, exec plugins renew.
 *
 * Of client-node this uses the configuration and the authentication; not its agents, which it caches by name and so keeps
 * after a certificate has changed. Short requests share a pool that lives as long as its TLS material.
 */
import { createHash } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { IsthmusError } from '../core/errors.ts';

export interface Connection {
  readonly headers: http.OutgoingHttpHeaders;
  readonly options: https.RequestOptions;
  readonly pooled: http.Agent;
}

const tlsOf = (made: https.RequestOptions): https.AgentOptions => {
  const { ca, cert, key, servername, rejectUnauthorized } = made;
  return {
    ...(ca !== undefined && { ca }),
    ...(cert !== undefined && { cert }),
    ...(key !== undefined && { key }),
    ...(servername !== undefined && { servername }),
    ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
  };
};

/** Authentication for each request anew: tokens and certificates on disk rotate. A pool lasts as long as its TLS material. */
export const openConnections = (kubeConfig: KubeConfig, secure: boolean) => {
  const cluster = kubeConfig.getCurrentCluster();
  let pool: { id: string; agent: http.Agent } | undefined;
  const connection = async (): Promise<Connection> => {
    const made: https.RequestOptions = {};
    try {
      await kubeConfig.applyToHTTPSOptions(made);
    } catch (cause) {
      throw new IsthmusError('kube/config', `the credentials of the kubeconfig cannot be used: ${String(cause)}`, {
        hint: 'check the user of the current context',
        cause,
      });
    }
    const { agent, auth } = made;
    const headers = made.headers as Record<string, string> | undefined;
    const tls = tlsOf(made);
    const shared = { ...(auth ? { auth } : {}) };
    if (cluster?.proxyUrl) {
      return { headers: { ...headers }, options: { ...shared, agent }, pooled: agent as http.Agent };
    }
    const id = createHash('sha256');
    for (const part of [tls.ca, tls.cert, tls.key, tls.servername]) id.update(`${part ?? ''}\0`);
    const digest = id.digest('hex');
    if (pool?.id !== digest) {
      // The old pool drains by itself: its idle sockets close at the server's or its own timeout.
      const kept = { keepAlive: true, maxSockets: 16, timeout: 60_000 };
      pool = { id: digest, agent: secure ? new https.Agent({ ...kept, ...tls }) : new http.Agent(kept) };
    }
    return { headers: { ...headers }, options: { ...shared, ...(secure ? tls : {}) }, pooled: pool.agent };
  };
  return { connection, close: () => pool?.agent.destroy() };
};
