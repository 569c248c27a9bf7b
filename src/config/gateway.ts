/** Every key of a gateway pod's runner (`isthmus gateway`). */
import { z } from 'zod';
import { address, label, logging, ms } from './fields.ts';

export const gatewaySchema = z.strictObject({
  member: label('member').describe('Name of this cluster in the set.'),
  clusterset: label('clusterset').describe('Name of the cluster set.'),
  pod: label('pod').describe('Name of this pod (POD_NAME).'),
  namespace: label('namespace').default('isthmus-system').describe('Namespace of this pod.'),
  serviceAccount: label('serviceAccount').default('isthmus-gateway').describe('Account of this pod.'),
  trustDomain: z.string().min(1).max(255).default('cluster.local').describe('SPIFFE trust domain of the mesh.'),
  controllers: z.array(address).min(1).max(8).describe('Discovery addresses of the controllers (port 15013).'),
  certificates: z
    .array(address)
    .min(1)
    .max(8)
    .describe('Certificate service addresses of the controllers (port 15012).'),
  controllerName: z
    .string()
    .default('isthmus-controller.isthmus-system.svc')
    .describe('DNS name in the controllers’ serving certificate.'),
  tokenFile: z
    .string()
    .default('/var/run/secrets/tokens/istio-token')
    .describe('Projected token of the pod, audience istio-ca.'),
  rootFile: z
    .string()
    .default('/var/run/secrets/istio/root-cert.pem')
    .describe('Root of the mesh, to verify the controllers.'),
  envoy: z.string().default('envoy').describe('Path of the Envoy binary.'),
  envoys: z.number().int().min(1).max(4).default(2).describe('Envoys that share the ports.'),
  concurrency: z.number().int().min(1).max(64).default(1).describe('Worker threads of each Envoy.'),
  runDir: z.string().default('/run/isthmus').describe('Directory of sockets, certificates and bootstraps.'),
  healthAddress: address.default('0.0.0.0:15021').describe('/livez and /readyz of the runner.'),
  drainMs: ms(0, 600_000).default(5_000).describe('Between turning unready and ending the Envoys, ms.'),
  log: logging(),
});

export type GatewayConfig = z.infer<typeof gatewaySchema>;
