/**
 * Which roots this cluster's workloads need: its own, and those of the members that it trades with. A member trades with us when
 * it exports a service that we share. Roots of other members go to nobody: within one trust domain every root can mint any
 * client identity.
 */
import { X509Certificate } from 'node:crypto';
import type { View } from '../federation/view.ts';

/** Sorted by content: the same on every replica. Our own roots are not in it. */
export const tradedRoots = (view: View): readonly X509Certificate[] => {
  const partners = new Set<string>();
  for (const service of view.services.values()) for (const member of service.remotes.keys()) partners.add(member);
  const roots = new Map<string, X509Certificate>();
  for (const name of partners) {
    for (const der of view.members.get(name)?.trust?.roots ?? []) {
      const certificate = new X509Certificate(der);
      roots.set(certificate.fingerprint256, certificate);
    }
  }
  return [...roots].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, certificate]) => certificate);
};
