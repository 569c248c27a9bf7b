/** What a controller answers to those who must not get anything from it, on each of its ports. */
import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile, stat } from 'node:fs/promises';
import { request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { BasicConstraintsExtension } from '@peculiar/x509';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeRequest } from '../../src/ca/client.ts';
import { limits } from '../../src/core/limits.ts';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '../../src/gen/istio/ca/citadel_pb.ts';
import type { TestCluster } from '../real/controller/cluster.ts';
import { Harness } from '../real/controller/harness.ts';
import { controllerName, TestProxy } from '../real/controller/proxy.ts';
import { fetchText } from '../real/controller/replica.ts';
import { eventually } from '../real/kube/objects.ts';
import { newTestCa } from '../real/pki.ts';
import { derOf, hugeRsaKey, makeCsr, makeRsaCsr, pemOf, tamper } from '../unit/ca/requests.ts';

const namespace = 'shop';
const own = 'spiffe://cluster.local/ns/shop/sa/client';

let harness: Harness;
let west: TestCluster;
let token: string;
let roots: string;
/** Connections on which nothing is ever said. */
let silent: readonly Socket[];

beforeAll(async () => {
  harness = await Harness.start({ clusters: ['west'], replicas: 1 });
  west = harness.cluster('west');
  await west.pod(namespace, 'client', 'client');
  await west.pod(namespace, 'other', 'other');
  token = (await west.token(namespace, 'client', 'client', 'istio-ca')).token;
  roots = await west.root;
  const { token: port, gateway } = west.first.ports;
  silent = Array.from({ length: 300 }, (_, i) => connect(i % 2 === 0 ? port : gateway, '127.0.0.1'));
  for (const socket of silent) socket.on('error', () => {}).resume();
  await Promise.all(silent.map((socket) => once(socket, 'connect')));
});
afterAll(() => harness?.stop());

const metric = async (name: string): Promise<number> => {
  const { text } = await fetchText(west.first.ports.metrics, '/metrics');
  return Number(
    text
      .split('\n')
      .find((l) => l.startsWith(`${name} `))
      ?.slice(name.length) ?? 0,
  );
};
const denied = (code: string) => `isthmus_xds_denied_total{code="${code}"}`;
/** Runs an attack that must be counted under this name. */
const counted = async (name: string, attack: () => Promise<unknown>): Promise<void> => {
  const before = await metric(name);
  await attack();
  await eventually(`${name} is counted`, async () => (await metric(name)) > before, 5_000);
};

const ask = (
  csr: string,
  more: { readonly token?: string; readonly impersonate?: string } = {},
): Promise<{ readonly code: number; readonly details: string; readonly chain: readonly string[] }> => {
  const client = new Client(`127.0.0.1:${west.first.ports.token}`, credentials.createSsl(Buffer.from(roots)), {
    'grpc.ssl_target_name_override': controllerName,
    'grpc.default_authority': controllerName,
    'grpc.use_local_subchannel_pool': 1,
  });
  const metadata = new Metadata();
  const bearer = more.token ?? token;
  if (bearer !== '') metadata.set('authorization', `Bearer ${bearer}`);
  const message = create(IstioCertificateRequestSchema, {
    csr,
    ...(more.impersonate === undefined ? {} : { metadata: { ImpersonatedIdentity: more.impersonate } }),
  });
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      '/istio.v1.auth.IstioCertificateService/CreateCertificate',
      (value: typeof message) => Buffer.from(toBinary(IstioCertificateRequestSchema, value)),
      (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes),
      message,
      metadata,
      { deadline: Date.now() + 10_000 },
      (error: ServiceError | null, response) => {
        client.close();
        resolve({ code: error?.code ?? 0, details: error?.details ?? '', chain: response?.certChain ?? [] });
      },
    );
  });
};

