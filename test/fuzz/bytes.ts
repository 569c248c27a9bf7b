/** Everything that reads bytes which somebody else wrote: records, what is signed, saved states, journals, what proxies send, DER. */
import { generateKeyPairSync } from 'node:crypto';
import { create, toBinary } from '@bufbuild/protobuf';
import { makeRequest } from '../../src/ca/client.ts';
import { readRequest } from '../../src/ca/csr.ts';
import type { Result } from '../../src/core/errors.ts';
import { limits } from '../../src/core/limits.ts';
import { decodeState, encodeState } from '../../src/failover/saved.ts';
import { initialState } from '../../src/failover/state.ts';
import { DeltaDiscoveryRequestSchema } from '../../src/gen/envoy/service/discovery/v3/discovery_pb.ts';
import type { Manifest } from '../../src/gen/isthmus/v1/records_pb.ts';
import { readExport } from '../../src/journal/export_file.ts';
import { readSegment } from '../../src/journal/segment.ts';
import { verifyExport } from '../../src/journal/verify.ts';
import { codec } from '../../src/records/codec.ts';
import { noStanding } from '../../src/records/loaded.ts';
import { decodeManifest, signManifest, verifyManifest } from '../../src/records/manifest.ts';
import { decodeMembership, encodeMembership } from '../../src/records/membership.ts';
import { decodeSetPolicy, signSetPolicy, verifySetPolicy } from '../../src/records/set_policy.ts';
import { decodeSigned } from '../../src/records/signed.ts';
import { decodeStatePart } from '../../src/records/verdicts.ts';
import { readLoadMessage, readLogMessage } from '../../src/telemetry/decode.ts';
import { parseRoot } from '../../src/trust/bundle.ts';
import { signMembership, verifyMembership } from '../../src/trust/membership.ts';
import { decodeDeltaRequest } from '../../src/xds/decode.ts';
import { types } from '../../src/xds/resource.ts';
import { derOf, pemOf } from '../unit/ca/requests.ts';
import { Author, federation, membershipOf, Shelf, times } from '../unit/federation/author.ts';
import { fill, move, rig } from '../unit/journal/rig.ts';
import { someService } from '../unit/records/arbitrary.ts';
import { entry, loads, logs } from '../unit/telemetry/entries.ts';
import { authority, certificate, testMember } from '../unit/trust/certificates.ts';
import { auditingBytes } from './auditing.ts';
import { joiningBytes } from './joining.ts';
import type { Target } from './target.ts';
import { writesBytes } from './writes.ts';

const value = <T>(result: Result<T>): T => {
  if (!result.ok) throw result.error;
  return result.value;
};
const west = await testMember('us-west');
const root = await certificate('root');
const { privateKey: key, publicKey } = generateKeyPairSync('ed25519');

const both = <T>(
  name: string,
  seeds: readonly T[],
  of: { encode(t: T): Result<Uint8Array>; decode(b: Uint8Array): Result<T> },
): Target<Uint8Array> => ({
  name,
  seeds: seeds.map((seed) => value(of.encode(seed))),
  run: of.decode,
  again: (decoded) => of.decode(value(of.encode(decoded as T))),
});

