/**
 * The measured process of the fan-out bench: the discovery server, or (`baseline`) grpc-js alone, which writes an encoded
 * message of the same size to every stream and does nothing else.
 */
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { realClock, realRng } from '../src/ops/clock.ts';
import { discoveryService, startServer } from '../src/server/grpc.ts';
import { encodeResponse, makeResource } from '../src/xds/encode.ts';
import { types } from '../src/xds/resource.ts';
import { ResourceTable } from '../src/xds/table.ts';
import { type Issued, newTestCa } from '../test/real/pki.ts';

export interface Measure {
  readonly streams: number;
  readonly changes: number;
  readonly acks: boolean;
}
export interface Cost {
  /** Processor time of this process per message and stream, µs. */
  readonly cpuUs: number;
}
/** What is measured: sends one change to every stream, and counts what came back. */
interface Subject {
  readonly port: number;
  change(i: number): void;
  acked(): number;
}

const workloadBytes = 300;
const resourcesAtStart = 1_000;

const workload = (i: number, version: string) =>
  makeResource(types.address, `cluster//Pod/shop/checkout-${i}`, Buffer.alloc(workloadBytes, `${version} ${i} `));

const startOurs = async (serving: Issued, ca: string): Promise<Subject> => {
  const table = new ResourceTable([types.address, types.authorization]);
  table.apply({ upserts: Array.from({ length: resourcesAtStart }, (_, i) => workload(i, 'first')) });
  let acked = 0;
  const server = await startServer({
    tokenListen: { host: '127.0.0.1', port: 0 },
    mtlsListen: { host: '127.0.0.1', port: 0 },
    tls: { cert: serving.cert.toString(), key: serving.key.toString(), clientRoots: ca },
    gatewayIdentity: 'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-gateway',
    gatewayIssuers: () => [],
    authenticateToken: async (token) => ({
      namespace: 'shop',
      serviceAccount: 'checkout',
      pod: { name: `z${token}`, uid: token },
      node: 'n',
    }),
    tables: { ztunnel: table, gateway: new ResourceTable([types.cluster]) },
    certificates: () => Promise.reject(new Error('not here')),
    clock: realClock,
    rng: realRng,
    log: () => {},
    hooks: {
      acked: () => {
        acked++;
      },
    },
  });
  return {
    port: server.tokenPort,
    acked: () => acked,
    change: (i) => {
      table.apply({ upserts: [workload(Math.abs(i) % resourcesAtStart, `${i}`)] });
      server.changed();
    },
  };
};

const startBaseline = async (serving: Issued): Promise<Subject> => {
  const calls: ServerDuplexStream<Buffer, Buffer>[] = [];
  const resource = workload(0, 'first');
  const message = encodeResponse({
    typeUrl: types.address,
    systemVersion: '0',
    nonce: '0',
    frames: [resource.frame],
    removed: [],
  });
  let acked = 0;
  const server = new Server({ 'grpc.enable_channelz': 0 });
  server.addService(discoveryService, {
    deltaAggregatedResources: (call: ServerDuplexStream<Buffer, Buffer>) => {
      calls.push(call);
      call.on('data', () => {
        acked++;
      });
      call.write(message);
    },
    streamAggregatedResources: () => {},
  });
  const credentials = ServerCredentials.createSsl(null, [{ private_key: serving.key, cert_chain: serving.cert }]);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error === null ? resolve(bound) : reject(error)));
  });
  return {
    port,
    acked: () => acked,
    change: () => {
      for (const call of calls) call.write(message);
    },
  };
};

const measure = async (subject: Subject, { streams, changes, acks }: Measure): Promise<Cost> => {
  let startCpu = process.cpuUsage();
  for (let i = -Math.ceil(changes / 3); i < changes; i++) {
    if (i === 0) startCpu = process.cpuUsage();
    const wanted = subject.acked() + streams;
    subject.change(i);
    // Waiting by timer costs a wake-up now and then; without acknowledgements nothing says when a client has read.
    if (acks) while (subject.acked() < wanted) await new Promise((resolve) => setTimeout(resolve, 1));
    else await new Promise((resolve) => setTimeout(resolve, 10 + streams / 20));
  }
  const { user, system } = process.cpuUsage(startCpu);
  return { cpuUs: (user + system) / (changes * streams) };
};

const ca = await newTestCa();
const serving = await ca.issue({ commonName: 'controller', dns: ['controller'] });
const subject = await (process.argv[2] === 'baseline'
  ? startBaseline(serving)
  : startOurs(serving, ca.cert.toString()));
process.on('message', (wanted: Measure) => {
  void measure(subject, wanted).then((cost) => process.send!(cost));
});
process.send!({ port: subject.port, ca: ca.cert.toString() });
