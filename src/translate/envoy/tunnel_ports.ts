/**
 * The ports of a service that a tunnel can carry. A number that is there twice (DNS over TCP and UDP) counts once, for Envoy
 * refuses all routes when two hosts have one name.
 */
import { carriesTcp } from '../../core/transport.ts';

interface Port {
  readonly port: number;
  readonly protocol: string;
}

/** Port numbers, each once, in their order. */
export const tunnelPorts = (ports: readonly Port[]): number[] => [
  ...new Set(ports.filter(({ protocol }) => carriesTcp(protocol)).map(({ port }) => port)),
];
