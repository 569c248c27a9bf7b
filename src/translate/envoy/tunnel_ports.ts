/**
 * The ports of a service that a tunnel can carry. A CONNECT is a TCP connection, so UDP and SCTP have no path; and a number
 * that is there twice (DNS over TCP and UDP) counts once, for Envoy refuses all routes when two hosts have one name.
 */
interface Port {
  readonly port: number;
  readonly protocol: string;
}

const notTcp = new Set(['UDP', 'SCTP']);

/** Port numbers, each once, in their order. */
export const tunnelPorts = (ports: readonly Port[]): number[] => [
  ...new Set(ports.filter(({ protocol }) => !notTcp.has(protocol.toUpperCase())).map(({ port }) => port)),
];
