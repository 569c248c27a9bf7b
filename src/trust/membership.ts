/** Membership as the rest of the code uses it: decoded, checked and signed by the authority (see `verify` below). */

export interface Member {
  readonly clusterset: string;
  readonly name: string;
  readonly sequence: bigint;
  readonly region: string;
  readonly zone: string;
  readonly network: string;
  /** CIDRs, IPv4 or IPv6. */
  readonly addressRanges: readonly string[];
  /** Granted namespaces; `*` alone grants all. */
  readonly namespaces: readonly string[];
  /** `namespace/name`; empty grants every account of the granted namespaces. */
  readonly serviceAccounts: readonly string[];
  /** DER certificate. */
  readonly federationCa: Uint8Array;
  /** Raw Ed25519 public key, 32 bytes. */
  readonly recordKey: Uint8Array;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}