describe('a request for a certificate', () => {
  const swapped = async (): Promise<string> => {
    const [one, two] = [await makeCsr([own]), await makeCsr([own])];
    return tamper(one, (request) => {
      tamper(two, (other) => {
        request.signature = other.signature;
      });
    });
  };
  const attacks: readonly (readonly [string, () => Promise<string>, string])[] = [
    ['with two URI names', () => makeCsr([own, 'spiffe://cluster.local/ns/shop/sa/other']), 'csr/denied'],
    ['for another namespace', () => makeCsr(['spiffe://cluster.local/ns/bank/sa/client']), 'csr/denied'],
    ['for the gateways', () => makeCsr(['spiffe://cluster.local/ns/isthmus-system/sa/isthmus-gateway']), 'csr/denied'],
    ['for another trust domain', () => makeCsr(['spiffe://evil.example/ns/shop/sa/client']), 'csr/denied'],
    ['for a CA', () => makeCsr([own], { extensions: [new BasicConstraintsExtension(true, 1, true)] }), 'csr/denied'],
    ['with a DNS name', () => makeCsr([own], { names: [{ type: 'dns', value: controllerName }] }), 'csr/denied'],
    ['whose signature is another’s', swapped, 'csr/malformed'],
    ['with an RSA key', () => makeRsaCsr(2_048), 'csr/key'],
    [
      'with an RSA key of 16k bits',
      async () =>
        tamper(await makeRsaCsr(2_048), (r) => {
          r.certificationRequestInfo.subjectPKInfo.subjectPublicKey = hugeRsaKey(16_384);
        }),
      'csr/key',
    ],
    ['cut short', async () => pemOf(derOf(await makeCsr([own])).slice(0, 90)), 'csr/malformed'],
    ['of 200 kB', async () => 'x'.repeat(200_000), 'csr/malformed'],
  ];

  it.each(attacks)('%s is refused, and counted', async (_what, csr, code) => {
    // A caller of its own each time: the bucket is another attack.
    const name = `a-${Math.random().toString(36).slice(2, 8)}`;
    await west.pod(namespace, name, 'client');
    const { token: fresh } = await west.token(namespace, 'client', name, 'istio-ca');
    const text = await csr();
    const issued = await metric('isthmus_certificates_total{result="issued"}');
    await counted(denied(code), async () => {
      const answer = await ask(text, { token: fresh });
      expect(answer.details).toContain(code);
      expect(answer.chain).toEqual([]);
    });
    expect(await metric('isthmus_certificates_total{result="issued"}')).toBe(issued);
  });

  it('gets the caller’s identity and nothing that it asked for beyond it', async () => {
    const { chain } = await ask(await makeCsr([own], { subject: 'CN=admin,O=system:masters' }));
    const leaf = new X509Certificate(chain[0]!);
    expect([leaf.subjectAltName, leaf.ca, leaf.subject]).toEqual([`URI:${own}`, false, undefined]);
  });

  it('in another’s name, by who is no node’s ztunnel, is refused', async () => {
    const impersonate = 'spiffe://cluster.local/ns/shop/sa/other';
    const { csr } = await makeRequest(impersonate);
    await counted(denied('csr/denied'), async () =>
      expect((await ask(csr, { impersonate })).code).toBe(status.PERMISSION_DENIED),
    );
  });

  it('without a token, with one of another audience, and with one that is made up', async () => {
    const { csr } = await makeRequest(own);
    const wrong = (await west.token(namespace, 'client', 'client')).token;
    const forged = `${token.slice(0, token.lastIndexOf('.'))}.${Buffer.alloc(256, 7).toString('base64url')}`;
    for (const bad of ['', wrong, forged, 'x'.repeat(100_000)]) {
      await counted(denied('auth/unauthenticated'), async () => {
        const answer = await ask(csr, { token: bad });
        expect(answer.chain).toEqual([]);
        expect([status.UNAUTHENTICATED, status.RESOURCE_EXHAUSTED, status.INTERNAL]).toContain(answer.code);
      }).catch((error: Error) => {
        // Headers that large end the call below us.
        if (bad.length < 50_000) throw error;
      });
    }
  });

  it('in a loop is slowed down for who asks in a loop, and for nobody else', async () => {
    const answers = await Promise.all(Array.from({ length: 60 }, async () => ask(await makeCsr([own]))));
    const refused = answers.filter((a) => a.code === status.RESOURCE_EXHAUSTED);
    expect(refused.length).toBeGreaterThan(40);
    const other = (await west.token(namespace, 'other', 'other', 'istio-ca')).token;
    const { csr } = await makeRequest('spiffe://cluster.local/ns/shop/sa/other');
    expect((await ask(csr, { token: other })).chain.length).toBeGreaterThan(1);
    expect(await metric('isthmus_certificates_total{result="csr/rate"}')).toBeGreaterThan(40);
  });
});

