/**
 * Which roots the proxies of a member have, put together from what each of its replicas knows.
 *
 * A ztunnel loads roots with its certificates and at no other time, so a certificate in use says which roots its holder has: those that it
 * was issued with. A gateway says it by what it acknowledged. Each replica knows what it issued and who acknowledged to it; of one holder
 * the newest certificate counts, whoever issued it. What nobody can know (a replica that died) counts as lacking until it must have ended.
 * Asking the proxies was passed over: ztunnel has no port for that.
 */
import { limits } from '../core/limits.ts';
import type { LoadedRecord, RootStanding } from '../gen/isthmus/v1/records_pb.ts';
import { noStanding } from '../records/loaded.ts';

/** What a certificate came with: roots, and the root that its own chain ends in; fingerprints, hexadecimal. */
export interface GivenRoots {
  readonly roots: readonly string[];
  readonly issuer: string;
}

export interface IssuedCertificate extends GivenRoots {
  /** For people: who holds it, and where. */
  readonly holder: string;
  /** UID of the pod that asked; empty: not known. */
  readonly pod: string;
  readonly issuedMs: number;
  readonly untilMs: number;
}

/** What one replica of the controller knows. Times are wall clock. */
export interface ReplicaReport {
  readonly replica: string;
  readonly atMs: number;
  /** It ended in good order: nothing was issued after this report. */
  readonly closed: boolean;
  /** What it gives now. */
  readonly gives: GivenRoots;
  readonly certificates: readonly IssuedCertificate[];
  /** Certificates of earlier runs of which only this is known. */
  readonly earlier: readonly (GivenRoots & { readonly untilMs: number })[];
  /** Envoys by node id, with what they last acknowledged, and when that was seen. */
  readonly gateways: readonly (GivenRoots & { readonly node: string; readonly seenMs: number })[];
}

export interface LoadedInput {
  readonly reports: readonly ReplicaReport[];
  readonly nowMs: number;
  /** Longest life of a certificate. */
  readonly ttlMs: number;
  /** Roots that proxies here should have: our own, and those of the partners. */
  readonly wanted: readonly string[];
  readonly partners: readonly string[];
  /** Pods of our controllers and gateways. */
  readonly controllers: readonly string[];
  readonly gatewayPods: readonly string[];
  /** UIDs of all pods of this cluster, and who lives where as `heldFor` names it; undefined: not known. */
  readonly pods: ReadonlySet<string> | undefined;
  /** Probes with a certificate under a root, by fingerprint. */
  readonly probes: ReadonlyMap<string, { readonly passed: readonly string[]; readonly failed: readonly string[] }>;
}

/** A certificate that a node's ztunnel has for the pods of an account there. */
export const heldFor = (namespace: string, account: string, node: string): string =>
  `${namespace}/${account} on ${node}`;

/** A replica says something at least three times in this. */
export const reportStaleMs = 90_000;
/** A pod may be known to the certificate service before it is known here. */
const podLagMs = 60_000;
const envoysPerPod = 2;

interface Holding extends GivenRoots {
  readonly name: string;
  /** Undefined: until it acknowledges. */
  readonly untilMs: number | undefined;
}

const newest = <T>(all: Iterable<T>, key: (one: T) => string, atMs: (one: T) => number): T[] => {
  const found = new Map<string, T>();
  for (const one of all) {
    const before = found.get(key(one));
    if (before === undefined || atMs(before) <= atMs(one)) found.set(key(one), one);
  }
  return [...found.values()];
};

const certificatesOf = ({ reports, nowMs, pods }: LoadedInput): Holding[] =>
  newest(
    reports.flatMap(({ certificates }) => certificates),
    ({ holder, pod }) => `${holder}\n${pod}`,
    ({ issuedMs }) => issuedMs,
  )
    .filter(({ untilMs, pod, issuedMs, holder }) => {
      // Of a pod that is gone, or a ztunnel's for pods that are gone from its node.
      const holds =
        pods === undefined || ((pod === '' || pods.has(pod)) && (!holder.includes(' on ') || pods.has(holder)));
      return untilMs > nowMs && (holds || nowMs - issuedMs <= podLagMs);
    })
    .map((one) => ({ name: one.holder, roots: one.roots, issuer: one.issuer, untilMs: one.untilMs }));

