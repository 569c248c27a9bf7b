/**
 * What a probe and the gateways on its way agree on: the words in its headers.
 *
 * A probe comes to the local gateway's egress port under an SNI of its own, which only the controller's identity may use, and says
 * there which member and which of its gateways it is meant for. Nothing else chooses, and nothing is tried again elsewhere.
 */

/** Names the member that the probe is pinned to; the far gateway's log shows by it that a CONNECT was a probe. */
export const probeHeader = 'x-isthmus-probe';

/** The gateway of that member: `ip:port` of its federation listener. */
export const probeGatewayHeader = 'x-isthmus-probe-gateway';

/** On the answer to a CONNECT to `gatewayAuthority`: `<epoch>.<sequence>` of the newest manifest of the far member. */
export const headHeader = 'x-isthmus-head';

/** On the same answer: who was put out, as far as the far member knows (`federation/revocation_text.ts`). */
export const revocationsHeader = 'x-isthmus-revocations';

/** Answered by the far gateway itself. No service is called so: their names end in the cluster's domain. */
export const gatewayAuthority = 'gateway.federation.isthmus:15028';

/** The SNI under which the egress listener takes probes. */
export const probeSni = (clusterset: string): string => `probe.${clusterset}.isthmus`;

interface Head {
  readonly epoch: bigint;
  readonly sequence: bigint;
}

export const headText = ({ epoch, sequence }: Head): string => `${epoch}.${sequence}`;

/** Undefined for anything but two plain numbers that fit a uint64. */
export const parseHead = (text: string | undefined): Head | undefined => {
  const match = /^(\d{1,20})\.(\d{1,20})$/.exec(text ?? '');
  if (match === null) return undefined;
  const [epoch, sequence] = [BigInt(match[1]!), BigInt(match[2]!)];
  const end = 2n ** 64n;
  return epoch < end && sequence < end ? { epoch, sequence } : undefined;
};
