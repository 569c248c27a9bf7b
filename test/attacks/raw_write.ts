/** One put as etcd's own request, for calls that no client of ours makes. */
import { create, toBinary } from '@bufbuild/protobuf';
import { TxnRequestSchema } from '../../src/gen/etcdserverpb/rpc_pb.ts';

export const request = (key: string, value: string): Buffer =>
  Buffer.from(
    toBinary(
      TxnRequestSchema,
      create(TxnRequestSchema, {
        success: [{ request: { case: 'requestPut', value: { key: Buffer.from(key), value: Buffer.from(value) } } }],
      }),
    ),
  );
