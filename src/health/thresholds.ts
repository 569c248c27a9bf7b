/** The thresholds of verdicts, all of them settable by a FailoverPolicy; times in ms. */
/** Names as Envoy's outlier detection has them. */
export interface OutlierThresholds {
  readonly consecutiveErrors: number;
  readonly consecutiveGatewayErrors: number;
  readonly failurePercentage: number;
  readonly failurePercentageMinimumVolume: number;
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionMs: number;
  /** Of the clusters that serve a service; the last one is never ejected, whatever this says. */
  readonly maxEjectionPercent: number;
}

export interface Thresholds {
  readonly outlier: OutlierThresholds;
  /** Probes of a peer that must fail, or succeed, in a row. */
  readonly probeFailures: number;
  readonly probeSuccesses: number;
  /** A peer's manifest is silent after this, widened by what its path needs. */
  readonly silentMs: number;
  /** How long suspicion lasts before quarantine, when the evidence stays. */
  readonly suspectMs: number;
  /** How long silent *and* unreachable lasts before eviction. */
  readonly evictMs: number;
  /** Share of the weight that a suspect with a doubtful data path keeps, 0–1, not 0. */
  readonly suspectWeight: number;
  /** A withdrawal that takes more than this share of a member's services at once is held. */
  readonly withdrawalPercent: number;
  /** Below this number of services no share is counted. */
  readonly withdrawalMinimum: number;
  readonly withdrawalHoldMs: number;
  /** Added to the penalty with each change of state; halves every half-life; above the limit a cell stays where it is, out. */
  readonly flapPenalty: number;
  readonly flapHalfLifeMs: number;
  readonly flapLimit: number;
  /** Gray probes that must fail, or succeed, in a row. */
  readonly grayFailures: number;
  readonly graySuccesses: number;
}

export const defaultThresholds: Thresholds = {
  outlier: {
    consecutiveErrors: 5,
    consecutiveGatewayErrors: 5,
    failurePercentage: 50,
    failurePercentageMinimumVolume: 20,
    intervalMs: 5_000,
    baseEjectionMs: 30_000,
    maxEjectionMs: 300_000,
    maxEjectionPercent: 100,
  },
  probeFailures: 3,
  probeSuccesses: 3,
  silentMs: 5_000,
  suspectMs: 250,
  evictMs: 10_000,
  suspectWeight: 0.5,
  withdrawalPercent: 30,
  withdrawalMinimum: 4,
  withdrawalHoldMs: 300_000,
  flapPenalty: 1_000,
  flapHalfLifeMs: 60_000,
  // An outage and its end are five changes: one alone is no flapping.
  flapLimit: 5_000,
  grayFailures: 3,
  graySuccesses: 5,
};
