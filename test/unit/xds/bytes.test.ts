import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
} from '../../../src/gen/envoy/service/discovery/v3/discovery_pb.ts';
import { decodeDeltaRequest } from '../../../src/xds/decode.ts';
import { encodeResponse, makeResource, renamedFrame } from '../../../src/xds/encode.ts';
import { types } from '../../../src/xds/resource.ts';

const text = fc.string({ maxLength: 40, unit: 'grapheme' });

describe('responses', () => {
  test('are read back by the generated code, whatever is in them', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(text, fc.uint8Array({ maxLength: 400 }), text), { maxLength: 5 }),
        fc.array(text, { maxLength: 4 }),
        text,
        text,
        (entries, removed, systemVersion, nonce) => {
          const resources = entries.map(([name, message]) => makeResource(types.address, name, message));
          const frames = resources.flatMap((resource, i) => [resource.frame, renamedFrame(resource, entries[i]![2])]);
          const bytes = encodeResponse({ typeUrl: types.address, systemVersion, nonce, frames, removed });
          const message = fromBinary(DeltaDiscoveryResponseSchema, bytes);
          expect(message).toMatchObject({ typeUrl: types.address, systemVersionInfo: systemVersion, nonce });
          expect(message.removedResources).toEqual(removed);
          const expected = entries.flatMap(([name, value, other], i) =>
            [name, other].map((shown) => ({ name: shown, version: resources[i]!.version, value })),
          );
          expect(
            message.resources.map((entry) => ({
              name: entry.name,
              version: entry.version,
              value: new Uint8Array(entry.resource!.value),
            })),
          ).toEqual(expected);
          expect(message.resources.every((entry) => entry.resource!.typeUrl === types.address)).toBe(true);
        },
      ),
    );
  });

  test('equal content has an equal version, anything else another one', () => {
    const message = Buffer.from('m');
    const version = makeResource(types.address, 'a', message).version;
    expect(makeResource(types.address, 'a', Buffer.from('m')).version).toBe(version);
    expect(makeResource(types.address, 'b', message).version).not.toBe(version);
    expect(makeResource(types.cluster, 'a', message).version).not.toBe(version);
    expect(makeResource(types.address, 'a', Buffer.from('n')).version).not.toBe(version);
  });

  test('a resource of several megabytes keeps its length', () => {
    const big = makeResource(types.secret, 'big', Buffer.alloc(3_000_000, 7));
    const bytes = encodeResponse({
      typeUrl: types.secret,
      systemVersion: '',
      nonce: 'n',
      frames: [big.frame],
      removed: [],
    });
    expect(fromBinary(DeltaDiscoveryResponseSchema, bytes).resources[0]!.resource!.value.length).toBe(3_000_000);
  });
});

describe('requests', () => {
  test('are read as the generated code wrote them', () => {
    const names = fc.array(text, { maxLength: 4 });
    fc.assert(
      fc.property(
        fc.record({ id: text, typeUrl: fc.constantFrom(...Object.values(types)), nonce: text, message: text }),
        names,
        names,
        fc.dictionary(text, text, { maxKeys: 4, noNullPrototype: true }),
        fc.boolean(),
        (fields, subscribe, unsubscribe, initialResourceVersions, refused) => {
          const bytes = toBinary(
            DeltaDiscoveryRequestSchema,
            create(DeltaDiscoveryRequestSchema, {
              node: { id: fields.id, cluster: 'c', metadata: { a: [1, { b: 'c' }] }, userAgentName: 'proxy' },
              typeUrl: fields.typeUrl,
              responseNonce: fields.nonce,
              resourceNamesSubscribe: subscribe,
              resourceNamesUnsubscribe: unsubscribe,
              initialResourceVersions,
              ...(refused ? { errorDetail: { code: 3, message: fields.message } } : {}),
            }),
          );
          const result = decodeDeltaRequest(Buffer.from(bytes));
          expect(result.ok && result.value).toEqual({
            nodeId: fields.id,
            typeUrl: fields.typeUrl,
            subscribe,
            unsubscribe,
            initialVersions: new Map(Object.entries(initialResourceVersions)),
            nonce: fields.nonce,
            error: refused ? fields.message : undefined,
          });
        },
      ),
    );
  });

  test('garbage is refused with a reason and never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const result = decodeDeltaRequest(Buffer.from(bytes));
        if (!result.ok) expect(result.error.code).toBe('xds/malformed');
      }),
      { numRuns: 2_000 },
    );
  });

  test('every bound is enforced', () => {
    const write = (fields: Parameters<typeof create<typeof DeltaDiscoveryRequestSchema>>[1]) =>
      decodeDeltaRequest(
        Buffer.from(
          toBinary(
            DeltaDiscoveryRequestSchema,
            create(DeltaDiscoveryRequestSchema, { typeUrl: types.address, ...(fields as object) }),
          ),
        ),
      );
    const reason = (result: ReturnType<typeof write>) => (result.ok ? 'accepted' : result.error.message);
    expect(reason(write({ node: { id: 'n'.repeat(limits.nodeIdLengthMax + 1) } }))).toMatch(/node id/);
    expect(reason(write({ responseNonce: 'n'.repeat(limits.nonceLengthMax + 1) }))).toMatch(/nonce/);
    expect(reason(write({ typeUrl: 't'.repeat(limits.typeUrlLengthMax + 1) }))).toMatch(/type/);
    expect(reason(write({ typeUrl: '' }))).toMatch(/no type/);
    expect(reason(write({ resourceNamesSubscribe: ['x'.repeat(limits.resourceNameLengthMax + 1)] }))).toMatch(/name/);
    expect(reason(write({ initialResourceVersions: { x: 'v'.repeat(limits.versionLengthMax + 1) } }))).toMatch(
      /version/,
    );
    const many = Array.from({ length: limits.subscriptionsPerStreamMax + 1 }, () => 'x');
    expect(reason(write({ resourceNamesSubscribe: many }))).toMatch(/more than/);
    const long = write({ errorDetail: { message: 'e'.repeat(10 * limits.errorDetailLengthMax) } });
    expect(long.ok && long.value.error?.length).toBe(limits.errorDetailLengthMax);
  });
});
