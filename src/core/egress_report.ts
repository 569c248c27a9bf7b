/** What a controller says of rights and limits at the border: the shapes of the admin API. */

/** Denials of the last ten minutes that are alike. */
export interface DenialReport {
  readonly side: 'egress' | 'ingress' | 'direct';
  /** Identity of the workload; at the ingress the member; `*`: several. */
  readonly source: string;
  /** `namespace/name`; empty: not a service that is known here. */
  readonly service: string;
  readonly reason: string;
  /** Of a policy: `<policy>/<number>`, `none` where no rule allows it; else empty. */
  readonly rule: string;
  readonly count: number;
  /** Since the last one. */
  readonly lastSeconds: number;
}

export interface EgressReport {
  /** EgressPolicies of which a version is in force. */
  readonly policies: number;
  /** Those whose newest version is refused. */
  readonly refused: number;
  /** Whether what no rule allows is denied. */
  readonly deniesByDefault: boolean;
  /** Newest first. */
  readonly denied: readonly DenialReport[];
  /** Further ones that are not told. */
  readonly more: number;
}