describe('discovery', () => {
  const ended = async (proxy: TestProxy, port: number): Promise<{ code: number; details: string }> => {
    proxy.connect(port);
    await eventually('it is ended', () => proxy.ended !== undefined);
    const end = proxy.ended!;
    expect(proxy.received).toEqual([]);
    proxy.close();
    return end;
  };
  const ztunnel = (nodeId: string, as: string | undefined = token): TestProxy =>
    new TestProxy({ nodeId, role: 'ztunnel', roots, ...(as === undefined ? {} : { token: as }) });
  const node = (pod: string) => `ztunnel~10.0.0.1~${pod}.${namespace}~${namespace}.svc.cluster.local`;

  it('is refused without a token, and to another pod’s name', async () => {
    const { token: port } = west.first.ports;
    const nobody = new TestProxy({ nodeId: node('client'), role: 'ztunnel', roots });
    await counted(denied('auth/unauthenticated'), async () =>
      expect((await ended(nobody, port)).code).toBe(status.UNAUTHENTICATED),
    );
    const end = await ended(ztunnel(node('other')), port);
    expect(end.details).toContain('xds/node-mismatch');
    expect((await ended(ztunnel('x'.repeat(5_000)), port)).details).toMatch(/xds\/(malformed|node-mismatch)/);
  });

  it('of gateways is refused to every certificate but theirs, and to their name by another CA', async () => {
    const { gateway: port } = west.first.ports;
    const stranger = await newTestCa('stranger');
    const gatewayId = 'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-gateway';
    const forged = await stranger.issue({ commonName: 'gw', uris: [gatewayId] });
    const { keyPem, csr } = await makeRequest('spiffe://cluster.local/ns/shop/sa/other');
    await west.pod(namespace, 'other-2', 'other');
    const other = (await west.token(namespace, 'other', 'other-2', 'istio-ca')).token;
    const { chain } = await ask(csr, { token: other });
    const gateway = (certificate?: { cert: string; key: string }) =>
      new TestProxy({
        nodeId: 'isthmus-gateway-1~1',
        role: 'gateway',
        roots,
        ...(certificate === undefined ? {} : { certificate }),
      });
    const workload = { cert: chain.slice(0, -1).join(''), key: keyPem };
    await counted(denied('auth/denied'), async () =>
      expect((await ended(gateway(workload), port)).code).toBe(status.PERMISSION_DENIED),
    );
    for (const certificate of [undefined, { cert: forged.cert.toString(), key: forged.key.toString() }]) {
      // The handshake itself fails: no stream, and nothing is received.
      const proxy = gateway(certificate);
      proxy.connect(port);
      await eventually('it is refused', () => proxy.ended !== undefined || proxy.received.length > 0, 10_000).catch(
        () => {},
      );
      expect(proxy.received).toEqual([]);
      proxy.close();
    }
  });

  it('does not serve old TLS', async () => {
    const { token: port, gateway } = west.first.ports;
    for (const at of [port, gateway]) {
      const error = await new Promise<Error | undefined>((resolve) => {
        const socket = connectTls({
          host: '127.0.0.1',
          port: at,
          ca: roots,
          maxVersion: 'TLSv1.2',
          checkServerIdentity: () => undefined,
        });
        socket.once('error', resolve);
        socket.once('secureConnect', () => resolve(undefined));
      });
      expect(error?.message).toMatch(/version|alert|protocol/i);
    }
  });
});

describe('the ports for people', () => {
  const post = (headers: Record<string, string>, body: string, port = west.first.ports.admin): Promise<number> =>
    new Promise((resolve, reject) => {
      const call = request(
        { host: '127.0.0.1', port, path: '/v1/commands', method: 'POST', headers, agent: false },
        (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        },
      );
      call.on('error', reject);
      call.end(body);
    });
  const freeze = JSON.stringify({ kind: 'freeze', author: 'mallory', reason: 'because' });
  const json = { 'content-type': 'application/json' };

  it('take no command from a page in a browser, nor over another name', async () => {
    expect(await post(json, freeze)).toBe(403);
    expect(await post({ ...json, 'x-isthmus-cli': '1', origin: 'https://evil.example' }, freeze)).toBe(403);
    expect(await post({ ...json, 'x-isthmus-cli': '1', host: 'evil.example' }, freeze)).toBe(403);
    expect(await post({ 'content-type': 'text/plain', 'x-isthmus-cli': '1' }, freeze)).toBe(415);
    expect(await post({ ...json, 'x-isthmus-cli': '1' }, 'x'.repeat(1_000_000)).catch(() => 413)).toBe(413);
    const seen = await west.first.status();
    expect(JSON.stringify(seen.failover ?? {})).not.toContain('mallory');
  });

  it('change nothing and tell no more than they should elsewhere', async () => {
    const { metrics, health } = west.first.ports;
    for (const port of [metrics, health]) expect(await post({ ...json, 'x-isthmus-cli': '1' }, freeze, port)).toBe(405);
    for (const port of [metrics, health]) {
      for (const path of ['/v1/status', '/v1/journal', '/debug/pprof', '/../../etc/passwd', '/%2e%2e/etc']) {
        expect((await fetchText(port, path)).status, path).toBeGreaterThanOrEqual(400);
      }
    }
  });
});

