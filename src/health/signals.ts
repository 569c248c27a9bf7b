/**
 * What the decision rooms are told of the world: a snapshot of what stands, and the events since the last step.
 *
 * Times are on the controller's monotonic scale, in ms. Adapters fill these shapes and draw no conclusion: that a probe failed is
 * a signal, that a peer is bad is a verdict.
 */
import type { ServiceKey } from '../core/names.ts';

/** How far a probe came before it broke, in the order of the path. */
export const probeStages = ['tcp', 'tls', 'connect', 'inner-tls', 'identity'] as const;
export type ProbeStage = (typeof probeStages)[number];

/** One probe through the real path, pinned to one peer, without retries. */
export interface ProbeResult {
  readonly member: string;
  /** Undefined: the probe was of the peer's gateways alone. */
  readonly service: ServiceKey | undefined;
  /** The peer's gateway that was asked, by its id; left out when the path chose it. */
  readonly gateway?: string | undefined;
  /** When it ended. */
  readonly atMs: number;
  /** True also when the peer's policy denied it: a denial is an answer. */
  readonly ok: boolean;
  readonly denied: boolean;
  /** Where it broke; undefined when ok. */
  readonly failedAt: ProbeStage | undefined;
  /** HTTP status of the CONNECT, when there was one. */
  readonly status: number | undefined;
  /** Whether the status is the peer's own, by its mark on the answer, and not that of a gateway on the way; left out when it is not known. */
  readonly reached?: boolean | undefined;
  /** Of the answer, whole. */
  readonly ms: number | undefined;
  /** The peer's newest manifest head, when the answer brought it back. */
  readonly head: { readonly epoch: bigint; readonly sequence: bigint } | undefined;
}

/** What this cluster's gateways saw of traffic to one peer (and one service) in a window. Only CONNECTs are seen, nothing inside them. */
export interface TrafficWindow {
  readonly member: string;
  /** Undefined: all services together, as load reports tell it. */
  readonly service: ServiceKey | undefined;
  /** End of the window and its length. */
  readonly atMs: number;
  readonly windowMs: number;
  /** CONNECTs sent to this peer, retries included. */
  readonly tries: number;
  readonly established: number;
  /** Could not connect, reset, timed out: local-origin errors. */
  readonly localErrors: number;
  /** Answered with a gateway error (502, 503, 504). */
  readonly gatewayErrors: number;
  /** Answered with any other 5xx. */
  readonly otherErrors: number;
  /** Refused by the peer's grant or limits. */
  readonly refused: number;
  /** Tunnels that broke after their 200. */
  readonly cut: number;
  /** Sum of the times from CONNECT to 200, of `established`. */
  readonly connectMsSum: number;
  /** Gateways of the peer that our Envoys hold ejected at the end, of how many. */
  readonly ejected: number;
  readonly gateways: number;
}

/** An opt-in probe of the application, or a metric: the only signal that can see a gray failure. */
export interface GraySignal {
  readonly service: ServiceKey;
  /** May be this cluster itself. */
  readonly member: string;
  readonly atMs: number;
  readonly ok: boolean;
  /** As `status 503` or `took 2104 ms, above 500 ms`. */
  readonly detail: string;
}

/** What stands of a peer's control plane. */
export interface ControlSignal {
  /** Since its manifest last rose; undefined when it never did. */
  readonly ageMs: number | undefined;
  /** Its records stand in a store of their own that is not heard just now: then its silence says nothing. */
  readonly dark?: boolean;
  /** Its own word. */
  readonly shuttingDown: boolean;
  readonly draining: boolean;
}

/** Round trip to a peer and its mean deviation. */
export interface PathTime {
  readonly rttMs: number;
  readonly varMs: number;
}

/** A region's failure as one member sees it, from its signed votes. */
export interface Vote {
  readonly voter: string;
  /** Of the voter, by its membership. */
  readonly voterRegion: string;
  readonly accused: string;
  readonly down: boolean;
  readonly ageMs: number;
}

/** How much spill a member offers us for a service. */
export interface GrantOffer {
  readonly member: string;
  /** `*`: of each service that has no grant of its own. */
  readonly service: ServiceKey | '*';
  /** New connections a second. */
  readonly perSecond: number;
}

/** What people ask for; each is journalled with its author. */
export type Command =
  | {
      readonly kind: 'drain' | 'undrain';
      readonly target: DrainTarget;
      readonly author: string;
      readonly reason: string;
      /** Time for the ramp; undefined: the policy's. */
      readonly overMs: number | undefined;
      /** Existing connections are left to finish until then; undefined: the policy's. */
      readonly graceMs: number | undefined;
    }
  | { readonly kind: 'freeze' | 'thaw'; readonly author: string; readonly reason: string }
  /** Lets a latched failback go on, or a held withdrawal happen. */
  | {
      readonly kind: 'failback' | 'confirm-withdrawal';
      readonly member: string;
      readonly service: ServiceKey | undefined;
      readonly author: string;
      readonly reason: string;
    };

export type DrainTarget =
  | { readonly scope: 'cluster'; readonly member: string }
  | { readonly scope: 'region'; readonly region: string }
  | { readonly scope: 'gateway'; readonly member: string; readonly gateway: string }
  | { readonly scope: 'service'; readonly member: string; readonly service: ServiceKey };

/** Everything that a step is told besides the view. */
export interface Signals {
  /** By member; ourselves left out. */
  readonly control: ReadonlyMap<string, ControlSignal>;
  /** Age of our own manifest as our watch reads it back: undefined when never. Old: the store is dark, and nobody's silence counts. */
  readonly readBackMs: number | undefined;
  readonly paths: ReadonlyMap<string, PathTime>;
  readonly votes: readonly Vote[];
  readonly grants: readonly GrantOffer[];
  /** Services for which this cluster takes other clusters' spill just now: they may not spill on. */
  readonly receivingSpill: ReadonlySet<ServiceKey>;
  /** Events since the last step, oldest first. */
  readonly probes: readonly ProbeResult[];
  readonly traffic: readonly TrafficWindow[];
  readonly gray: readonly GraySignal[];
  readonly commands: readonly Command[];
}

export const noSignals: Signals = {
  control: new Map(),
  readBackMs: undefined,
  paths: new Map(),
  votes: [],
  grants: [],
  receivingSpill: new Set(),
  probes: [],
  traffic: [],
  gray: [],
  commands: [],
};
