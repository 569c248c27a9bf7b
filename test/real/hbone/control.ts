/**
 * A control plane of a hundred lines for the ztunnel rig, and gateways beside it. Runs in a namespace of its own and is
 * told what to serve by JSON lines on stdin: views by pod name (Address resources, encoded), and what each gateway does.
 */
import 'reflect-metadata';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { type handleBidiStreamingCall, type handleUnaryCall, Server, ServerCredentials } from '@grpc/grpc-js';
import * as x509 from '@peculiar/x509';
import { makeCrl } from '../../../src/ca/crl.ts';
import {
  type DeltaDiscoveryRequest,
  DeltaDiscoveryRequestSchema,
  type DeltaDiscoveryResponse,
  DeltaDiscoveryResponseSchema,
} from '../../../src/gen/envoy/service/discovery/v3/discovery_pb.ts';
import {
  type IstioCertificateRequest,
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from '../../../src/gen/istio/ca/citadel_pb.ts';
import { serveHbone } from '../../../src/hbone/server.ts';
import { splice } from '../../../src/hbone/splice.ts';
import { types } from '../../../src/xds/resource.ts';
import { createPki } from '../../unit/hbone/pki.ts';

const [host = '', port = '', rootPath = '', serverName = ''] = process.argv.slice(2);
const say = (line: Record<string, unknown>): void => {
  process.stdout.write(`${JSON.stringify(line)}\n`);
};

type Held = Map<string, { version: string; bytes: Uint8Array }>;
const views = new Map<string, Held>();
/** Pod to the number of its newest view. */
const serials = new Map<string, number>();
const pushes = new Set<() => void>();
const streams = new Set<() => void>();
let nonce = 0;

const pki = await createPki('rig');
writeFileSync(rootPath, pki.rootPem);
/** Workloads of the far cluster are under a CA of their own, as those of a member are. */
const farCa = await pki.intermediate('far-ca');
const isFar = (identity: string): boolean => identity.endsWith('/sa/far');

type Ads = handleBidiStreamingCall<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
const ads: Ads = (call) => {
  let pod = '';
  let subscribed = false;
  const sent = new Map<string, string>();
  const respond = (
    typeUrl: string,
    resources: [string, { version: string; bytes: Uint8Array }][],
    removedResources: string[],
  ): void => {
    nonce += 1;
    const init: MessageInitShape<typeof DeltaDiscoveryResponseSchema> = {
      typeUrl,
      nonce: String(nonce),
      removedResources,
      resources: resources.map(([name, { version, bytes }]) => ({
        name,
        version,
        resource: { typeUrl, value: bytes },
      })),
    };
    call.write(create(DeltaDiscoveryResponseSchema, init));
  };
  const push = (): void => {
    if (!subscribed) return;
    const view: Held = views.get(pod) ?? new Map();
    const changed = [...view].filter(([name, { version }]) => sent.get(name) !== version);
    const removed = [...sent.keys()].filter((name) => !view.has(name));
    for (const [name, { version }] of changed) sent.set(name, version);
    for (const name of removed) sent.delete(name);
    respond(types.address, changed, removed);
    say({ event: 'push', pod, nonce: String(nonce), serial: serials.get(pod) });
  };
  pushes.add(push);
  const drop = (): void => {
    call.end();
  };
  streams.add(drop);
  call.on('data', (request: DeltaDiscoveryRequest) => {
    if (request.node !== undefined) pod = request.node.id.split('~')[2]?.split('.')[0] ?? '';
    if (request.responseNonce !== '') {
      const detail = request.errorDetail?.message;
      if (request.typeUrl === types.address) {
        say({ event: detail === undefined ? 'ack' : 'nack', pod, detail, nonce: request.responseNonce });
      }
      return;
    }
    const held = Object.entries(request.initialResourceVersions);
    say({
      event: 'subscribe',
      pod,
      type: request.typeUrl.split('.').at(-1),
      held: held.length,
      token: call.metadata.get('authorization')[0],
    });
    if (request.typeUrl !== types.address) {
      respond(request.typeUrl, [], []);
      return;
    }
    for (const [name, version] of held) sent.set(name, version);
    subscribed = true;
    push();
  });
  const over = (): void => {
    pushes.delete(push);
    streams.delete(drop);
    call.end();
  };
  call.on('end', over);
  call.on('error', over);
  call.on('cancelled', over);
};

const certificate: handleUnaryCall<IstioCertificateRequest, IstioCertificateResponse> = (call, callback) => {
  const csr = new x509.Pkcs10CertificateRequest(call.request.csr);
  const raw = csr.extensions.find(({ type }) => type === '2.5.29.17')?.rawData;
  const names = raw === undefined ? [] : new x509.SubjectAlternativeNameExtension(raw).names.items;
  const identity = names.find(({ type }) => type === 'url')?.value ?? '';
  say({ event: 'csr', identity, subject: csr.subject, names: names.length });
  const [by, between] = isFar(identity) ? [farCa, [farCa.certificatePem]] : [pki, []];
  Promise.all([csr.verify(), by.sign(csr.publicKey, identity, 3_600_000)]).then(
    ([valid, leaf]) => {
      if (!valid) callback({ code: 3, details: 'bad signature' });
      else
        callback(null, create(IstioCertificateResponseSchema, { certChain: [`${leaf}\n`, ...between, pki.rootPem] }));
    },
    (error: Error) => callback({ code: 13, details: error.message }),
  );
};

const bytesOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes);
const server = new Server();
server.addService(
  {
    deltas: {
      path: '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
      requestStream: true,
      responseStream: true,
      requestSerialize: (value: DeltaDiscoveryRequest) => bytesOf(toBinary(DeltaDiscoveryRequestSchema, value)),
      requestDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryRequestSchema, bytes),
      responseSerialize: (value: DeltaDiscoveryResponse) => bytesOf(toBinary(DeltaDiscoveryResponseSchema, value)),
      responseDeserialize: (bytes: Buffer) => fromBinary(DeltaDiscoveryResponseSchema, bytes),
    },
    certificate: {
      path: '/istio.v1.auth.IstioCertificateService/CreateCertificate',
      requestStream: false,
      responseStream: false,
      requestSerialize: (value: IstioCertificateRequest) => bytesOf(toBinary(IstioCertificateRequestSchema, value)),
      requestDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateRequestSchema, bytes),
      responseSerialize: (value: IstioCertificateResponse) => bytesOf(toBinary(IstioCertificateResponseSchema, value)),
      responseDeserialize: (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes),
    },
  },
  { deltas: ads as never, certificate: certificate as never },
);
const own = await pki.issue([], { dns: [serverName] });
const tls = ServerCredentials.createSsl(null, [
  { cert_chain: Buffer.from(own.certificatePem), private_key: Buffer.from(own.keyPem) },
]);
await new Promise<void>((resolve, reject) => {
  server.bindAsync(`${host}:${port}`, tls, (error) => (error === null ? resolve() : reject(error)));
});

