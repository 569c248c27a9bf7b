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
    name: 'records count without a manifest that covers them',
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
    replace: 'verify(null, message(kind, signed.payload), key, signed.signature) || kind !== "membership";',
    invariant: 'covered-records',
    wanted: { kinds: ['hostile'], clusters: 4 },
  },
  {
    name: 'an older manifest is taken',
    file: 'src/federation/member.ts',
    find: `    if (stale !== undefined) return { ok: false, error: stale };
    if (this.#seen === undefined || compareHeads(manifest.value, this.#seen) > 0) {`,
    replace:
      '    if (stale !== undefined || this.#seen === undefined || compareHeads(manifest.value, this.#seen) > 0) {',
    invariant: 'heads-never-back',
    wanted: { kinds: ['hostile', 'etcd-restored'], clusters: 4 },
  },
  {
    name: 'a new term does not rise above what is known',
    file: 'src/store/term.ts',
    find: 'max(...known.map((epoch) => epoch ?? 0n),',
    replace: 'max(...known.map(() => 0n),',
    invariant: 'heads-never-back',
    wanted: { kinds: ['controller-crash', 'clock-jump'], clusters: 3 },
  },
  {
    name: 'namespaces are not checked',
    file: 'src/trust/grants.ts',
    find: "const namespace = (name: string): boolean => namespaces.has('*') || namespaces.has(name);",
    replace: "const namespace = (name: string): boolean => namespaces.has('*') || name !== '';",
    invariant: 'hostile-alone',
    wanted: { kinds: ['hostile'], clusters: 4 },
  },
  {
    name: 'any address may be named',
    file: 'src/federation/admission.ts',
    find: 'if (problem !== undefined) {',
    replace: 'if (problem !== undefined && address === "") {',
    invariant: 'hostile-alone',
    wanted: { kinds: ['hostile'], clusters: 4 },
  },
  {
    name: 'a mass withdrawal is taken at its word',
    file: 'src/federation/withdrawals.ts',
    find: '  if (nowMs < held.deadlineMs) return undefined;',
    replace: '  if (nowMs < held.sinceMs) return undefined;',
    invariant: 'withdrawal-held',
    wanted: { kinds: ['hostile'], clusters: 4 },
  },
  {
    name: 'with everybody bad nobody is left',
    file: 'src/failover/placement.ts',
    find: 'cells: lastResort(cells, lastGood())',
    replace: 'cells: lastResort(cells, lastGood()).slice(cells.length)',
    invariant: 'never-empty',
    wanted: { kinds: ['path-cut', 'cluster-down', 'pods-unready'], clusters: 2, policy: 'quick' },
  },
  {
    name: 'evicted cells are as good as others',
    file: 'src/failover/standing.ts',
    find: "(state === 'quarantined' || state === 'evicted') && reason !== 'Draining'",
    replace: "state === 'quarantined' && reason !== 'Draining'",
    invariant: 'evicted-unused',
    wanted: { kinds: ['cluster-down', 'region-cut'], clusters: 4, policy: 'quick' },
  },
  {
    name: 'a manifest that rises is no sign of life',
    file: 'src/health/peer.ts',
    find: "  if (ageMs <= limitMs) return 'fresh';",
    replace: "  if (ageMs <= -limitMs) return 'fresh';",
    invariant: 'no-false-eviction',
    wanted: { kinds: ['path-cut', 'path-one-way'], clusters: 4, policy: 'quick' },
  },
  {
    name: 'silence while our own store is dark counts',
    file: 'src/health/presence.ts',
    find: 'const light = readBackMs !== undefined && readBackMs <= silentMs / 2;',
    replace: 'const light = readBackMs !== undefined && silentMs > 0;',
    invariant: 'no-false-eviction',
    wanted: { kinds: ['etcd-cut', 'path-cut'], clusters: 4, policy: 'quick' },
  },
  {
    name: 'a dead path is no reason to leave',
    file: 'src/failover/standing.ts',
    find: "(state === 'quarantined' || state === 'evicted') && reason !== 'Draining'",
    replace: "state === 'evicted' && reason !== 'Draining'",
    invariant: 'leaves-the-dead',
    wanted: { kinds: ['path-cut', 'path-one-way'], clusters: 4, policy: 'quick' },
  },
  {
    name: 'who waits is no better than who is bad',
    file: 'src/failover/placement.ts',
    find: "return idle ? 'waiting' : 'in-use';",
    replace: "return idle ? 'last' : 'in-use';",
    invariant: 'served-while-usable',
    wanted: { kinds: ['path-cut', 'cluster-down', 'pods-unready', 'gateways-down'], clusters: 3, policy: 'latched' },
  },
  {
    name: 'spill is spilled on',
    file: 'src/failover/local_share.ts',
    find: 'if (scene.receivingSpill) {',
    replace: 'if (scene.receivingSpill && local.total < 0) {',
    invariant: 'no-spill-on-spill',
    wanted: { kinds: ['pods-unready', 'cluster-down'], clusters: 4, policy: 'quick' },
  },
  {
    name: 'each reader is granted all of it',
    file: 'src/failover/grants.ts',
    find: 'const share = Math.floor(headroom / readers.length);',
    replace: 'const share = Math.floor(headroom);',
    invariant: 'grants-within-headroom',
    wanted: { kinds: ['pods-unready'], clusters: 4, policy: 'declared' },
  },
  {
    name: 'grants are not looked at',
    file: 'src/failover/spread.ts',
    find: 'const cap = demand === undefined || cell.grant === undefined ? Number.POSITIVE_INFINITY : cell.grant / demand;',
    replace: 'const cap = Number.POSITIVE_INFINITY;',
    invariant: 'within-grant',
    wanted: { kinds: ['overload', 'pods-unready'], clusters: 5, policy: 'declared' },
  },
  {
    name: 'moves are not counted',
    file: 'src/failover/moves.ts',
    find: 'moves.length < max ? undefined :',
    replace: 'moves.length < max * 1_000 ? undefined :',
    invariant: 'moves-bounded',
    wanted: { kinds: ['path-flapping', 'pods-flapping', 'pods-unready', 'drain'], clusters: 4, policy: 'few-moves' },
  },
  {
    name: 'decisions are not journalled',
    file: 'src/failover/decide.ts',
    find: '  run.journal.push(...decisions);',
    replace: '  run.journal.push(...decisions.filter((d) => d.kind !== "shift"));',
    invariant: 'every-shift-journalled',
    wanted: { kinds: ['path-cut', 'pods-unready'], clusters: 4, policy: 'quick' },
  },
  {
    name: 'a store without manifests empties members',
    file: 'src/federation/member.ts',
    find: '    if (manifest?.ok === true && this.#admitting && this.#staging.matches(manifest.value.root, manifest.value.count)) {',
    replace:
      '    if (this.#manifestBytes === undefined && this.#staging.count === 0) {\n      for (const [key, value] of this.#staging.take()) this.#records.admit(key, value);\n    }\n    if (manifest?.ok === true && this.#admitting && this.#staging.matches(manifest.value.root, manifest.value.count)) {',
    invariant: 'dark-changes-nothing',
    wanted: { kinds: ['etcd-lost'], clusters: 3, policy: 'quick' },
  },
  {
    name: 'who is silent is in doubt',
    file: 'src/failover/standing.ts',
    find: 'const doubtful: ReadonlySet<Reason> = new Set<Reason>([',
    replace: "const doubtful: ReadonlySet<Reason> = new Set<Reason>([\n  'ControlSilent',",
    invariant: 'dark-changes-nothing',
    wanted: { kinds: ['controllers-down'], clusters: 5, policy: 'quick' },
  },
  {
    name: 'what cells went through is not saved',
    file: 'src/failover/saved.ts',
    find: '  ...(memory.cells.size === 0',
    replace: '  ...(memory.cells.size >= 0',
    invariant: 'restart-undoes-nothing',
    wanted: { kinds: ['path-cut', 'pods-unready', 'drain', 'controller-crash'], clusters: 4, policy: 'latched' },
  },
  {
    name: 'wakes at once, always',
    file: 'src/health/assess.ts',
    find: 'wakeAt: quiet ? undefined : Math.max(now + 1, step.wakeMs)',
    replace: 'wakeAt: quiet ? undefined : Math.min(now + 1, step.wakeMs)',
    invariant: 'no-busy-loop',
    wanted: { kinds: ['path-cut', 'controllers-down'], clusters: 3, policy: 'quick' },
  },
  {
    name: 'nobody ever comes back',
    file: 'src/failover/ramp.ts',
    find: "    if (mode === 'latched') {",
    replace: '    if (mode !== undefined) {',
    invariant: 'converges',
    wanted: { kinds: ['path-cut', 'pods-unready'], clusters: 4, policy: 'quick' },
  },
];
