/**
 * What a translation gives, and how it gets its bytes.
 *
 * The bytes are a function of the content alone: lists and maps are put into order before they are encoded, so that both
 * replicas serve the same version of a resource and a reconnecting proxy is sent nothing twice. Handing out messages instead
 * of bytes was passed over: every stream would encode them again.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AddressSchema,
  type PortList,
  PortListSchema,
  PortSchema,
  type Service,
  type Workload,
} from '../../gen/istio/workload/workload_pb.ts';
import { formatAddress } from './ip.ts';

/** The one type that workload discovery has for workloads and services alike. */
export const addressType = 'type.googleapis.com/istio.workload.Address';

export interface Translated {
  readonly typeUrl: typeof addressType;
  /** A workload's uid, or a service's `namespace/hostname`. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** `network/ip`, by which a proxy in on-demand mode may ask for it. */
  readonly aliases: readonly string[];
}

export const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

export const portList = (ports: Iterable<readonly [service: number, target: number]>): PortList =>
  create(PortListSchema, {
    ports: [...ports]
      .sort(([a], [b]) => a - b)
      .map(([servicePort, targetPort]) => create(PortSchema, { servicePort, targetPort })),
  });

/** Keys in order: protobuf-es writes a map in the order of insertion. */
export const orderedServices = (services: ReadonlyMap<string, PortList>): Record<string, PortList> =>
  Object.fromEntries([...services].sort(([a], [b]) => byName(a, b)));

export const workloadResource = (workload: Workload, aliases: readonly string[]): Translated => ({
  typeUrl: addressType,
  name: workload.uid,
  bytes: toBinary(AddressSchema, create(AddressSchema, { type: { case: 'workload', value: workload } })),
  aliases,
});

export const serviceResource = (service: Service): Translated => ({
  typeUrl: addressType,
  name: `${service.namespace}/${service.hostname}`,
  bytes: toBinary(AddressSchema, create(AddressSchema, { type: { case: 'service', value: service } })),
  aliases: service.addresses.map((a) => `${a.network}/${formatAddress(a.address)}`),
});

export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