/** What cannot be told certificate by certificate. */
const unnamed = ({ reports, nowMs, ttlMs }: LoadedInput): Holding[] =>
  reports.flatMap(({ replica, atMs, closed, gives, earlier }) => {
    const name = `certificates of an earlier run of ${replica}`;
    const dead = !closed && nowMs - atMs > reportStaleMs;
    const after = { name: `certificates issued by ${replica} before it fell silent`, ...gives };
    return [
      ...earlier.map(({ roots, issuer, untilMs }) => ({ name, roots, issuer, untilMs })),
      ...(dead ? [{ ...after, untilMs: atMs + reportStaleMs + ttlMs }] : []),
    ].filter(({ untilMs }) => untilMs > nowMs);
  });

const podOf = (node: string): string => node.split('~')[0]!;

const gatewaysOf = ({ reports, gatewayPods }: LoadedInput): Holding[] =>
  newest(
    reports.flatMap(({ gateways }) => gateways),
    ({ node }) => node,
    ({ seenMs }) => seenMs,
  )
    .filter(({ node }) => gatewayPods.includes(podOf(node)))
    .map(({ node, roots, issuer }) => ({ name: `gateway ${node}`, roots, issuer, untilMs: undefined }));

const isLive = ({ nowMs }: LoadedInput, { closed, atMs }: ReplicaReport): boolean =>
  !closed && nowMs - atMs <= reportStaleMs;

const unknownOf = (input: LoadedInput, gateways: readonly Holding[]): string[] => {
  const { reports, controllers, gatewayPods } = input;
  const live = new Set(reports.filter((report) => isLive(input, report)).map(({ replica }) => replica));
  const silent = controllers.filter((pod) => !live.has(pod)).map((pod) => `controller ${pod} does not report`);
  const missing = gatewayPods.flatMap((pod) => {
    const seen = gateways.filter(({ name }) => podOf(name.slice('gateway '.length)) === pod).length;
    return seen >= envoysPerPod ? [] : [`gateway ${pod}: ${seen} of its ${envoysPerPod} Envoys have answered`];
  });
  return [...silent, ...missing];
};

const ascii = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, limits.loadedNameLengthMax);
const some = (names: readonly string[]): string[] =>
  [...new Set(names.map(ascii))].sort().slice(0, limits.loadedNamesMax);
const latest = (all: readonly Holding[]): bigint => BigInt(Math.max(0, ...all.map(({ untilMs }) => untilMs ?? 0)));

const standingOf = (input: LoadedInput, root: string, holdings: readonly Holding[]): RootStanding => {
  const live = input.reports.filter((report) => isLive(input, report));
  const every = (holds: (gives: GivenRoots) => boolean): boolean =>
    live.length > 0 && live.every(({ gives }) => holds(gives));
  const issuing = every(({ issuer }) => issuer === root);
  const lacking = input.wanted.includes(root) ? holdings.filter(({ roots }) => !roots.includes(root)) : [];
  // What issues now is in use as a matter of course, and would change this record with each certificate.
  const inUse = issuing ? [] : holdings.filter(({ issuer }) => issuer === root || issuer === '');
  const probes = input.probes.get(root);
  return {
    ...noStanding(new Uint8Array(Buffer.from(root, 'hex'))),
    given: every(({ roots }) => roots.includes(root)),
    issuing,
    lacking: lacking.length,
    lackingUntilMs: latest(lacking),
    lackingNames: some(lacking.map(({ name }) => name)),
    inUse: inUse.length,
    inUseUntilMs: latest(inUse),
    inUseNames: some(inUse.map(({ name }) => name)),
    probed: [...(probes?.passed ?? [])].sort(),
    probeFailed: [...(probes?.failed ?? [])].sort(),
  };
};

/** The record that the writer publishes. The same input gives the same bytes. */
export const loadedRecord = (input: LoadedInput): LoadedRecord => {
  const gateways = gatewaysOf(input);
  const holdings = [...certificatesOf(input), ...unnamed(input), ...gateways];
  const given = input.reports.filter((report) => isLive(input, report)).flatMap(({ gives }) => gives.issuer);
  const roots = new Set([...input.wanted, ...given, ...holdings.map(({ issuer }) => issuer), ...input.probes.keys()]);
  roots.delete('');
  return {
    $typeName: 'isthmus.v1.LoadedRecord',
    roots: [...roots]
      .sort()
      .slice(0, limits.loadedRootsMax)
      .map((root) => standingOf(input, root, holdings)),
    partners: [...input.partners].sort(),
    unknown: some(unknownOf(input, gateways)),
    critical: [],
  };
};