/** Everything secret that the controller was given, as text that could appear somewhere. */
const secrets = async (): Promise<ReadonlyMap<string, string>> => {
  const found = new Map<string, string>();
  const files = [
    ...['record-key.pem', 'federation-ca-key.pem', 'etcd-client-key.pem'].map((f) => join(west.memberDir, f)),
    join(west.dir, 'cacerts', 'ca-key.pem'),
  ];
  for (const file of files) {
    const body = (await readFile(file, 'utf8')).split('\n').filter((l) => l !== '' && !l.startsWith('-----'));
    const der = Buffer.from(body.join(''), 'base64');
    // The part that is no algorithm's name, in the spellings in which it could get out.
    const secret = der.subarray(Math.max(0, der.length - 40), der.length - 4);
    found.set(`${file} as text`, body.at(-1)!.slice(0, 20));
    for (const spelling of ['hex', 'base64', 'base64url'] as const)
      found.set(`${file} as ${spelling}`, secret.toString(spelling).slice(4, 28));
  }
  const kubeconfig = await readFile(join(west.dir, 'controller.kubeconfig'), 'utf8');
  found.set('the controller’s token', /"token": ?"([^"]+)"/.exec(kubeconfig)![1]!.slice(-40));
  found.set('a pod’s token', token.slice(-40));
  return found;
};

describe('who connects and says nothing', () => {
  it('is sent away', async () => {
    const all = () => silent.every((socket) => socket.closed || socket.destroyed);
    await eventually('all are closed', all, limits.tlsHandshakeTimeoutMs + 5_000);
  });
});

describe('a secret', () => {
  it('is in no log, answer, metric, journal, saved state or process argument', async () => {
    await west.first.stop();
    west.first.start(['log.level=trace']);
    await west.first.ready();
    // What could make it say something: good and bad calls, errors, commands.
    await ask((await makeRequest(own)).csr);
    await ask('nonsense');
    await ask((await makeRequest(own)).csr, { token: `${token}x` });
    await post({ author: 'kim' });
    const { admin, metrics, health } = west.first.ports;
    const pages = await Promise.all([
      ...['/v1/status', '/v1/decisions', '/v1/journal', '/v1/journal/export', '/v1/journal/anchors', '/nothing'].map(
        (p) => fetchText(admin, p),
      ),
      fetchText(metrics, '/metrics'),
      fetchText(health, '/readyz?verbose'),
    ]);
    const places = new Map<string, string>([
      ['the log', west.first.lines.map((line) => JSON.stringify(line)).join('\n') + west.first.log()],
      ['an answer', pages.map((p) => p.text).join('\n')],
      ['the arguments', await readFile(`/proc/${west.first.pid}/cmdline`, 'latin1')],
      ['the environment', await readFile(`/proc/${west.first.pid}/environ`, 'latin1')],
      ['the state', await contents(west.first.stateDir)],
    ]);
    expect(places.get('the log')!.length).toBeGreaterThan(1_000);
    expect(places.get('the state')!.length).toBeGreaterThan(100);
    const leaks: string[] = [];
    for (const [what, text] of await secrets()) {
      expect(text.length, what).toBeGreaterThanOrEqual(16);
      for (const [place, all] of places) if (all.includes(text)) leaks.push(`${what} is in ${place}`);
    }
    expect(leaks).toEqual([]);
  });

  const post = (body: object) =>
    new Promise<void>((resolve) => {
      const call = request(
        {
          host: '127.0.0.1',
          port: west.first.ports.admin,
          path: '/v1/commands',
          method: 'POST',
          headers: { 'x-isthmus-cli': '1', 'content-type': 'application/json', authorization: `Bearer ${token}` },
        },
        (r) => {
          r.resume();
          r.on('end', resolve);
        },
      );
      call.on('error', () => resolve());
      call.end(JSON.stringify(body));
    });

  it('is readable by its owner alone, where the controller writes', async () => {
    const open: string[] = [];
    for (const name of await readdir(west.first.stateDir, { recursive: true })) {
      const { mode } = await stat(join(west.first.stateDir, name));
      if ((mode & 0o077) !== 0) open.push(`${name} ${(mode & 0o777).toString(8)}`);
    }
    expect(open).toEqual([]);
  });
});

const contents = async (dir: string): Promise<string> => {
  const names = await readdir(dir, { recursive: true, withFileTypes: true });
  const texts = names.filter((n) => n.isFile()).map((n) => readFile(join(n.parentPath, n.name), 'latin1'));
  return (await Promise.all(texts)).join('\n');
};
