/** What went wrong with a request, as the closed set of codes: a person reads the message, a program the code. */
import { type ErrorCode, IsthmusError } from '../core/errors.ts';

/** HTTP status of a failed request; undefined when no answer came. */
export const statusOf = (error: unknown): number | undefined => {
  const status = error instanceof IsthmusError ? error.subject.status : undefined;
  return typeof status === 'number' ? status : undefined;
};

const tlsErrors = /^(ERR_TLS|ERR_SSL|CERT_|UNABLE_TO|SELF_SIGNED|DEPTH_ZERO|EPROTO|HOSTNAME_MISMATCH)/;

export const connectError = (server: string, cause: unknown): IsthmusError => {
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  const text = cause instanceof Error && cause.message !== '' ? cause.message : code;
  if (tlsErrors.test(code)) {
    return new IsthmusError('kube/config', `TLS with the API server ${server} failed: ${text}`, {
      hint: 'check certificate-authority and tls-server-name of the cluster in the kubeconfig',
      subject: { server, errno: code },
      cause,
    });
  }
  return new IsthmusError('kube/unavailable', `the API server ${server} does not answer: ${text}`, {
    hint: 'check that the server of the kubeconfig is right and reachable from here',
    subject: { server, errno: code },
    cause,
  });
};

const codeOf = (status: number): ErrorCode => {
  if (status === 401 || status === 403) return 'kube/denied';
  if (status === 404) return 'kube/not-found';
  if (status === 409) return 'kube/conflict';
  if (status === 408 || status === 410 || status === 429 || status >= 500) return 'kube/unavailable';
  return 'kube/rejected';
};

export const statusError = (server: string, what: string, status: number, body: string): IsthmusError => {
  let message = body.slice(0, 500);
  let reason = '';
  try {
    const parsed = JSON.parse(body) as { message?: unknown; reason?: unknown };
    if (typeof parsed.message === 'string') message = parsed.message;
    if (typeof parsed.reason === 'string') reason = parsed.reason;
  } catch {
    // Not a Status object: a proxy's page, shown as it is.
  }
  const hint =
    status === 401
      ? 'renew the credentials of the kubeconfig'
      : status === 403
        ? 'grant this account the verb and resource that the message names'
        : undefined;
  return new IsthmusError(codeOf(status), `${what}: ${status} ${message}`.trim(), {
    ...(hint === undefined ? {} : { hint }),
    subject: { server, status, reason },
  });
};
