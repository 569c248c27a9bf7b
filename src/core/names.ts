/** Names and identifiers that cross rooms, and the checks they must pass before anything else looks at them. */
import { fail, ok, type Result } from './errors.ts';
import { limits } from './limits.ts';

const dnsLabel = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

/** A DNS label (RFC 1123), as Kubernetes wants namespaces, services and member names. */
export const isDnsLabel = (value: string): boolean => value.length <= limits.nameLengthMax && dnsLabel.test(value);

/** `namespace/name`, the key by which a service is the same in every cluster (MCS API, namespace sameness). */
export type ServiceKey = string;

export const serviceKey = (namespace: string, name: string): ServiceKey => `${namespace}/${name}`;

export const parseServiceKey = (key: string): Result<{ namespace: string; name: string }> => {
  const [namespace, name, rest] = key.split('/');
  if (
    namespace === undefined ||
    name === undefined ||
    rest !== undefined ||
    !isDnsLabel(namespace) ||
    !isDnsLabel(name)
  ) {
    return fail('usage/invalid', `"${key}" is not a service`, { hint: 'write it as <namespace>/<service>' });
  }
  return ok({ namespace, name });
};

/** The authority by which the service is called in every cluster of the set. */
export const serviceHostname = (namespace: string, name: string, clusterDomain: string): string =>
  `${name}.${namespace}.svc.${clusterDomain}`;
