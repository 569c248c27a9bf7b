/**
 * When a gateway takes a host out of use.
 *
 * A class is shared by many services, so another gateway is ejected only for failures to *reach* it (local-origin
 * errors); the 503 of one service without pods must not take it from all the others. Envoy also counts a stream that the
 * other side resets as a failure to reach it, and a pod that dies resets every tunnel it had. So the number in a row is
 * above what a pod usually has, and ejection is short: the calls of a dead gateway are tried again elsewhere in any case,
 * and its health check takes it out within a second and keeps it out. A service with a traffic policy has a class of its
 * own, where what the user asked for is enforced.
 *
 * A passing health check does not bring back what was ejected: it says that the gateway answers, not that what failed works
 * again.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { TrafficPolicy } from '../../federation/local.ts';
import type { OutlierDetectionSchema } from '../../gen/envoy/config/cluster/v3/outlier_detection_pb.ts';
import { duration } from './encoded.ts';

type OutlierInit = Extract<MessageInitShape<typeof OutlierDetectionSchema>, { $typeName?: never }>;

export const outlierDefaults = {
  consecutiveLocalOriginFailures: 100,
  intervalMs: 500,
  baseEjectionMs: 1_000,
  maxEjectionMs: 30_000,
} as const;

/** Success rates compare hosts with each other: with a handful of gateways that says nothing. */
const noStatistics = {
  enforcingSuccessRate: 0,
  enforcingLocalOriginSuccessRate: 0,
  enforcingFailurePercentage: 0,
  enforcingFailurePercentageLocalOrigin: 0,
} satisfies OutlierInit;

const shared = (): OutlierInit => ({
  ...noStatistics,
  splitExternalLocalOriginErrors: true,
  consecutiveLocalOriginFailure: outlierDefaults.consecutiveLocalOriginFailures,
  enforcingConsecutiveLocalOriginFailure: 100,
  enforcingConsecutive5xx: 0,
  enforcingConsecutiveGatewayFailure: 0,
  interval: duration(outlierDefaults.intervalMs),
  baseEjectionTime: duration(outlierDefaults.baseEjectionMs),
  maxEjectionTime: duration(outlierDefaults.maxEjectionMs),
  maxEjectionTimeJitter: duration(0),
  maxEjectionPercent: 100,
  successfulActiveHealthCheckUnejectHost: false,
});

/** 0 switches a rule off, as it does in Istio; undefined leaves it as it was. */
const rule = <N extends string, E extends string>(
  number: N,
  enforcing: E,
  value: number | undefined,
): Partial<Record<N | E, number>> => {
  if (value === undefined) return {};
  const set = value === 0 ? { [enforcing]: 0 } : { [number]: value, [enforcing]: 100 };
  return set as Partial<Record<N | E, number>>;
};

/** Detection for a class: the defaults, or a user's rules where there are some. */
export const gatewayOutlier = (policy: TrafficPolicy | undefined): OutlierInit => {
  if (policy === undefined) return shared();
  const { consecutive5xxErrors, consecutiveGatewayErrors, intervalMs, baseEjectionTimeMs, maxEjectionPercent } = policy;
  const counted = consecutive5xxErrors !== undefined || consecutiveGatewayErrors !== undefined;
  return {
    ...shared(),
    // Errors of both origins count as one, which is what the two rules mean in Istio.
    ...(counted ? { splitExternalLocalOriginErrors: false } : {}),
    ...rule('consecutive5xx', 'enforcingConsecutive5xx', consecutive5xxErrors),
    ...rule('consecutiveGatewayFailure', 'enforcingConsecutiveGatewayFailure', consecutiveGatewayErrors),
    ...(intervalMs === undefined ? {} : { interval: duration(intervalMs) }),
    ...(baseEjectionTimeMs === undefined
      ? {}
      : {
          baseEjectionTime: duration(baseEjectionTimeMs),
          maxEjectionTime: duration(Math.max(baseEjectionTimeMs, outlierDefaults.maxEjectionMs)),
        }),
    ...(maxEjectionPercent === undefined ? {} : { maxEjectionPercent }),
  };
};

/**
 * Detection for our own pods: one that does not take connections is passed over. Half a second at first: with every pod out
 * the answer is 503 at once, which sends the caller to another cluster, and must not outlast a hiccup.
 */
export const podOutlier = (): OutlierInit => ({
  ...shared(),
  consecutiveLocalOriginFailure: 2,
  interval: duration(250),
  baseEjectionTime: duration(500),
  maxEjectionTime: duration(5_000),
});
