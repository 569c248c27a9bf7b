/** The two calls of etcd's Maintenance service that place the leader: who leads, and who shall. */

import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, credentials } from '@grpc/grpc-js';
import {
  MoveLeaderRequestSchema,
  StatusRequestSchema,
  type StatusResponse,
  StatusResponseSchema,
} from '../../../src/gen/etcdserverpb/rpc_pb.ts';
import type { Pair } from '../pki.ts';

export interface EtcdMaintenance {
  status(): Promise<StatusResponse>;
  moveLeader(memberId: bigint): Promise<void>;
  close(): void;
}

/** A client of one member, through a unix socket that leads to it. `client` must be the root user's once etcd asks who calls. */
export function etcdMaintenance(socketPath: string, ca: string, client: Pair): EtcdMaintenance {
  const tls = credentials.createSsl(Buffer.from(ca), Buffer.from(client.key), Buffer.from(client.cert));
  const channel = new Client(`unix:${socketPath}`, tls, {
    'grpc.ssl_target_name_override': 'etcd',
    'grpc.default_authority': 'etcd',
    'grpc.initial_reconnect_backoff_ms': 50,
    'grpc.max_reconnect_backoff_ms': 250,
  });
  const call = (method: string, request: Uint8Array): Promise<Uint8Array> =>
    new Promise((resolve, reject) => {
      const identity = (bytes: Uint8Array) => Buffer.from(bytes);
      const deadline = new Date(Date.now() + 5_000);
      channel.makeUnaryRequest(
        `/etcdserverpb.Maintenance/${method}`,
        identity,
        identity,
        request,
        { deadline },
        (error, answer) => (error ? reject(error) : resolve(answer!)),
      );
    });
  return {
    status: async () => {
      const request = toBinary(StatusRequestSchema, create(StatusRequestSchema));
      return fromBinary(StatusResponseSchema, await call('Status', request));
    },
    moveLeader: async (target) => {
      await call(
        'MoveLeader',
        toBinary(MoveLeaderRequestSchema, create(MoveLeaderRequestSchema, { targetId: target })),
      );
    },
    close: () => channel.close(),
  };
}
