/**
 * Every key of the controller, in one zod schema: it gives the types, the checks, the JSON schema (`isthmus config schema`) and,
 * through the repo's own test, docs/CONFIGURATION.md.
 */
import { z } from 'zod';
import { limits } from '../core/limits.ts';
import { address, label, logging, ms } from './fields.ts';

export const configSchema = z.strictObject({
  clusterset: label('clusterset').describe('Name of the cluster set, the same in every member.'),
  member: label('member').describe('Name of this cluster in the set.'),
  network: label('network').describe('Name of the network that this cluster’s pods share.'),
  trustDomain: z.string().min(1).max(255).default('cluster.local').describe('SPIFFE trust domain of the mesh.'),
  clusterDomain: z.string().min(1).max(255).default('cluster.local').describe('DNS suffix of Kubernetes services.'),
  namespace: label('namespace').default('isthmus-system').describe('Namespace that Isthmus runs in.'),
  replica: label('replica').default('isthmus-controller-0').describe('Name of this controller pod (POD_NAME).'),
  memberDir: z
    .string()
    .default('/etc/isthmus/member')
    .describe('Directory of the member bundle that `isthmus init` wrote and `isthmus join` installed.'),
  serviceMode: z
    .enum(['gateway', 'direct'])
    .default('gateway')
    .describe('How exported services of other members are reached, unless annotated `isthmus.dev/mode`.'),
  imports: z
    .enum(['all', 'optIn'])
    .default('all')
    .describe(
      'Which services of other members are imported: all, or those that a namespace or Service asks for by `isthmus.dev/import`.',
    ),
  store: z
    .strictObject({
      endpoints: z
        .array(z.url({ protocol: /^https$/, error: 'must be https://<host>:<port>' }))
        .min(1)
        .max(16)
        .describe('etcd client URLs.'),
      writeEndpoints: z
        .array(z.url({ protocol: /^https$/, error: 'must be https://<host>:<port>' }))
        .max(16)
        .default([])
        .describe('URLs of store gateways that take the writes to the shared etcd; none: etcd itself does.'),
      caFile: z
        .string()
        .default('etcd-ca.pem')
        .describe('CA of the etcd servers and store gateways; a relative path is in memberDir.'),
      certFile: z.string().default('etcd-client.pem').describe('Client certificate whose common name is the member.'),
      keyFile: z.string().default('etcd-client-key.pem').describe('Key of the client certificate.'),
      allowUnsafeVersion: z
        .boolean()
        .default(false)
        .describe('Accept an etcd with known authorization holes (below 3.5.33, 3.6.14, 3.7.1).'),
      members: z
        .record(
          label('store.members'),
          z.strictObject({
            endpoints: z
              .array(z.url({ protocol: /^https$/, error: 'must be https://<host>:<port>' }))
              .min(1)
              .max(16),
            caFile: z.string().optional(),
            certFile: z.string().optional(),
            keyFile: z.string().optional(),
          }),
        )
        .default({})
        .describe(
          'Members that have an etcd of their own, by name: `endpoints`, and `caFile`, `certFile`, `keyFile` where they differ. In a file only.',
        ),
    })
    .describe('The store that the members share.'),
  keys: z
    .strictObject({
      authorityFile: z
        .string()
        .default('authority.pem')
        .describe('Public key (Ed25519) of the cluster set’s authority.'),
      recordKeyFile: z.string().default('record-key.pem').describe('Private key that signs this member’s manifests.'),
      federationCertFile: z.string().default('federation-ca.pem').describe('CA certificate of this member’s gateways.'),
      federationKeyFile: z.string().default('federation-ca-key.pem').describe('Key of that CA.'),
      rotateAfterS: z
        .number()
        .int()
        .min(0)
        .max(10 * 365 * 86_400)
        .default(90 * 86_400)
        .describe('Age at which record key and federation CA are replaced, seconds; 0: never by age.'),
      overlapS: z
        .number()
        .int()
        .min(10)
        .max(365 * 86_400)
        .default(7 * 86_400)
        .describe('For how long keys that were replaced are accepted, from the announcement of the next, seconds.'),
    })
    .prefault({})
    .describe('Keys of this member.'),
  mesh: z
    .strictObject({
      cacertsDir: z
        .string()
        .default('/etc/cacerts')
        .describe('Intermediate CA in Istio’s cacerts layout; a change is taken up without a restart.'),
      certificateTtlS: z
        .number()
        .int()
        .min(60)
        .max(86_400)
        .default(86_400)
        .describe('Longest life of a workload certificate, seconds.'),
    })
    .prefault({})
    .describe('The mesh of this cluster.'),
  kube: z
    .strictObject({
      kubeconfig: z.string().optional().describe('Kubeconfig file; the pod’s service account when absent.'),
      context: z.string().optional().describe('Context in the kubeconfig.'),
    })
    .prefault({})
    .describe('How to reach this cluster’s API server.'),
  listen: z
    .strictObject({
      tokenAddress: address
        .default('0.0.0.0:15012')
        .describe('Discovery and certificates for ztunnels (Kubernetes token).'),
      gatewayAddress: address.default('0.0.0.0:15013').describe('Discovery for gateways (client certificate).'),
      adminAddress: address.default('127.0.0.1:15000').describe('What the command line talks to; loopback only.'),
      metricsAddress: address.default('0.0.0.0:15020').describe('Prometheus metrics.'),
      healthAddress: address.default('0.0.0.0:15021').describe('/livez and /readyz.'),
    })
    .prefault({})
    .describe('Listening addresses.'),
  state: z
    .strictObject({
      dir: z.string().default('/var/lib/isthmus').describe('Directory of the last good state.'),
      saveIntervalMs: ms(50, 60_000).default(1_000).describe('Shortest time between two saves, ms.'),
    })
    .prefault({})
    .describe('The last good state on disk.'),
  lease: z
    .strictObject({
      ttlMs: ms(1_000, 120_000).default(4_000).describe('Life of the writer’s lease, ms.'),
      renewMs: ms(200, 60_000).default(1_000).describe('Time between renewals, ms.'),
    })
    .prefault({})
    .refine((l) => l.renewMs * 3 <= l.ttlMs, {
      path: ['renewMs'],
      error: 'lease.renewMs must be at most a third of lease.ttlMs',
    })
    .describe('Which replica writes.'),
  publish: z
    .strictObject({
      heartbeatMs: ms(200, 60_000).default(1_000).describe('A manifest is written at least this often, ms.'),
      silenceMs: ms(1_000, 600_000)
        .default(5_000)
        .describe('A peer without a new manifest for this long is shown as silent, ms.'),
    })
    .prefault({})
    .describe('Records of this member.'),
  quota: z
    .strictObject({
      changesPerSecond: z
        .number()
        .int()
        .min(10)
        .max(1_000_000)
        .default(1_000)
        .describe('Keys that another member may change in a second, over a while, before it is frozen.'),
      ticksPerSecond: z
        .number()
        .int()
        .min(2)
        .max(100_000)
        .default(100)
        .describe('Manifests that another member may write in a second, over a while, before it is frozen.'),
    })
    .prefault({})
    .describe('What this member follows of each other one.'),
  failover: z
    .strictObject({
      order: z
        .array(z.string().min(1).max(63))
        .max(512)
        .default([])
        .describe('Members or regions by preference, after the own region.'),
      whenJournalUnwritable: z
        .enum(['refuse', 'spool'])
        .default('refuse')
        .describe(
          'What becomes of changes by people while the journal cannot be written; failover goes on in any case.',
        ),
    })
    .prefault({})
    .describe('Which clusters take over; everything else is in FailoverPolicy objects.'),
  metricQueries: z
    .strictObject({
      url: z
        .url({ protocol: /^https?$/, error: 'must be http(s)://<host>[:<port>][/<prefix>]' })
        .optional()
        .describe('Prometheus HTTP API that the metric queries of services are asked at; none is asked when absent.'),
      tokenFile: z.string().optional().describe('File with a bearer token for it.'),
      timeoutMs: ms(100, 30_000).default(3_000).describe('An answer that takes longer says nothing, ms.'),
    })
    .prefault({})
    .describe('Gray signals from metrics.'),
  audit: z
    .strictObject({
      enabled: z
        .boolean()
        .default(true)
        .describe('Keep a signed log of connections across the border, on this replica’s disk.'),
      bytesMax: z
        .number()
        .int()
        .min(limits.auditBytesMin)
        .default(256 * 1024 * 1024)
        .describe('Room for it on the disk, bytes; the oldest files go.'),
    })
    .prefault({})
    .describe('The border audit.'),
  gateway: z
    .strictObject({
      service: label('gateway.service').default('isthmus-egress').describe('Service in front of the local gateways.'),
      serviceAccount: label('gateway.serviceAccount')
        .default('isthmus-gateway')
        .describe('Account of the gateway pods.'),
      probeIntervalMs: ms(20, 10_000).default(60).describe('Time between two probes of a local gateway pod, ms.'),
    })
    .prefault({})
    .describe('The local gateways.'),
  egress: z
    .strictObject({
      identityConnectsPerSecond: z
        .number()
        .min(1)
        .max(limits.identityConnectsPerSecondMax)
        .default(limits.identityConnectsPerSecond)
        .describe(
          'New tunnels a second that each workload identity may open to other clusters, where no EgressPolicy says otherwise; divided among this cluster’s Envoys.',
        ),
    })
    .prefault({})
    .describe('What local workloads may do at the egress; rights are in EgressPolicy objects.'),
  log: logging(),
});

export type Config = z.infer<typeof configSchema>;
