/** Whether a proxy says who it is. What it may see follows from its credentials alone; the id is what people read in `status`. */
import { IsthmusError } from '../core/errors.ts';
import type { TokenPeer } from './api.ts';

const mismatch = (nodeId: string, expected: string): IsthmusError =>
  new IsthmusError('xds/node-mismatch', `node id "${nodeId}" is not the caller's own`, {
    hint: `expected ${expected}`,
  });

/** `ztunnel~<ip>~<pod>.<namespace>~<domain>`, with the pod that the token is bound to. */
export const ztunnelNodeProblem = (nodeId: string, peer: TokenPeer): IsthmusError | undefined => {
  if (peer.pod === undefined) {
    return new IsthmusError(
      'xds/node-mismatch',
      `the token of ${peer.namespace}/${peer.serviceAccount} is bound to no pod`,
      {
        hint: 'use a projected token of the pod (TokenRequest with boundObjectRef)',
      },
    );
  }
  const own = `${peer.pod.name}.${peer.namespace}`;
  const parts = nodeId.split('~');
  const valid = parts.length === 4 && parts[0] === 'ztunnel' && parts[2] === own;
  return valid ? undefined : mismatch(nodeId, `ztunnel~<ip>~${own}~<domain>`);
};

/** `<pod>`, or `<pod>~<anything>` for the two Envoys of a pod. */
export const gatewayNodeProblem = (
  nodeId: string,
  isGatewayPod: (pod: string) => boolean,
): IsthmusError | undefined => {
  const pod = nodeId.split('~', 1)[0]!;
  const valid = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(pod) && pod.length <= 253 && isGatewayPod(pod);
  return valid ? undefined : mismatch(nodeId, '<name of a gateway pod>[~<suffix>]');
};
