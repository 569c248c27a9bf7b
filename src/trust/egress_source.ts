/**
 * Which workloads a rule of the egress means: exact identities, and beginnings of identities.
 *
 * Everything that can be written (an identity, a namespace, an account with `*` at its end) comes down to a text that an identity must
 * equal, or begin with. Two of these are nested or apart, never crossed: so for each identity there is one that fits best, which decides
 * where rules give different values. Regular expressions were passed over: Envoy bounds their size, and nobody could say which fits best.
 */
import { isDnsLabel } from '../core/names.ts';
import { isSubdomain } from '../records/fields.ts';
import { parseWorkloadId } from './spiffe.ts';

export interface SourcePattern {
  /** Of an identity, `spiffe://…`: the whole, or how it begins. */
  readonly text: string;
  readonly prefix: boolean;
}

/** What a source in a policy may say. */
export const sourceKinds = ['principals', 'namespaces', 'serviceAccounts'] as const;
export type SourceKind = (typeof sourceKinds)[number];

export const sourceForms: Readonly<Record<SourceKind, string>> = {
  principals: 'spiffe://<trust domain>/ns/<namespace>/sa/<account>, or an account with * at its end',
  namespaces: 'the name of a namespace, or *',
  serviceAccounts: '<namespace>/<account>, or an account with * at its end',
};

/** Of an account's name as written, `*` at its end: how it begins. Undefined: it is no such name. */
const account = (text: string): { readonly name: string; readonly prefix: boolean } | undefined => {
  if (!text.endsWith('*')) return isSubdomain(text) ? { name: text, prefix: false } : undefined;
  const name = text.slice(0, -1);
  // What a name may begin with: with a letter behind it, it is one.
  return name === '' || isSubdomain(`${name}a`) ? { name, prefix: true } : undefined;
};

const ofAccount = (trustDomain: string, namespace: string, text: string): SourcePattern | undefined => {
  const found = account(text);
  if (found === undefined || !isDnsLabel(namespace)) return undefined;
  return { text: `spiffe://${trustDomain}/ns/${namespace}/sa/${found.name}`, prefix: found.prefix };
};

/** Undefined: it is not of that form, or of another trust domain, whose workloads no mesh of this cluster set has. */
export const parseSource = (kind: SourceKind, value: string, trustDomain: string): SourcePattern | undefined => {
  switch (kind) {
    case 'namespaces':
      return isDnsLabel(value) ? { text: `spiffe://${trustDomain}/ns/${value}/sa/`, prefix: true } : undefined;
    case 'serviceAccounts': {
      const [namespace = '', name = '', more] = value.split('/');
      return more === undefined ? ofAccount(trustDomain, namespace, name) : undefined;
    }
    case 'principals': {
      // Istio writes them without the scheme.
      const id = value.startsWith('spiffe://') ? value : `spiffe://${value}`;
      const parsed = parseWorkloadId(id.endsWith('*') ? `${id.slice(0, -1)}a` : id);
      if (!parsed.ok || parsed.value.trustDomain !== trustDomain) return undefined;
      return ofAccount(trustDomain, parsed.value.namespace, id.slice(id.lastIndexOf('/') + 1));
    }
  }
};

export const matches = ({ text, prefix }: SourcePattern, identity: string): boolean =>
  prefix ? identity.startsWith(text) : identity === text;

/** Whether every identity that `inner` means is one of `outer`'s. */
export const covers = (outer: SourcePattern, inner: SourcePattern): boolean =>
  outer.prefix ? inner.text.startsWith(outer.text) : !inner.prefix && inner.text === outer.text;

/** As people write it. */
export const sourceText = ({ text, prefix }: SourcePattern): string => {
  const [, namespace = '', name = ''] = /\/ns\/([^/]*)\/sa\/(.*)$/.exec(text) ?? [];
  if (prefix && name === '') return `namespace ${namespace}`;
  return `${namespace}/${name}${prefix ? '*' : ''}`;
};
