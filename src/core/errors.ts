/**
 * Expected failures, as one closed table.
 *
 * Every failure that a user, a peer or a broken machine can cause has a code here. The code maps one to one to a
 * Kubernetes condition reason, a log field and a CLI exit code, so that the same failure is called the same everywhere.
 * Bugs are plain `Error`s and end the process. A class per failure was passed over: nobody catches by class, everybody
 * reports by code.
 */

/** Exit codes of sysexits and istioctl: 1 unknown, 64 usage, 65 data, 75 try again, 79 findings; and ours: 81 held by a guard. */
export type ExitCode = 1 | 64 | 65 | 75 | 79 | 81;

interface Spec {
  /** CamelCase, used as a condition's reason. */
  readonly reason: string;
  readonly retryable: boolean;
  readonly exit: ExitCode;
}

const spec = (reason: string, exit: ExitCode, retryable = false): Spec => ({ reason, exit, retryable });

export const errorCodes = {
  // configuration and command line
  'config/invalid': spec('InvalidConfiguration', 65),
  'config/unknown-key': spec('UnknownConfigurationKey', 65),
  'config/file': spec('ConfigurationFileUnreadable', 65),
  'usage/invalid': spec('InvalidUsage', 64),
  'files/invalid': spec('InvalidFile', 65),
  // store
  'store/unavailable': spec('StoreUnavailable', 75, true),
  'store/tls': spec('StoreTlsFailed', 65),
  'store/denied': spec('StorePermissionDenied', 65),
  'store/role': spec('StoreRoleWrong', 65),
  'store/too-old': spec('StoreVersionUnsafe', 65),
  'store/conflict': spec('StoreConflict', 75, true),
  'store/fenced': spec('WriterFenced', 75, true),
  'store/no-space': spec('StoreOutOfSpace', 75, true),
  'store/too-large': spec('StoreValueTooLarge', 65),
  'store/malformed': spec('MalformedWrite', 65),
  'store/signature': spec('WriteSignatureInvalid', 65),
  'store/quota': spec('StoreQuotaExceeded', 65),
  'store/rate': spec('TooManyWrites', 75, true),
  // records and membership
  'record/malformed': spec('MalformedRecord', 65),
  'record/too-large': spec('RecordTooLarge', 65),
  'record/uncovered': spec('RecordNotCovered', 65, true),
  'record/frozen': spec('RecordFrozenByUnknownField', 65),
  'record/not-granted': spec('NamespaceNotGranted', 65),
  'record/address-refused': spec('AddressOutsideRanges', 65),
  'manifest/malformed': spec('MalformedManifest', 65),
  'manifest/signature': spec('ManifestSignatureInvalid', 65),
  'manifest/stale': spec('ManifestStale', 65),
  'manifest/root': spec('ManifestRootMismatch', 65, true),
  'member/unknown': spec('UnknownMember', 65),
  'member/signature': spec('MembershipSignatureInvalid', 65),
  'member/duplicate': spec('DuplicateMember', 65),
  'member/expired': spec('MembershipExpired', 65),
  'member/stale': spec('MembershipStale', 65),
  'member/noisy': spec('MemberNoisy', 65, true),
  'member/revoked': spec('MemberRevoked', 65),
  // the authority, and getting in
  'authority/passphrase': spec('PassphraseRefused', 65),
  'token/malformed': spec('MalformedToken', 65),
  'token/altered': spec('TokenAltered', 65),
  'token/expired': spec('TokenExpired', 65),
  'keys/late': spec('KeysLate', 79),
  'token/used': spec('TokenUsed', 65),
  'token/unknown': spec('UnknownToken', 65),
  'token/mismatch': spec('TokenForAnotherCluster', 65),
  'join/refused': spec('JoinRefused', 65),
  'join/timeout': spec('JoinNotApproved', 75, true),
  // Kubernetes
  'kube/unavailable': spec('KubernetesApiUnavailable', 75, true),
  'kube/config': spec('KubeconfigInvalid', 65),
  'kube/denied': spec('KubernetesPermissionDenied', 65),
  'kube/conflict': spec('KubernetesConflict', 75, true),
  'kube/not-found': spec('KubernetesNotFound', 65),
  'kube/rejected': spec('KubernetesRejected', 65),
  'service/missing': spec('NoService', 65),
  'service/not-ambient': spec('NamespaceNotAmbient', 65),
  'service/no-ports': spec('NoPorts', 65),
  'service/headless': spec('HeadlessNotSupported', 65),
  'service/external-name': spec('InvalidServiceType', 65),
  'service/session-affinity': spec('SessionAffinityNotSupported', 65),
  'service/conflict': spec('Conflict', 65),
  'service/capacity': spec('InvalidCapacity', 65),
  'service/export-to': spec('InvalidExportTo', 65),
  'service/unknown-reader': spec('UnknownReader', 65),
  'service/reader-denied': spec('ReaderDenied', 65),
  'service/not-imported': spec('NotImported', 65),
  'service/probe': spec('InvalidProbe', 65),
  'probe/metric': spec('MetricUnavailable', 75, true),
  'policy/untranslatable': spec('PolicyNotTranslatable', 65),
  'policy/invalid': spec('InvalidPolicy', 65),
  'policy/large': spec('PolicyLarge', 65),
  'policy/signature': spec('PolicySignatureInvalid', 65),
  'policy/stale': spec('PolicyStale', 65),
  // trust and certificates
  'trust/invalid': spec('InvalidTrustMaterial', 65),
  'trust/root-refused': spec('RootRefused', 65),
  'trust/stale': spec('BundleStale', 65),
  'trust/not-proven': spec('RotationNotProven', 81),
  'csr/malformed': spec('MalformedRequest', 65),
  'csr/denied': spec('IdentityDenied', 65),
  'csr/key': spec('KeyNotAllowed', 65),
  'csr/rate': spec('TooManyRequests', 75, true),
  'auth/unauthenticated': spec('Unauthenticated', 65),
  'auth/denied': spec('PermissionDenied', 65),
  // discovery
  'xds/node-mismatch': spec('NodeIdMismatch', 65),
  'xds/type-denied': spec('ResourceTypeDenied', 65),
  'xds/malformed': spec('MalformedDiscoveryRequest', 65),
  'xds/nack': spec('ProxyRejectedResource', 65),
  'xds/slow': spec('ProxyTooSlow', 75, true),
  'xds/too-many': spec('TooManyConnections', 75, true),
  'report/malformed': spec('MalformedReport', 65),
  // disk
  'state/corrupt': spec('SavedStateCorrupt', 65),
  'state/io': spec('SavedStateUnwritable', 75, true),
  // journal
  'journal/unwritable': spec('JournalUnwritable', 75, true),
  'journal/broken': spec('JournalBroken', 79),
  'journal/malformed': spec('MalformedJournal', 65),
  'journal/not-found': spec('NoSuchJournalEntry', 65),
  'audit/behind': spec('AuditBehind', 75, true),
  'journal/differs': spec('ReplayDiffers', 79),
  // data path
  'path/tcp': spec('ConnectFailed', 75, true),
  'path/tls': spec('TlsFailed', 75, true),
  'path/identity': spec('PeerIdentityRefused', 65),
  'path/connect-status': spec('ConnectRefused', 75, true),
  'path/timeout': spec('TimedOut', 75, true),
  'path/reset': spec('StreamReset', 75, true),
  // gateways
  'gateway/envoy-exit': spec('EnvoyExited', 75, true),
  'gateway/envoy-hung': spec('EnvoyHung', 75, true),
  // commands of people
  'command/confirm': spec('NotConfirmed', 64),
  'command/held': spec('HeldByGuard', 81),
  'command/not-writer': spec('NotTheWriter', 75, true),
  'controller/unreachable': spec('ControllerUnreachable', 75, true),
} as const satisfies Record<string, Spec>;

export type ErrorCode = keyof typeof errorCodes;

export interface ErrorDetails {
  /** The next step for a person: one sentence, or one command. */
  readonly hint?: string;
  /** What the error is about (a field, a key, a member): shown, and logged as fields. Never secrets. */
  readonly subject?: Readonly<Record<string, string | number | boolean>>;
  readonly cause?: unknown;
}

/** An expected failure. `message` names the field and the value; `hint` names the next step. */
export class IsthmusError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly subject: Readonly<Record<string, string | number | boolean>>;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'IsthmusError';
    this.code = code;
    this.hint = details.hint;
    this.subject = details.subject ?? {};
  }

  get reason(): string {
    return errorCodes[this.code].reason;
  }
  get retryable(): boolean {
    return errorCodes[this.code].retryable;
  }
  get exit(): ExitCode {
    return errorCodes[this.code].exit;
  }
}

/** A result for places where failing is ordinary (decoding what a peer wrote) and throwing would hide it. */
export type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: IsthmusError };

export const ok = <T>(value: T): Result<T> => ({ ok: true, value });
export const fail = <T = never>(code: ErrorCode, message: string, details?: ErrorDetails): Result<T> => ({
  ok: false,
  error: new IsthmusError(code, message, details),
});
