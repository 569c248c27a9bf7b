/** A tiny etcd of the test's own making: it tells any version, lists nothing, and answers watches as the test says. */
import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import {
  type handleUnaryCall,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import {
  type KeyValueSchema,
  KV,
  Maintenance,
  type RangeRequest,
  RangeResponseSchema,
  ResponseHeaderSchema,
  StatusResponseSchema,
  Watch,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
} from '../../../src/gen/etcdserverpb/rpc_pb.ts';
import type { TestCa } from '../pki.ts';

export const fakeClusterId = 7n;

export interface FakeEtcd {
  readonly url: string;
  /** What Status says; undefined: it is refused. */
  version: string | undefined;
  revision: bigint;
  readonly calls: { status: number; range: number };
  /** What a read finds. */
  onRange: (request: RangeRequest) => MessageInitShape<typeof KeyValueSchema>[];
  /** Called for each request on a watch stream. */
  onWatch: (request: WatchRequest, stream: WatchStream) => void;
  close(): Promise<void>;
}

export interface WatchStream {
  send(response: MessageInitShape<typeof WatchResponseSchema>): void;
  /** Ends it as a broken connection shows. */
  drop(): void;
}

const definition = (
  method: { parent: { typeName: string }; name: string; input: DescMessage; output: DescMessage },
  stream: boolean,
): MethodDefinition<unknown, unknown> => ({
  path: `/${method.parent.typeName}/${method.name}`,
  requestStream: stream,
  responseStream: stream,
  requestSerialize: (m) => Buffer.from(toBinary(method.input, m as never)),
  requestDeserialize: (b) => fromBinary(method.input, b),
  responseSerialize: (m) => Buffer.from(toBinary(method.output, m as never)),
  responseDeserialize: (b) => fromBinary(method.output, b),
});

export const startFakeEtcd = async (ca: TestCa): Promise<FakeEtcd> => {
  const { cert, key } = await ca.issue({ commonName: 'etcd', ips: ['127.0.0.1'] });
  const server = new Server();
  const fake: { -readonly [K in keyof FakeEtcd]: FakeEtcd[K] } = {
    url: '',
    version: '3.7.3',
    revision: 1n,
    calls: { status: 0, range: 0 },
    onRange: () => [],
    onWatch: () => {},
    close: async () => server.forceShutdown(),
  };
  const header = () => create(ResponseHeaderSchema, { clusterId: fakeClusterId, revision: fake.revision });

  const answerStatus: handleUnaryCall<unknown, unknown> = (_call, reply) => {
    fake.calls.status += 1;
    if (fake.version !== undefined) {
      reply(null, create(StatusResponseSchema, { header: header(), version: fake.version }));
      return;
    }
    reply(
      Object.assign(new Error('denied'), {
        code: status.PERMISSION_DENIED,
        details: 'etcdserver: permission denied',
      }) as ServiceError,
    );
  };
  const answerRange: handleUnaryCall<unknown, unknown> = (call, reply) => {
    fake.calls.range += 1;
    reply(null, create(RangeResponseSchema, { header: header(), kvs: fake.onRange(call.request as RangeRequest) }));
  };
  server.addService({ status: definition(Maintenance.method.status, false) }, { status: answerStatus });
  server.addService({ range: definition(KV.method.range, false) }, { range: answerRange });
  server.addService(
    { watch: definition(Watch.method.watch, true) },
    {
      watch: (call: ServerDuplexStream<WatchRequest, WatchResponse>) => {
        call.on('error', () => {});
        call.on('end', () => call.end());
        const stream: WatchStream = {
          send: (response) => {
            call.write(create(WatchResponseSchema, { header: header(), ...response }));
          },
          drop: () => {
            call.emit('error', { code: status.UNAVAILABLE, details: 'connection lost' });
          },
        };
        call.on('data', (request) => fake.onWatch(request, stream));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync(
      '127.0.0.1:0',
      ServerCredentials.createSsl(ca.cert, [{ cert_chain: cert, private_key: key }], true),
      (error, bound) => (error ? reject(error) : resolve(bound)),
    ),
  );
  fake.url = `https://127.0.0.1:${port}`;
  return fake;
};
