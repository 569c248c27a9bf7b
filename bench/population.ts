/** A made-up cluster set of any size, signed as a real one is. */
import { generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { create } from '@bufbuild/protobuf';
import { GatewaysRecordSchema, ManifestSchema, ServiceRecordSchema } from '../src/gen/isthmus/v1/records_pb.ts';
import { codec } from '../src/records/codec.ts';
import { storeKeys } from '../src/records/keys.ts';
import { signManifest } from '../src/records/manifest.ts';
import { MerkleSet, valueHash } from '../src/records/merkle.ts';
import { rawPublicKey } from '../src/records/signed.ts';
import { signMembership } from '../src/trust/membership.ts';
import { newTestCa } from '../test/real/pki.ts';

export interface Entry {
  readonly key: string;
  readonly value: Uint8Array;
}

export interface Population {
  readonly authority: KeyObject;
  readonly memberships: readonly Entry[];
  /** Records of one member, its manifest last. */
  records(index: number): Entry[];
  /** The same with the ready capacity of one service changed: that record and a new manifest. */
  changed(index: number, service: number, ready: number): Entry[];
  readonly names: readonly string[];
}

const must = <T>(result: { ok: true; value: T } | { ok: false; error: Error }): T => {
  if (!result.ok) throw result.error;
  return result.value;
};

export const memberName = (index: number): string => `cluster-${String(index).padStart(3, '0')}`;
export const serviceName = (index: number): string => `svc-${String(index).padStart(4, '0')}`;

interface Author {
  readonly key: KeyObject;
  readonly set: MerkleSet;
  sequence: bigint;
}

const serviceRecord = (service: number, ready: number, region: string): Uint8Array =>
  must(
    codec.service.encode(
      create(ServiceRecordSchema, {
        namespace: 'shop',
        name: serviceName(service),
        hostname: `${serviceName(service)}.shop.svc.cluster.local`,
        ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
        accounts: [`shop/${serviceName(service)}`],
        capacity: [{ locality: { region, zone: `${region}-a`, subzone: '' }, ready, total: 3 }],
        exportedMs: 1_700_000_000_000n,
      }),
    ),
  );

export const populate = async (clusterset: string, members: number, services: number): Promise<Population> => {
  const keys = storeKeys(clusterset);
  const authority = generateKeyPairSync('ed25519');
  const ca = await newTestCa('federation CA of a made-up member');
  const authors: Author[] = [];
  const memberships: Entry[] = [];
  const region = (index: number) => `region-${index % 10}`;
  for (let i = 0; i < members; i++) {
    const pair = generateKeyPairSync('ed25519');
    authors.push({ key: pair.privateKey, set: new MerkleSet(), sequence: 0n });
    // Each member has a CA of its own; the same one twice is refused.
    const own = i === 0 ? ca : await newTestCa(`federation CA ${i}`);
    const member = {
      clusterset,
      name: memberName(i),
      sequence: 1n,
      region: region(i),
      zone: '',
      network: `net-${i}`,
      addressRanges: [`10.${100 + Math.floor(i / 200)}.${i % 200}.0/24`],
      namespaces: ['shop'],
      serviceAccounts: [],
      federationCa: new Uint8Array(new X509Certificate(own.cert).raw),
      recordKey: rawPublicKey(pair.publicKey),
      notBeforeMs: 1_700_000_000_000,
      notAfterMs: 4_000_000_000_000,
    };
    memberships.push({ key: keys.member(memberName(i)), value: must(signMembership(member, authority.privateKey)) });
  }
  const manifest = (index: number): Entry => {
    const author = authors[index]!;
    author.sequence++;
    const value = must(
      signManifest(
        create(ManifestSchema, {
          clusterset,
          member: memberName(index),
          epoch: 1n,
          sequence: author.sequence,
          root: new Uint8Array(author.set.root()),
          count: author.set.count,
          wallMs: 1_700_000_000_000n,
        }),
        author.key,
      ),
    );
    return { key: keys.manifest(memberName(index)), value };
  };
  const put = (index: number, key: string, value: Uint8Array): Entry => {
    authors[index]!.set.set(key.slice(keys.memberPrefix(memberName(index)).length), valueHash(value));
    return { key, value };
  };
  return {
    authority: authority.publicKey,
    memberships,
    names: authors.map((_, i) => memberName(i)),
    records: (index) => {
      const name = memberName(index);
      const gateways = must(
        codec.gateways.encode(
          create(GatewaysRecordSchema, {
            gateways: [
              {
                id: 'gw-0',
                address: `10.${100 + Math.floor(index / 200)}.${index % 200}.10`,
                federationPort: 15028,
                hbonePort: 15008,
                draining: false,
              },
            ],
            account: 'isthmus-system/isthmus-gateway',
          }),
        ),
      );
      const entries = [put(index, keys.gateways(name), gateways)];
      for (let s = 0; s < services; s++) {
        entries.push(
          put(
            index,
            keys.service(name, 'shop', serviceName(s)),
            serviceRecord(s, 1 + ((s + index) % 3), region(index)),
          ),
        );
      }
      return [...entries, manifest(index)];
    },
    changed: (index, service, ready) => {
      const key = keys.service(memberName(index), 'shop', serviceName(service));
      return [put(index, key, serviceRecord(service, ready, region(index))), manifest(index)];
    },
  };
};
