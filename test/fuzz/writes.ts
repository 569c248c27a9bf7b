/** What a store gateway reads of members: transactions, and the notes that stand in the store. */
import { create, toBinary } from '@bufbuild/protobuf';
import { Compare_CompareTarget, TxnRequestSchema } from '../../src/gen/etcdserverpb/rpc_pb.ts';
import { decodeNote, encodeNote } from '../../src/writes/ledger.ts';
import { parseWrite } from '../../src/writes/request.ts';
import type { Target } from './target.ts';

const bytes = (text: string): Buffer => Buffer.from(text);
const key = bytes('/isthmus/v1/demo/public/us-west/manifest');
const tick = toBinary(
  TxnRequestSchema,
  create(TxnRequestSchema, {
    compare: [{ key, target: Compare_CompareTarget.MOD, targetUnion: { case: 'modRevision', value: 12_345n } }],
    success: [
      { request: { case: 'requestPut', value: { key, value: bytes('a manifest') } } },
      {
        request: { case: 'requestDeleteRange', value: { key: bytes('/isthmus/v1/demo/public/us-west/services/a/b') } },
      },
    ],
    failure: [{ request: { case: 'requestRange', value: { key } } }],
  }),
);
const note = encodeNote({ keys: 3, bytes: 4_000, changesUntilMs: 1_700_000_000_000, bytesUntilMs: 1_700_000_000_001 });

export const writesBytes: readonly Target<Uint8Array>[] = [
  { name: 'write', seeds: [tick], run: parseWrite },
  { name: 'write-note', seeds: [new Uint8Array(note)], run: decodeNote },
];
