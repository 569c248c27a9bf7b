/** Which ports a tunnel can carry. A CONNECT is a TCP connection, whatever runs on it, so UDP and SCTP have no path. */
const notTcp = new Set(['UDP', 'SCTP']);

/** `protocol`: TCP, UDP, SCTP or an application protocol, which runs on TCP. */
export const carriesTcp = (protocol: string): boolean => !notTcp.has(protocol.toUpperCase());
