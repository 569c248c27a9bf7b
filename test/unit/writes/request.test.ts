import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import {
  Compare_CompareResult,
  Compare_CompareTarget,
  TxnRequestSchema,
} from '../../../src/gen/etcdserverpb/rpc_pb.ts';
import { parseWrite } from '../../../src/writes/request.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);
const compare = (key: string, modRevision = 0n) => ({
  key: bytes(key),
  result: Compare_CompareResult.EQUAL,
  target: Compare_CompareTarget.MOD,
  targetUnion: { case: 'modRevision' as const, value: modRevision },
});
const put = (key: string, value = 'x', lease = 0n) => ({
  request: { case: 'requestPut' as const, value: { key: bytes(key), value: bytes(value), lease } },
});
const remove = (key: string, end = '') => ({
  request: { case: 'requestDeleteRange' as const, value: { key: bytes(key), rangeEnd: bytes(end) } },
});
const range = (key: string, end = '') => ({
  request: { case: 'requestRange' as const, value: { key: bytes(key), rangeEnd: bytes(end) } },
});
const encoded = (txn: MessageInitShape<typeof TxnRequestSchema>): Uint8Array =>
  toBinary(TxnRequestSchema, create(TxnRequestSchema, txn));
const code = (request: Uint8Array): string => {
  const parsed = parseWrite(request);
  return parsed.ok ? 'ok' : parsed.error.code;
};

describe('a write', () => {
  it('is read as a publisher sends it', () => {
    const request = encoded({
      compare: [compare('/a/manifest', 7n), compare('/a/new')],
      success: [put('/a/one', '1'), put('/a/empty', ''), remove('/a/two')],
      failure: [range('/a/manifest'), range('/a/new')],
    });
    const parsed = parseWrite(request);
    expect(parsed).toMatchObject({
      ok: true,
      value: {
        compare: [
          { key: '/a/manifest', modRevision: 7n },
          { key: '/a/new', modRevision: 0n },
        ],
        puts: [{ key: '/a/one' }, { key: '/a/empty' }],
        deletes: ['/a/two'],
      },
    });
  });

  const refused: Record<string, MessageInitShape<typeof TxnRequestSchema>> = {
    nothing: {},
    'a comparison alone': { compare: [compare('/a')], failure: [range('/a')] },
    'a lease': { success: [put('/a', 'x', 5n)] },
    'the deletion of a range': { success: [remove('/a', '/b')] },
    'a read in the branch that is taken': { success: [put('/a'), range('/b')] },
    'a read of a range': { compare: [compare('/a')], success: [put('/a')], failure: [range('/a', '/b')] },
    'a read of what is not compared': { compare: [compare('/a')], success: [put('/a')], failure: [range('/b')] },
    'a write in the branch that is not taken': { success: [put('/a')], failure: [put('/b')] },
    'a key twice': { success: [put('/a'), remove('/a')] },
    'a comparison twice': { compare: [compare('/a'), compare('/a')], success: [put('/a')] },
    'no key': { success: [put('')] },
    'a key of odd bytes': { success: [put('/a\u0000b')] },
    'a key with a space': { success: [put('/a b')] },
    'a comparison of a value': {
      compare: [
        { ...compare('/a'), target: Compare_CompareTarget.VALUE, targetUnion: { case: 'value', value: bytes('x') } },
      ],
      success: [put('/a')],
    },
    'a comparison by order': {
      compare: [{ ...compare('/a'), result: Compare_CompareResult.GREATER }],
      success: [put('/a')],
    },
    'too many operations': { success: Array.from({ length: limits.txnOpsMax + 1 }, (_, i) => put(`/${i}`)) },
  };
  it.each(Object.entries(refused))('is refused with %s', (_what, txn) => {
    expect(code(encoded(txn))).toBe('store/malformed');
  });

  it('is refused with a field that nobody here knows, such as a transaction in the transaction', () => {
    const inner = encoded({ success: [put('/b')] });
    // RequestOp.request_txn = 4
    const nested = Buffer.concat([Buffer.from([0x22, inner.length]), inner]);
    const operation = Buffer.concat([Buffer.from([0x12, nested.length]), nested]);
    expect(code(Buffer.concat([encoded({ success: [put('/a')] }), operation]))).toBe('store/malformed');
    // PutRequest.prev_kv = 4: the former value of a key.
    const body = Buffer.from([0x0a, 2, 0x2f, 0x61, 0x20, 1]);
    const op = Buffer.concat([Buffer.from([0x12, body.length]), body]);
    expect(code(Buffer.concat([Buffer.from([0x12, op.length]), op]))).toBe('store/malformed');
  });

  it('is refused beyond its size, before it is read', () => {
    expect(code(new Uint8Array(limits.writeBytesMax + 1))).toBe('store/too-large');
  });

  it('is never more than an error, whatever its bytes', () => {
    const good = encoded({
      compare: [compare('/a', 3n)],
      success: [put('/a', 'value'), remove('/b')],
      failure: [range('/a')],
    });
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, byte, cut) => {
        const broken = Uint8Array.from(good.subarray(0, cut === 0 ? good.length : cut));
        if (at < broken.length) broken[at] = byte;
        expect(['ok', 'store/malformed']).toContain(code(broken));
      }),
      { numRuns: 500 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (any) => {
        expect(['ok', 'store/malformed']).toContain(code(any));
      }),
    );
  });
});
