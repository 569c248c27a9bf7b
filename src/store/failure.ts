/**
 * What etcd and its transport report, as the project's own error codes.
 *
 * grpc-js folds DNS, TCP and TLS failures into UNAVAILABLE, and etcd uses a few codes for many conditions, so the text
 * decides. A text that is not known here falls back to `store/unavailable`: it is tried again and shown as it came.
 */
import { type ServiceError, status } from '@grpc/grpc-js';
import { type ErrorCode, errorCodes, IsthmusError } from '../core/errors.ts';

/** What was tried, and where: shown in the message. */
export interface Attempt {
  readonly what: string;
  readonly endpoint: string;
}

const tlsText =
  /certificate|self.signed|altname|\bCERT_|UNABLE_TO_|DEPTH_ZERO|SSL routines|ssl3_|tlsv1|alert|ERR_TLS|ERR_SSL|EPROTO|bad decrypt|PEM/i;

/** Codes under which Node and OpenSSL report that a certificate or a handshake was refused. */
export const isTlsFailure = (text: string): boolean => tlsText.test(text);

export const isServiceError = (error: unknown): error is ServiceError =>
  error instanceof Error && typeof (error as { code?: unknown }).code === 'number' && 'details' in error;

export const isCompacted = (error: unknown): boolean =>
  isServiceError(error) && error.code === status.OUT_OF_RANGE && error.details.includes('compacted');

export const isFutureRevision = (error: unknown): boolean =>
  isServiceError(error) && error.code === status.OUT_OF_RANGE && error.details.includes('future revision');

/** Users or roles were changed while a request was on its way: etcd has not done it, and takes it when it is sent again. */
export const isAuthMoved = (error: unknown): boolean =>
  isServiceError(error) && error.details.includes('revision of auth store is old');

/** A message was larger than this client accepts: ask for less at a time. */
export const isOversizedMessage = (error: unknown): boolean =>
  isServiceError(error) && error.code === status.RESOURCE_EXHAUSTED && /larger than max/i.test(error.details);

const hints = {
  tls: 'check that store.caFile is the CA of etcd, that store.certFile is signed by the CA etcd trusts, and that the endpoint name is in etcd’s certificate',
  denied:
    'the common name of store.certFile must be the member’s etcd user; create it and its role with `isthmus init` and root credentials',
  space: 'compact and defragment etcd, or raise --quota-backend-bytes; then `etcdctl alarm disarm`',
  large: 'etcd takes at most --max-request-bytes (1.5 MiB) in a request',
  down: 'check that etcd runs and that store.endpoints reach it; traffic keeps its last good state meanwhile',
} as const;

export const deniedError = (text: string, { what, endpoint }: Attempt): IsthmusError =>
  new IsthmusError('store/denied', `etcd ${endpoint} refused to ${what}: ${text}`, {
    hint: hints.denied,
    subject: { endpoint },
  });

const ofInvalidArgument = (text: string, at: Attempt, cause: unknown): IsthmusError => {
  if (/user name is empty|invalid auth/.test(text)) return deniedError(text, at);
  if (/too large|too many operations/.test(text)) {
    return new IsthmusError('store/too-large', `etcd ${at.endpoint} refused to ${at.what}: ${text}`, {
      hint: hints.large,
      subject: { endpoint: at.endpoint },
      cause,
    });
  }
  return unavailable(text, at, cause);
};

const unavailable = (text: string, { what, endpoint }: Attempt, cause: unknown): IsthmusError =>
  new IsthmusError('store/unavailable', `cannot ${what} at etcd ${endpoint}: ${text}`, {
    hint: hints.down,
    subject: { endpoint },
    cause,
  });

/** grpc-js wraps the reason of a failed connection in its own words, OpenSSL adds addresses and grpc-js the time. */
const plain = (text: string): string =>
  text
    .replace(/^Deadline exceeded after ([\d.]+)s.*$/, (_, seconds) => `no answer in ${Math.round(seconds)} s`)
    .replace(/^No connection established\. Last error: (Error: )?/, '')
    .replace(/\.? *Resolution note: *$/, '')
    .replace(/ *\(\d{4}-\d\d-\d\dT[\d:.]+Z\)/, '')
    .replace(/^[0-9A-F]{8,}:error:[0-9A-F]+:/, '')
    .replace(/:[^\s:]*\.c:\d+:/, ': ')
    .replaceAll(/\s+/g, ' ')
    .replace(/[\s:.]+$/, '');

/** A refusal by a store gateway begins with one of our codes; etcd's own never do. */
const gatewayText = /^((?:store|manifest|member|record|auth|token|csr)\/[a-z-]+): (.*)$/s;
const gatewayTextMax = 600;

/** Whether a store gateway said so, and not etcd. */
export const isGatewayRefusal = (error: unknown): boolean => isServiceError(error) && gatewayText.test(error.details);

const ofGateway = (error: unknown, { what, endpoint }: Attempt): IsthmusError | undefined => {
  const [, code, text] =
    (isServiceError(error) ? gatewayText.exec(error.details.slice(0, gatewayTextMax)) : null) ?? [];
  if (code === undefined || !(code in errorCodes)) return undefined;
  const [, message = text, hint] = /^(.*) \(([^()]*)\)$/s.exec(text ?? '') ?? [];
  return new IsthmusError(code as ErrorCode, `the store gateway ${endpoint} refused to ${what}: ${message}`, {
    ...(hint === undefined ? { hint: hints.down } : { hint }),
    subject: { endpoint },
    cause: error,
  });
};

/** Maps any failure of a call to an `IsthmusError`. */
export const storeError = (error: unknown, at: Attempt): IsthmusError => {
  if (error instanceof IsthmusError) return error;
  const refusal = ofGateway(error, at);
  if (refusal !== undefined) return refusal;
  const text = plain(isServiceError(error) ? error.details : error instanceof Error ? error.message : String(error));
  const subject = { endpoint: at.endpoint };
  const code = isServiceError(error) ? error.code : undefined;
  switch (code) {
    case status.PERMISSION_DENIED:
    case status.UNAUTHENTICATED:
      return deniedError(text, at);
    case status.INVALID_ARGUMENT:
      return ofInvalidArgument(text, at, error);
    case status.RESOURCE_EXHAUSTED:
      if (text.includes('space exceeded')) {
        return new IsthmusError('store/no-space', `etcd ${at.endpoint} is out of space and takes no writes: ${text}`, {
          hint: hints.space,
          subject,
        });
      }
      if (/larger than max|too large/i.test(text)) return ofInvalidArgument('message too large', at, error);
      return unavailable(text, at, error);
    default:
      if (isTlsFailure(text)) {
        return new IsthmusError('store/tls', `no trusted connection to etcd ${at.endpoint}: ${text}`, {
          hint: hints.tls,
          subject,
          cause: error,
        });
      }
      return unavailable(text, at, error);
  }
};
