/**
 * The faults that a world can have, as data: what shrinking leaves out, and what a person reads when a seed fails.
 *
 * Each begins at a time and is lifted after a while; those of an instant have `forMs` 0. `dark` kinds take away what is known, never
 * what works: while nothing else is wrong, nothing that is served may change.
 */

export type Fault = { readonly atMs: number; readonly forMs: number } & (
  | { readonly kind: 'controller-crash'; readonly cluster: string; readonly replica: number; readonly disk: boolean }
  | { readonly kind: 'controllers-down'; readonly cluster: string }
  | { readonly kind: 'controller-stopped'; readonly cluster: string; readonly replica: number }
  | { readonly kind: 'clock-jump'; readonly cluster: string; readonly replica: number; readonly ms: number }
  | { readonly kind: 'api-dark'; readonly cluster: string }
  | { readonly kind: 'etcd-stopped' | 'etcd-hung' }
  | { readonly kind: 'etcd-compacted' | 'etcd-dropped' | 'etcd-lost' }
  /** The data of so long ago comes back. */
  | { readonly kind: 'etcd-restored'; readonly agoMs: number }
  | { readonly kind: 'etcd-cut'; readonly cluster: string }
  | { readonly kind: 'path-cut'; readonly a: string; readonly b: string }
  | { readonly kind: 'path-one-way'; readonly from: string; readonly to: string }
  /** One gateway of `to` that `from` alone cannot reach. */
  | { readonly kind: 'gateway-cut'; readonly from: string; readonly to: string; readonly gateway: number }
  | { readonly kind: 'region-cut'; readonly region: string }
  | { readonly kind: 'path-slow'; readonly a: string; readonly b: string; readonly addMs: number }
  | { readonly kind: 'path-lossy'; readonly a: string; readonly b: string; readonly loss: number }
  | { readonly kind: 'path-flapping'; readonly a: string; readonly b: string; readonly periodMs: number }
  | { readonly kind: 'gateway-down'; readonly cluster: string; readonly gateway: number }
  | { readonly kind: 'gateways-down'; readonly cluster: string }
  | { readonly kind: 'cluster-down'; readonly cluster: string }
  /** So many of a hundred pods. */
  | { readonly kind: 'pods-unready'; readonly cluster: string; readonly service: string; readonly percent: number }
  | { readonly kind: 'pods-flapping'; readonly cluster: string; readonly service: string; readonly periodMs: number }
  /** Connects, and then answers so many of a hundred requests with an error. */
  | { readonly kind: 'gray'; readonly cluster: string; readonly service: string; readonly percent: number }
  | { readonly kind: 'overload'; readonly cluster: string; readonly service: string; readonly factor: number }
  /** A person in cluster `at`. */
  | { readonly kind: 'drain'; readonly at: string; readonly member: string; readonly service: string | undefined }
  | { readonly kind: 'freeze'; readonly at: string }
  | { readonly kind: 'hostile'; readonly act: HostileAct }
);

export const hostileActs = [
  'bad-signature',
  'replayed',
  'uncovered',
  'mass-withdrawal',
  'absurd-capacity',
  'foreign-names',
  'foreign-addresses',
  'foreign-prefix',
] as const;
export type HostileAct = (typeof hostileActs)[number];

export type FaultKind = Fault['kind'];

/** What takes away sight alone. */
export const darkKinds: ReadonlySet<FaultKind> = new Set<FaultKind>([
  'controller-crash',
  'controllers-down',
  'controller-stopped',
  'clock-jump',
  'api-dark',
  'etcd-stopped',
  'etcd-hung',
  'etcd-compacted',
  'etcd-dropped',
  'etcd-lost',
  'etcd-restored',
  'etcd-cut',
]);

/** What makes a path worse without breaking it. */
export const milderKinds: ReadonlySet<FaultKind> = new Set<FaultKind>(['path-slow', 'path-lossy']);

const seconds = (ms: number): string => `${Math.round(ms / 100) / 10} s`;

/** One line. */
export const shownFault = (fault: Fault): string => {
  const { kind, atMs, forMs, ...rest } = fault;
  const what = Object.entries(rest).map(([name, value]) => `${name}=${value}`);
  const when = forMs === 0 ? `at ${seconds(atMs)}` : `from ${seconds(atMs)} for ${seconds(forMs)}`;
  return `${when}: ${kind}${what.length === 0 ? '' : ` ${what.join(' ')}`}`;
};

/** Names of clusters that a fault speaks of. */
export const clustersOf = (fault: Fault): readonly string[] => {
  const named = fault as Partial<Record<'cluster' | 'a' | 'b' | 'from' | 'to' | 'at' | 'member', string>>;
  return [named.cluster, named.a, named.b, named.from, named.to, named.at, named.member].filter(
    (name) => name !== undefined,
  );
};
