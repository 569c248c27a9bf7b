/**
 * Policies of the mesh. A standalone controller cannot translate AuthorizationPolicy and PeerAuthentication yet; serving
 * proxies while leaving them out would open what somebody closed. So it refuses, and says which objects are in the way.
 */
import { IsthmusError } from '../../core/errors.ts';
import type { UntranslatablePolicy } from '../../federation/local.ts';
import { byName } from './resource.ts';

const namedMax = 20;

/** The error to refuse with, or undefined when nothing is in the way. Names the objects, the first twenty of them. */
export const untranslatable = (policies: readonly UntranslatablePolicy[]): IsthmusError | undefined => {
  if (policies.length === 0) return undefined;
  const names = policies.map((p) => `${p.kind} ${p.namespace}/${p.name}`).sort(byName);
  const more = names.length > namedMax ? ` and ${names.length - namedMax} more` : '';
  return new IsthmusError(
    'policy/untranslatable',
    `the standalone mesh cannot enforce these objects yet: ${names.slice(0, namedMax).join(', ')}${more}`,
    {
      hint: 'delete them if they are not needed, or keep istiod in charge of this cluster',
      subject: { policies: names.length, first: names[0]! },
    },
  );
};
