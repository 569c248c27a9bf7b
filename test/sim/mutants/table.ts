/** Broken variants: a place of the sources, what it becomes, and the invariant that must notice. */
import type { Wanted } from '../world/draw-scenario.ts';

export interface Mutant {
  readonly name: string;
  /** Relative to the repository. */
  readonly file: string;
  /** Occurs exactly once. */
  readonly find: string;
  readonly replace: string;
  /** Name of the invariant that catches it. */
  readonly invariant: string;
  /** Where to look for it. */
  readonly wanted?: Wanted;
}

export const mutants: readonly Mutant[] = [
  {
    name: 'records are used without a manifest that covers them',
    file: 'src/federation/staging.ts',
    find: 'return this.#overflow === undefined && count === this.#set.count && this.#set.root().equals(root);',
    replace: 'return this.#overflow === undefined && count + root.length >= 0;',
    invariant: 'covered-records',
    wanted: { kinds: ['hostile'], clusters: 4 },
  },
  {
    name: 'any signature will do',
    file: 'src/records/signed.ts',
    find: 'verify(null, message(kind, signed.payload), key, signed.signature);',
    replace: 'verify(null, message(kind, signed.payload), key, signed.signature) || kind === "manifest";',
    invariant: 'withdrawal-held',
    wanted: { kinds: ['hostile'], clusters: 4 },
  },
  {
    name: 'an older manifest is taken',
    file: 'src/federation/head.ts',
    find: '  if (order > 0) return undefined;',
    replace: '  if (order !== 0) return undefined;',
    invariant: 'heads-never-back',
    wanted: { kinds: ['hostile', 'etcd-restored'], clusters: 4 },
  },
  {
    name: 'a term begins at the epoch that stands',
    file: 'src/store/publisher.ts',
    find: 'const epoch = max(known, BigInt(Math.floor(clock.wallMs()))) + 1n;',
    replace: 'const epoch = max(manifest?.epoch ?? 0n, 1n);',
    invariant: 'heads-never-back',
    wanted: { kinds: ['controller-crash', 'etcd-restored'], clusters: 3 },
  },
  {
    name: 'namespaces are not checked',
    file: 'src/trust/grants.ts',
    find: "const namespace = (name: string): boolean => namespaces.has('*') || namespaces.has(name);",
    replace: "const namespace = (name: string): boolean => name !== '';",
    invariant: 'hostile-alone',
    wanted: { kinds: ['hostile'], clusters: 4 },
  },
];