/** Starts a gateway: HBONE on host:15008, or another port, that forwards the tunnel's bytes to `forward`, or answers `status`. */
const gateway = async (message: {
  host: string;
  port?: number;
  identity: string;
  forward?: string;
  status?: number;
}): Promise<void> => {
  const mine = await pki.credentials(message.identity);
  await serveHbone({
    host: message.host,
    port: message.port ?? 15_008,
    credentials: () => mine,
    handler: (request) => {
      const base = { event: 'tunnel', gateway: message.host, authority: request.authority, identity: request.identity };
      say({
        ...base,
        port: request.remote.port,
        traceparent: request.headers.traceparent,
        forwarded: request.headers.forwarded,
      });
      if (message.status !== undefined) {
        request.refuse(message.status);
        return;
      }
      const upstream = connect({ host: message.forward, port: 15_008, noDelay: true, allowHalfOpen: true });
      upstream.once('error', () => request.refuse(503));
      upstream.once('connect', () => {
        const stream = request.accept() as ReturnType<typeof request.accept> & { rstCode?: number };
        splice(stream, upstream, () => upstream.destroy());
        stream.once('close', () => {
          upstream.destroy();
          say({ event: 'tunnel-end', gateway: message.host, reset: stream.rstCode });
        });
      });
    },
    refused: (_remote, error) => say({ event: 'refused', gateway: message.host, error: error.message }),
  });
  say({ event: 'gateway', host: message.host });
};

/** Writes the list that puts out the far cluster's CA, as `isthmus revoke` makes it. */
const revokeFar = async (path: string): Promise<void> => {
  const { serialNumber } = new x509.X509Certificate(farCa.certificatePem);
  const nowMs = Date.now();
  const crl = await makeCrl({
    ca: { cert: pki.rootPem, key: pki.rootKeyPem },
    revoked: [{ serial: serialNumber, atMs: nowMs }],
    ...{ before: undefined, nowMs, ttlS: 3_600, what: 'the root' },
  });
  writeFileSync(path, crl.pem);
  say({ event: 'revoked' });
};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const message = JSON.parse(line) as { cmd: string; pod: string; serial?: number; resources: [string, string][] };
    if (message.cmd === 'gateway') void gateway(message as unknown as Parameters<typeof gateway>[0]);
    if (message.cmd === 'revoke-far') void revokeFar((message as unknown as { path: string }).path);
    if (message.cmd === 'drop') for (const drop of streams) drop();
    if (message.cmd !== 'view') return;
    const held: Held = new Map();
    for (const [name, base64] of message.resources) {
      const bytes = Buffer.from(base64, 'base64');
      held.set(name, { bytes, version: createHash('sha256').update(bytes).digest('hex').slice(0, 16) });
    }
    views.set(message.pod, held);
    serials.set(message.pod, message.serial ?? 0);
    for (const push of pushes) push();
  })
  .on('close', () => process.exit(0));
say({ event: 'ready' });
