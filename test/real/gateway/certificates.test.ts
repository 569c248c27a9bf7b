/** Certificates on disk, read by a real Envoy; and the bootstrap that gateways get, with the runner's parts in it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { toolPath } from '../../../scenarios/lab/tools.ts';
import type { Clock } from '../../../src/core/clock.ts';
import type { BootstrapFile } from '../../../src/gateway/envoy_process.ts';
import { type EnvoySlot, type GatewayRunner, runGateway } from '../../../src/gateway/runner.ts';
import { bootstrapFiles } from '../../../src/translate/envoy/bootstrap.ts';
import { createPki, type Pki } from '../../unit/hbone/pki.ts';
import { freePort, keepMigrationSetting, sleep, until } from './gateway_rig.ts';

const clock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (ms, fn) => {
    const timer = setTimeout(fn, ms);
    return { cancel: () => clearTimeout(timer) };
  },
};

const tlsListener = (port: number, slot: EnvoySlot): readonly BootstrapFile[] => {
  const secret = {
    '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret',
    name: 'own',
    tls_certificate: {
      certificate_chain: { filename: slot.files.certificate },
      private_key: { filename: slot.files.key },
    },
  };
  const context = {
    '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
    common_tls_context: {
      tls_certificate_sds_secret_configs: [
        {
          name: 'own',
          sds_config: { path_config_source: { path: join(slot.directory, 'own.json') }, resource_api_version: 'V3' },
        },
      ],
    },
  };
  const listener = {
    name: 'egress',
    address: { socket_address: { address: '127.0.0.1', port_value: port } },
    filter_chains: [
      {
        transport_socket: { name: 'envoy.transport_sockets.tls', typed_config: context },
        filters: [
          {
            name: 'envoy.filters.network.echo',
            typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo' },
          },
        ],
      },
    ],
  };
  return [
    { name: 'own.json', json: { resources: [secret] } },
    { name: 'bootstrap.json', json: { node: { id: 'n', cluster: 'c' }, static_resources: { listeners: [listener] } } },
  ];
};

const servedCertificate = (port: number): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    });
    socket.on('error', reject);
  });

let runner: GatewayRunner | undefined;
let runDir: string | undefined;
const logged: string[] = [];

const start = async (
  pki: Pki,
  lifeMs: number,
  listeners: string[],
  bootstrap: (slot: EnvoySlot) => readonly BootstrapFile[],
) => {
  runDir = mkdtempSync(join(tmpdir(), 'isthmus-gw-'));
  logged.length = 0;
  runner = await runGateway({
    envoy: await toolPath('envoy'),
    envoys: 2,
    concurrency: 1,
    runDir,
    healthAddress: '127.0.0.1:0',
    drainMs: 0,
    listeners,
    bootstrap,
    certificate: async () => {
      const { certificatePem, keyPem } = await pki.issue([
        'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-gateway',
      ]);
      return { cert: certificatePem, key: keyPem, roots: pki.rootPem, notAfterMs: Date.now() + lifeMs };
    },
    clock,
    rng: Math.random,
    log: (_level, message, fields) => logged.push(`${message} ${JSON.stringify(fields?.tail ?? '')}`),
  });
  return runner;
};

keepMigrationSetting();
afterEach(async () => {
  await runner?.stop();
  if (runDir !== undefined) rmSync(runDir, { recursive: true, force: true });
  runner = undefined;
});

describe('a renewed certificate', () => {
  it('is taken up by running Envoys, with no connection lost in between', async () => {
    const port = await freePort();
    const gateway = await start(await createPki(), 2_000, ['egress'], (slot) => tlsListener(port, slot));
    await until('ready', () => gateway.ready);
    const pids = gateway.pids;
    const seen = new Set<string>();
    for (const end = Date.now() + 4_000; Date.now() < end; await sleep(20)) seen.add(await servedCertificate(port));
    expect(seen.size).toBeGreaterThanOrEqual(3);
    expect(gateway.pids).toEqual(pids);
  });
});

describe('the gateways’ bootstrap', () => {
  it('starts with our parts in it, and waits unready while no controller answers', async () => {
    const controllers = [{ address: '127.0.0.1', port: await freePort() }];
    const gateway = await start(await createPki(), 60_000, ['egress', 'federation'], (slot) =>
      bootstrapFiles({
        nodeId: 'gateway~pod-0',
        cluster: 'east',
        admin: { pipe: '/replaced' },
        controllers,
        controllerIdentity: 'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-controller',
        files: slot.files,
        directory: slot.directory,
      }),
    );
    await until('both run', () => gateway.pids.every((pid) => pid !== undefined));
    await sleep(1_500);
    const response = await fetch(`http://${gateway.healthAddress}/readyz`);
    expect([response.status, await response.text()]).toEqual([503, 'not ready\nenvoy 0: starts\nenvoy 1: starts\n']);
    expect((await fetch(`http://${gateway.healthAddress}/livez`)).status).toBe(200);
    expect(logged.filter((line) => line.includes('ended'))).toEqual([]);
  });
});

describe('a bad start', () => {
  it('of an Envoy that refuses its bootstrap is tried again, ever slower', async () => {
    const gateway = await start(await createPki(), 60_000, ['egress'], () => [
      { name: 'bootstrap.json', json: { nonsense: true } },
    ]);
    const ends = () => logged.filter((line) => line.includes('envoy ended')).length;
    await until('each was tried several times', () => ends() >= 10);
    expect(gateway.ready).toBe(false);
    expect(logged.some((line) => line.includes('nonsense'))).toBe(true);
    // Without pauses they would end some twenty times a second each.
    const before = ends();
    await sleep(1_000);
    expect(ends() - before).toBeLessThan(8);
  });

  it('in a directory too deep for sockets, or on a taken port, is an error that says so', async () => {
    const pki = await createPki();
    const good = await start(pki, 60_000, [], () => [{ name: 'bootstrap.json', json: {} }]);
    const options = {
      ...{ envoy: 'envoy', envoys: 2, concurrency: 1, drainMs: 0, listeners: [], bootstrap: () => [] },
      ...{ clock, rng: Math.random, log: () => {} },
    };
    const deep = join(runDir!, 'x'.repeat(120));
    await expect(runGateway({ ...options, runDir: deep, healthAddress: '127.0.0.1:0' })).rejects.toThrow('runDir');
    await expect(runGateway({ ...options, runDir: runDir!, healthAddress: good.healthAddress })).rejects.toThrow(
      'cannot be bound',
    );
  });
});
