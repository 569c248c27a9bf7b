/** Expected failures as gRPC statuses: the code says what the client should do, the text what is wrong and what to do. */
import { status } from '@grpc/grpc-js';
import { type ErrorCode, IsthmusError } from '../core/errors.ts';

const codes: Partial<Record<ErrorCode, number>> = {
  'auth/unauthenticated': status.UNAUTHENTICATED,
  'auth/denied': status.PERMISSION_DENIED,
  'csr/denied': status.PERMISSION_DENIED,
  'csr/malformed': status.INVALID_ARGUMENT,
  'csr/key': status.INVALID_ARGUMENT,
  'csr/rate': status.RESOURCE_EXHAUSTED,
  'xds/node-mismatch': status.PERMISSION_DENIED,
  'xds/type-denied': status.PERMISSION_DENIED,
  'xds/malformed': status.INVALID_ARGUMENT,
  'report/malformed': status.INVALID_ARGUMENT,
  'store/denied': status.PERMISSION_DENIED,
  'store/conflict': status.ABORTED,
  'store/signature': status.PERMISSION_DENIED,
  'store/malformed': status.INVALID_ARGUMENT,
  'store/too-large': status.INVALID_ARGUMENT,
  'store/quota': status.RESOURCE_EXHAUSTED,
  'store/rate': status.RESOURCE_EXHAUSTED,
  'store/no-space': status.RESOURCE_EXHAUSTED,
  'record/too-large': status.INVALID_ARGUMENT,
  'manifest/signature': status.PERMISSION_DENIED,
  'manifest/malformed': status.INVALID_ARGUMENT,
  'manifest/stale': status.FAILED_PRECONDITION,
  'token/used': status.PERMISSION_DENIED,
  'member/unknown': status.PERMISSION_DENIED,
  'member/revoked': status.PERMISSION_DENIED,
  'member/expired': status.PERMISSION_DENIED,
  'xds/slow': status.ABORTED,
  'xds/too-many': status.RESOURCE_EXHAUSTED,
};

export interface GrpcStatus {
  readonly code: number;
  readonly details: string;
}

/** Errors that are no IsthmusError are bugs: the client learns nothing of them. */
export const grpcStatus = (error: unknown): GrpcStatus => {
  if (!(error instanceof IsthmusError)) return { code: status.INTERNAL, details: 'internal error' };
  const code = codes[error.code] ?? (error.retryable ? status.UNAVAILABLE : status.INTERNAL);
  const hint = error.hint === undefined ? '' : ` (${error.hint})`;
  return { code, details: `${error.code}: ${error.message}${hint}` };
};
