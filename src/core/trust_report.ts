/** What a controller knows of the roots of all members: the answer of `GET /v1/trust`. Roots are SHA-256 of the certificate, hexadecimal. */

export interface RootReport {
  readonly root: string;
  /** Each new certificate comes with it. */
  readonly given: boolean;
  /** The CA that issues now ends in it. */
  readonly issuing: boolean;
  /** Proxies and certificates in use without it, when the last of these certificates ends (ms since 1970, 0: not by itself), and some of them. */
  readonly lacking: number;
  readonly lackingUntilMs: number;
  readonly lackingNames: readonly string[];
  /** Certificates in use that end in it, while it does not issue. */
  readonly inUse: number;
  readonly inUseUntilMs: number;
  readonly inUseNames: readonly string[];
  /** Peers that accept a certificate under it, and those that do not. */
  readonly probed: readonly string[];
  readonly probeFailed: readonly string[];
}

export interface LoadedReport {
  readonly roots: readonly RootReport[];
  /** The members that it trades with. */
  readonly partners: readonly string[];
  /** Why nothing may be concluded yet. */
  readonly unknown: readonly string[];
}

/** What is known of one member, at the member that was asked. */
export interface MemberTrust {
  readonly member: string;
  /** Since its manifest last rose; null: never heard. */
  readonly ageSeconds: number | null;
  /** Its control plane is heard. */
  readonly fresh: boolean;
  /** The bundle in use: its roots, and its sequence. */
  readonly bundle: readonly string[];
  readonly sequence: string;
  /** Roots that the authority registered for it; none: any is taken. */
  readonly registered: readonly string[];
  /** Why its newest bundle is not in use. */
  readonly problem?: string;
  /** Which roots its proxies have; absent: it has not said. */
  readonly loaded?: LoadedReport;
}

export interface TrustReport {
  readonly apiVersion: 'isthmus.dev/v1';
  readonly kind: 'Trust';
  readonly clusterset: string;
  readonly member: string;
  readonly replica: string;
  readonly members: readonly MemberTrust[];
}
