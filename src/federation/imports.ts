/**
 * What this cluster takes of what others export: its own choice, that no peer can make for it. A Service says it of itself, a
 * namespace of its services, and else the configuration of the controller. The value is `true`; whatever else stands there means no.
 */
import type { ServiceKey } from '../core/names.ts';
import type { LocalCluster } from './local.ts';

/** Annotation of a Service; label or annotation of a namespace. */
export const importName = 'isthmus.dev/import';

/** `all`: what is not refused. `optIn`: what is asked for. */
export type Imports = 'all' | 'optIn';

/** What a label or an annotation says; undefined: nothing. */
export const importChoice = (value: string | undefined): boolean | undefined =>
  value === undefined ? undefined : value === 'true';

export const namespaceOf = (key: ServiceKey): string => key.slice(0, key.indexOf('/'));

export const isImported = (
  key: ServiceKey,
  { services, imports }: Pick<LocalCluster, 'services' | 'imports'>,
  otherwise: Imports,
): boolean =>
  importChoice(services.get(key)?.annotations[importName]) ?? imports?.get(namespaceOf(key)) ?? otherwise === 'all';
