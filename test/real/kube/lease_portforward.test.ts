/** The Lease and the port-forward over a real API server. */
import { createServer, request } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { openKubeApi } from '../../../src/kube/api.ts';
import { startElection } from '../../../src/kube/lease.ts';
import { openPortForward } from '../../../src/kube/portforward.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { newTestCa } from '../pki.ts';
import { startKubelet } from './kubelet.ts';
import { eventually, world } from './objects.ts';
import { startRelay } from './relay.ts';

const system = 'isthmus-system';
let server: ApiServer;
let make: ReturnType<typeof world>;
const opened: { close(): unknown }[] = [];
const keep = <T extends { close(): unknown }>(made: T): T => {
  opened.push(made);
  return made;
};
const log = () => {};

beforeAll(async () => {
  server = await startApiServer({ authorization: 'RBAC' });
  make = world(server);
  await make.namespace(system);
});
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});
afterAll(async () => {
  await server?.stop();
});

describe('the writer’s lease', () => {
  test('moves when the leader cannot reach the API, and when it leaves', async () => {
    const relay = keep(await startRelay(server.port));
    const elect = (identity: string, port: number) => {
      const events: string[] = [];
      const api = keep(openKubeApi(server.configFor({ port }), realClock));
      const election = startElection({
        api,
        clock: realClock,
        log,
        namespace: system,
        name: 'isthmus-writer',
        identity,
        ttlMs: 2_000,
        renewMs: 400,
        onLead: (term) => events.push(`lead ${term}`),
        onLost: (reason) => events.push(`lost ${reason}`),
      });
      keep(election);
      return { election, events };
    };
    const a = elect('a', relay.port);
    await eventually('a leads', () => a.election.leading());
    const b = elect('b', server.port);
    await eventually('b knows', () => b.election.holder() === 'a');
    relay.mode('hole');
    await eventually('a fenced itself', () => a.events.includes('lost expired'));
    expect(b.election.leading()).toBe(false);
    await eventually('b leads', () => b.election.leading());
    expect(a.election.leading()).toBe(false);
    relay.mode('pass');
    relay.cut();
    await eventually('a sees b', () => a.election.holder() === 'b');
    expect(a.election.leading()).toBe(false);
    await b.election.close();
    expect(b.events.at(-1)).toBe('lost closed');
    await eventually('a leads again', () => a.election.leading(), 1_500);
    expect(a.events).toEqual(['lead 1', 'lost expired', 'lost taken', 'lead 3']);
  });
});

describe('port-forward', () => {
  const unprivileged = async (): Promise<string> => {
    const accounts = `/api/v1/namespaces/${system}/serviceaccounts`;
    await make.create(accounts, { metadata: { name: 'nobody' } });
    const spec = { expirationSeconds: 600 };
    const kind = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec };
    return (await server.call<{ status: { token: string } }>('POST', `${accounts}/nobody/token`, kind)).status.token;
  };

  test('carries HTTP to a port of a pod, and names what is wrong', async () => {
    const target = createServer((incoming, answer) => {
      let bytes = 0;
      incoming.on('data', (chunk) => {
        bytes += chunk.length;
      });
      incoming.on('end', () => answer.end(JSON.stringify({ path: incoming.url, bytes, pad: 'x'.repeat(200_000) })));
    });
    await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
    keep(target);
    const targetPort = (target.address() as { port: number }).port;
    const issued = await (await newTestCa('kubelet')).issue({ commonName: 'kubelet', ips: ['127.0.0.1'] });
    const kubelet = keep(await startKubelet({ key: issued.key.toString(), cert: issued.cert.toString() }));
    await make.node('fwd');
    await server.call(
      'PATCH',
      '/api/v1/nodes/fwd/status',
      {
        status: {
          addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
          daemonEndpoints: { kubeletEndpoint: { Port: kubelet.port } },
        },
      },
      'application/merge-patch+json',
    );
    await make.pod(system, 'isthmus-controller-0', 'fwd', '127.0.0.1');
    const forward = keep(
      await openPortForward({
        kubeConfig: server.kubeConfig,
        namespace: system,
        pod: 'isthmus-controller-0',
        port: targetPort,
      }),
    );
    const ask = (url: string, body = '') =>
      new Promise<{ path: string; bytes: number; pad: string }>((resolve, reject) => {
        const call = request(url, { method: 'POST', agent: false }, (response) => {
          let text = '';
          response.on('data', (chunk) => {
            text += chunk;
          });
          response.on('end', () => resolve(JSON.parse(text)));
          response.on('error', reject);
        });
        call.on('error', reject);
        call.end(body);
      });
    const [one, two] = await Promise.all([
      ask(`${forward.url}/status`),
      ask(`${forward.url}/trace`, 'y'.repeat(20_000)),
    ]);
    expect(one).toMatchObject({ path: '/status', bytes: 0 });
    expect(two).toMatchObject({ path: '/trace', bytes: 20_000 });
    expect(two.pad.length).toBe(200_000);
    const nowhere = keep(
      await openPortForward({ kubeConfig: server.kubeConfig, namespace: system, pod: 'none', port: 15_000 }),
    );
    await expect(ask(nowhere.url)).rejects.toThrow();
    await eventually('the reason', () => nowhere.lastError !== undefined);
    expect(nowhere.lastError).toMatchObject({ code: 'kube/not-found' });
    const denied = keep(
      await openPortForward({
        kubeConfig: server.configFor({ token: await unprivileged() }),
        namespace: system,
        pod: 'isthmus-controller-0',
        port: 15_000,
      }),
    );
    await expect(ask(denied.url)).rejects.toThrow();
    await eventually('the reason', () => denied.lastError !== undefined);
    expect(denied.lastError).toMatchObject({ code: 'kube/denied' });
  });
});
