/** Every key of a store gateway (`isthmus store serve`). */
import { z } from 'zod';
import { limits } from '../core/limits.ts';
import { address, label, logging } from './fields.ts';

export const storeGatewaySchema = z.strictObject({
  clusterset: label('clusterset').describe('Name of the cluster set.'),
  name: label('name').default('store-gateway').describe('Name of this gateway, for its log.'),
  dir: z
    .string()
    .default('/etc/isthmus/store-gateway')
    .describe('Directory that `isthmus init` or `isthmus store gateway` wrote.'),
  authorityFile: z
    .string()
    .default('authority.pem')
    .describe('Public key (Ed25519) of the cluster set’s authority; a relative path is in dir.'),
  etcd: z
    .strictObject({
      endpoints: z
        .array(z.url({ protocol: /^https$/, error: 'must be https://<host>:<port>' }))
        .min(1)
        .max(16)
        .describe('etcd client URLs.'),
      caFile: z.string().default('etcd-ca.pem').describe('CA of the etcd servers.'),
      certFile: z.string().default('etcd-client.pem').describe('Client certificate of the gateways’ etcd user.'),
      keyFile: z.string().default('etcd-client-key.pem').describe('Its key.'),
      allowUnsafeVersion: z
        .boolean()
        .default(false)
        .describe('Accept an etcd with known authorization holes (below 3.5.33, 3.6.14, 3.7.1).'),
    })
    .describe('The etcd behind it.'),
  listen: z
    .strictObject({
      address: address.default('0.0.0.0:15024').describe('Where members write.'),
      certFile: z
        .string()
        .default('serving.pem')
        .describe('Serving certificate, by a CA in the members’ store.caFile.'),
      keyFile: z.string().default('serving-key.pem').describe('Its key.'),
      clientCaFile: z.string().default('etcd-ca.pem').describe('CA of the members’ client certificates for etcd.'),
      metricsAddress: address.default('0.0.0.0:15020').describe('Prometheus metrics.'),
      healthAddress: address.default('0.0.0.0:15021').describe('/livez and /readyz.'),
    })
    .prefault({})
    .describe('Listening addresses and serving certificate.'),
  issue: z
    .strictObject({
      caKeyFile: z
        .string()
        .optional()
        .describe(
          'Key of the CA in listen.clientCaFile: with it, members get new certificates for etcd here, before theirs end.',
        ),
      ttlS: z
        .number()
        .int()
        .min(60)
        .max(366 * 86_400)
        .default(90 * 86_400)
        .describe('Life of a certificate that is issued here, seconds.'),
    })
    .prefault({})
    .describe('Certificates for etcd.'),
  quota: z
    .strictObject({
      keys: z
        .number()
        .int()
        .min(100)
        .max(limits.writeNamesMax)
        .default(limits.writeNamesMax)
        .describe('Keys that one member may have in the store.'),
      bytes: z
        .number()
        .int()
        .min(4 * limits.writeBytesMax)
        .max(limits.stagedBytesPerMemberMax)
        .default(limits.stagedBytesPerMemberMax)
        .describe(
          'Bytes that one member may have in the store, 256 for each key among them; also so many written at once.',
        ),
      changesPerSecond: z
        .number()
        .int()
        .min(10)
        .max(100_000)
        .default(1_000)
        .describe('Keys that one member may change in a second, over a while.'),
      bytesPerSecond: z
        .number()
        .int()
        .min(16 * 1024)
        .max(1024 * 1024 * 1024)
        .default(256 * 1024)
        .describe('Bytes that one member may write in a second, over a while.'),
    })
    .prefault({})
    .describe('Of each member, by all gateways together.'),
  log: logging(),
});

export type StoreGatewayConfig = z.infer<typeof storeGatewaySchema>;

/** In `dir`: what the desk wrote for it. */
export const storeGatewayFile = 'store-gateway.yaml';
