/**
 * The proxies of the fan-out bench, in a process of their own: they read whole messages and acknowledge each, by plain
 * HTTP/2, so that the clients cost as little as they can on the machine that is being measured.
 */
import { type ClientHttp2Session, connect } from 'node:http2';
import { create, toBinary } from '@bufbuild/protobuf';
import { DeltaDiscoveryRequestSchema } from '../src/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { types } from '../src/xds/resource.ts';

export interface OpenStreams {
  readonly port: number;
  readonly ca: string;
  readonly streams: number;
  /** False: only the first message is acknowledged. */
  readonly acks: boolean;
}

/** A message behind the prefix of gRPC. */
const framed = (fields: object): Buffer => {
  const message = Buffer.from(toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, fields)));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
};

/** Reads whole messages off a stream and answers each with an acknowledgement of its nonce. */
const proxy = (session: ClientHttp2Session, index: number, acks: boolean, ready: () => void): void => {
  const stream = session.request({
    ':method': 'POST',
    ':path': '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
    'content-type': 'application/grpc',
    te: 'trailers',
    authorization: `Bearer ${index}`,
  });
  let pending: Buffer = Buffer.alloc(0);
  let first = true;
  stream.on('data', (data: Buffer) => {
    pending = pending.length === 0 ? data : Buffer.concat([pending, data]);
    while (pending.length >= 5 && pending.length >= 5 + pending.readUInt32BE(1)) {
      const length = pending.readUInt32BE(1);
      const message = pending.subarray(5, 5 + length);
      pending = pending.subarray(5 + length);
      // Our server writes version, type and nonce first: three short fields of a fixed order.
      const version = message[1]!;
      const typeLength = message[2 + version + 1]!;
      const nonceAt = 2 + version + 2 + typeLength;
      const nonce = message.toString('utf8', nonceAt + 2, nonceAt + 2 + message[nonceAt + 1]!);
      if (acks || first) stream.write(framed({ typeUrl: types.address, responseNonce: nonce }));
      if (first) ready();
      first = false;
    }
  });
  stream.on('error', (error) => {
    throw error;
  });
  stream.write(
    framed({ typeUrl: types.address, node: { id: `ztunnel~10.0.0.1~z${index}.shop~shop.svc.cluster.local` } }),
  );
};

process.on('message', (message: OpenStreams) => {
  let ready = 0;
  const open = async (): Promise<void> => {
    for (let i = 0; i < message.streams; i++) {
      const session = connect(`https://127.0.0.1:${message.port}`, { ca: message.ca, servername: 'controller' });
      await new Promise((resolve) => session.once('connect', resolve));
      proxy(session, i, message.acks, () => {
        if (++ready === message.streams) process.send!('ready');
      });
    }
  };
  void open();
});