const records: Target<Uint8Array>[] = [
  both(
    'service',
    [someService(), someService({ ports: [], accounts: [], capacity: [], declaredCapacityPerSecond: 5 })],
    codec.service,
  ),
  both(
    'gateways',
    [
      {
        $typeName: 'isthmus.v1.GatewaysRecord',
        account: 'isthmus-system/isthmus-gateway',
        gateways: ['10.1.0.1', 'fd00::1'].map((address, i) => ({
          $typeName: 'isthmus.v1.Gateway' as const,
          id: `gw-${i}`,
          address,
          federationPort: 15_028,
          hbonePort: 15_008,
          draining: false,
          locality: { $typeName: 'isthmus.v1.Locality' as const, region: 'r', zone: 'z', subzone: '' },
        })),
        critical: [],
      },
    ],
    codec.gateways,
  ),
  both(
    'trust',
    [
      {
        $typeName: 'isthmus.v1.TrustRecord',
        trustDomain: 'cluster.local',
        roots: [root],
        sequence: 7n,
        refreshHintS: 300,
        critical: [],
      },
    ],
    codec.trust,
  ),
  both(
    'vantage',
    [
      {
        $typeName: 'isthmus.v1.VantageRecord',
        peers: ['a', 'b'].map((member) => ({
          $typeName: 'isthmus.v1.PeerVantage' as const,
          member,
          rttMs: 8,
          rttVarMs: 2,
          reachable: true,
        })),
        critical: [],
      },
    ],
    codec.vantage,
  ),
  both(
    'grants',
    [
      {
        $typeName: 'isthmus.v1.GrantsRecord',
        reader: 'us-east',
        grants: ['*', 'shop/checkout'].map((service) => ({
          $typeName: 'isthmus.v1.SpillGrant' as const,
          service,
          perSecond: 9,
        })),
        critical: [],
      },
    ],
    codec.grants,
  ),
  both(
    'readers',
    [
      {
        $typeName: 'isthmus.v1.ReadersRecord',
        parts: [{ $typeName: 'isthmus.v1.ReaderPart', reader: 'us-west', root: new Uint8Array(32) }],
        critical: [],
      },
    ],
    codec.readers,
  ),
  both('votes', [{ $typeName: 'isthmus.v1.VotesRecord', accused: ['us-west', 'eu'], critical: [] }], codec.votes),
  both(
    'verdicts',
    [
      {
        $typeName: 'isthmus.v1.VerdictsRecord',
        summary: [
          {
            $typeName: 'isthmus.v1.VerdictSummary',
            service: 'shop/checkout',
            member: 'b',
            state: 'suspect',
            reason: 'GrayFailure',
          },
        ],
        more: 1,
        frozen: true,
        parts: 1,
        bytes: 10,
        digest: new Uint8Array(32),
        atMs: 5n,
        wallMs: 6n,
        critical: [],
      },
    ],
    codec.verdicts,
  ),
  both(
    'loaded',
    [
      {
        $typeName: 'isthmus.v1.LoadedRecord',
        roots: [
          {
            ...noStanding(new Uint8Array(32).fill(7)),
            ...{ given: true, lacking: 3, lackingUntilMs: 9n, lackingNames: ['shop/cart in cart-0'] },
            ...{ inUse: 1, inUseUntilMs: 8n, inUseNames: ['gateway g-0~a'], probed: ['us-west'] },
          },
        ],
        partners: ['us-west', 'eu'],
        unknown: ['controller c-1 does not report'],
        critical: [],
      },
    ],
    codec.loaded,
  ),
];

const manifest: Manifest = {
  $typeName: 'isthmus.v1.Manifest',
  clusterset: 'demo',
  member: 'us-west',
  epoch: 5n,
  sequence: 9n,
  root: new Uint8Array(32).fill(3),
  count: 4,
  wallMs: 1n,
  shuttingDown: false,
  journal: { $typeName: 'isthmus.v1.JournalHead', chain: '0123456789abcdef', sequence: 4n, hash: new Uint8Array(32) },
  critical: [],
};
const signedManifest = value(signManifest(manifest, key));
const signedMembership = value(signMembership(west.member, authority.privateKey));
const signedPolicy = value(signSetPolicy({ clusterset: 'demo', sequence: 1n, spec: {} }, authority.privateKey));
const payload = (signed: Uint8Array): Uint8Array => value(decodeSigned(signed, limits.membershipBytesMax)).payload;

