/**
 * The part of Istio's objects that matters here: a DestinationRule's limits for a host, and which authorization objects
 * exist that ztunnel would have to be told about.
 */
import type { ServiceKey } from '../core/names.ts';
import { serviceKey } from '../core/names.ts';
import type { TrafficPolicy, UntranslatablePolicy } from '../federation/local.ts';
import { count, type Json, record, text } from './json.ts';

export interface RuleObject {
  readonly namespace: string;
  readonly name: string;
  readonly createdMs: number;
  readonly host: string;
  readonly policy: TrafficPolicy;
}

const units: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/** A Go duration such as "1m30s" or "100ms", in whole milliseconds. Undefined when it is none. */
export const durationMs = (value: string): number | undefined => {
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(value)) return undefined;
  let sum = 0;
  for (const [, amount, unit] of value.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) {
    sum += Number(amount) * (units[unit ?? ''] ?? 0);
  }
  return Number.isSafeInteger(Math.round(sum)) ? Math.round(sum) : undefined;
};

const whole = (from: Json, field: string, most = 0xffff_ffff): number | undefined => {
  const value = count(from, field);
  return value !== undefined && Number.isInteger(value) && value >= 0 && value <= most ? value : undefined;
};

export const projectRule = (object: Json): RuleObject | undefined => {
  const metadata = record(object, 'metadata');
  const spec = record(object, 'spec');
  // A rule for chosen workloads says how those call, not how a gateway does.
  if (spec.workloadSelector !== undefined) return undefined;
  const traffic = record(spec, 'trafficPolicy');
  const outlier = record(traffic, 'outlierDetection');
  const tcp = record(record(traffic, 'connectionPool'), 'tcp');
  const created = Date.parse(text(metadata, 'creationTimestamp'));
  return {
    namespace: text(metadata, 'namespace'),
    name: text(metadata, 'name'),
    createdMs: Number.isNaN(created) ? 0 : created,
    host: text(spec, 'host').toLowerCase(),
    policy: {
      // consecutiveErrors is the old name, still accepted by Istio.
      consecutive5xxErrors: whole(outlier, 'consecutive5xxErrors') ?? whole(outlier, 'consecutiveErrors'),
      consecutiveGatewayErrors: whole(outlier, 'consecutiveGatewayErrors'),
      intervalMs: durationMs(text(outlier, 'interval')),
      baseEjectionTimeMs: durationMs(text(outlier, 'baseEjectionTime')),
      maxEjectionPercent: whole(outlier, 'maxEjectionPercent', 100),
      maxConnections: whole(tcp, 'maxConnections'),
    },
  };
};

/**
 * The service that a rule's host means, if it is one of the rule's own namespace: `name`, `name.ns`, `name.ns.svc` or the
 * full name. Rules for services of other namespaces, and wildcards, are not honoured.
 */
export const ruleTarget = (rule: RuleObject, clusterDomain: string): ServiceKey | undefined => {
  const { host, namespace } = rule;
  if (host === '' || host.includes('*')) return undefined;
  const [name = '', ...rest] = host.split('.');
  const suffix = rest.join('.');
  const ours = ['', namespace, `${namespace}.svc`, `${namespace}.svc.${clusterDomain}`];
  return name !== '' && ours.includes(suffix) ? serviceKey(namespace, name) : undefined;
};

export const hasPolicy = (policy: TrafficPolicy): boolean => Object.values(policy).some((value) => value !== undefined);

/** Oldest first, then by name: the order in which Istio lets rules for one host win. */
export const byAge = (a: RuleObject, b: RuleObject): number =>
  a.createdMs - b.createdMs || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);

/** PeerAuthentications that allow what ztunnel allows anyway need no translation. */
const isDefaultPeerAuthentication = (spec: Json): boolean => {
  const mode = text(record(spec, 'mtls'), 'mode');
  const ports = Object.keys(record(spec, 'portLevelMtls')).length;
  return ports === 0 && (mode === '' || mode === 'UNSET' || mode === 'PERMISSIVE');
};

export const projectPolicy =
  (kind: UntranslatablePolicy['kind']) =>
  (object: Json): UntranslatablePolicy | undefined => {
    if (kind === 'PeerAuthentication' && isDefaultPeerAuthentication(record(object, 'spec'))) return undefined;
    const metadata = record(object, 'metadata');
    return { kind, namespace: text(metadata, 'namespace'), name: text(metadata, 'name') };
  };