const signed: Target<Uint8Array>[] = [
  { name: 'signed', seeds: [signedManifest], run: (b) => decodeSigned(b, limits.membershipBytesMax) },
  { name: 'manifest', seeds: [payload(signedManifest)], run: decodeManifest },
  {
    name: 'manifest-signed',
    seeds: [signedManifest],
    run: (b) => verifyManifest(b, { clusterset: 'demo', member: 'us-west', key: publicKey }),
  },
  {
    name: 'membership',
    seeds: [payload(signedMembership)],
    run: decodeMembership,
    again: (m) => decodeMembership(value(encodeMembership(m as Parameters<typeof encodeMembership>[0]))),
  },
  {
    name: 'membership-signed',
    seeds: [signedMembership],
    run: (b) =>
      verifyMembership(b, {
        clusterset: 'demo',
        name: 'us-west',
        authorityKey: authority.publicKey,
        wallMs: 5_000,
        highWater: undefined,
      }),
  },
  { name: 'policy', seeds: [payload(signedPolicy)], run: decodeSetPolicy },
  {
    name: 'policy-signed',
    seeds: [signedPolicy],
    run: (b) => verifySetPolicy(b, { clusterset: 'demo', authorityKey: authority.publicKey, highWater: undefined }),
  },
  { name: 'state-part', seeds: [Buffer.from('0a03616263', 'hex')], run: decodeStatePart },
];

/** A federation with a member in it, as it lies on disk. */
const savedFederation = (): Uint8Array => {
  const shelf = new Shelf();
  const author = new Author(west);
  const fed = federation();
  fed.events(shelf.write(membershipOf(west)), times(0));
  fed.events(
    shelf.write(author.tick({ [author.key('services/shop/checkout')]: value(codec.service.encode(someService())) })),
    times(10),
  );
  return Buffer.concat([...fed.save(times(20))]);
};
const journal = rig();
await fill(journal, 3);
await journal.journal.append([move('a'), move('b')], { step: 6 });
const exported = await journal.exported();

const kept: Target<Uint8Array>[] = [
  { name: 'saved-federation', seeds: [savedFederation()], run: (b) => federation().restore(b, times(100)) },
  {
    name: 'saved-failover',
    seeds: [encodeState(initialState())],
    run: decodeState,
    again: (s) => decodeState(encodeState(s as Parameters<typeof encodeState>[0])),
  },
  { name: 'journal-verify', seeds: [exported], run: (b) => verifyExport(b).holds },
  { name: 'journal-export', seeds: [exported], run: (b) => readExport(b).entries.length },
  { name: 'journal-segment', seeds: [exported], run: readSegment },
];

const request = create(DeltaDiscoveryRequestSchema, {
  node: { id: 'ztunnel~10.0.0.1~pod.ns~ns.svc.cluster.local' },
  typeUrl: types.address,
  resourceNamesSubscribe: ['a', 'b'],
  resourceNamesUnsubscribe: ['c'],
  initialResourceVersions: { x: '1', y: '2' },
  responseNonce: '7',
  errorDetail: { code: 13, message: 'no' },
});
const log = { type: 'established', member: 'us-west', status: 200, rxMs: 4, attempts: 1 } as const;

const wire: Target<Uint8Array>[] = [
  {
    name: 'xds-request',
    seeds: [toBinary(DeltaDiscoveryRequestSchema, request)],
    run: (b) => decodeDeltaRequest(Buffer.from(b)),
  },
  {
    name: 'access-log',
    seeds: [logs([entry(log), entry(log)], { node: 'isthmus-gateway-1~0', log: 'tunnels' })],
    run: readLogMessage,
  },
  {
    name: 'load-report',
    seeds: [loads('isthmus-gateway-1~0', { 'a>b': { 'us-west': [3, 2, 1, 0] } })],
    run: readLoadMessage,
  },
  { name: 'root', seeds: [root], run: (b) => parseRoot(b, 'root') },
  {
    name: 'csr',
    seeds: [derOf((await makeRequest('spiffe://cluster.local/ns/shop/sa/checkout')).csr)],
    run: (b) => readRequest(pemOf(b)),
  },
];

export const byteTargets: readonly Target<Uint8Array>[] = [
  ...records,
  ...signed,
  ...joiningBytes,
  ...auditingBytes,
  ...writesBytes,
  ...kept,
  ...wire,
];
