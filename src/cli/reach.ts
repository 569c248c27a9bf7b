/**
 * How the command line reaches a controller: an admin address given by hand, else a port-forward through the Kubernetes API,
 * so that RBAC decides who may look. etcd credentials never leave the controllers.
 */
import { get } from 'node:http';
import { type ErrorCode, errorCodes, IsthmusError } from '../core/errors.ts';

export interface ReachOptions {
  readonly controller?: readonly string[];
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace: string;
}

interface Reached {
  readonly name: string;
  get(path: string, timeoutMs: number): Promise<unknown>;
  close(): void;
}

const answersMax = 64 * 1024 * 1024;

/** Plain node:http: `fetch` refuses some ports and hides why a connection failed. */
const request = (url: URL, timeoutMs: number): Promise<{ status: number; text: string }> =>
  new Promise((resolve, reject) => {
    const call = get(url, { timeout: timeoutMs, agent: false }, (response) => {
      const parts: Buffer[] = [];
      let bytes = 0;
      response.on('data', (part: Buffer) => {
        bytes += part.length;
        if (bytes > answersMax) call.destroy(new Error('the answer is too large'));
        else parts.push(part);
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString('utf8') }),
      );
      response.on('error', reject);
    });
    call.on('timeout', () => call.destroy(new Error(`no answer in ${timeoutMs} ms`)));
    call.on('error', reject);
  });

const fetchJson = async (base: string, path: string, timeoutMs: number): Promise<unknown> => {
  const unreachable = (why: string, cause?: unknown) =>
    new IsthmusError('controller/unreachable', `controller at ${base} does not answer: ${why}`, {
      hint: 'check that its pod runs, and the address',
      cause,
    });
  const answer = await request(new URL(path, base), timeoutMs).catch((cause: NodeJS.ErrnoException) => {
    throw unreachable(cause.code ?? cause.message, cause);
  });
  let body: unknown;
  try {
    body = JSON.parse(answer.text);
  } catch (cause) {
    throw unreachable(`it sent ${answer.status} and no JSON`, cause);
  }
  if (answer.status === 200) return body;
  const error = (body as { error?: { code?: ErrorCode; message?: string; hint?: string } }).error;
  if (error?.code === undefined || !(error.code in errorCodes)) throw unreachable(`it sent status ${answer.status}`);
  throw new IsthmusError(
    error.code,
    error.message ?? 'no reason given',
    error.hint === undefined ? {} : { hint: error.hint },
  );
};

const direct = (url: string): Reached => {
  try {
    new URL(url);
  } catch {
    throw new IsthmusError('usage/invalid', `--controller "${url}" is not a URL`, {
      hint: 'for example http://127.0.0.1:15000',
    });
  }
  return { name: url, get: (path, timeoutMs) => fetchJson(url, path, timeoutMs), close: () => {} };
};

/** Every controller that can be reached, at least one; or 'controller/unreachable'. */
export const reachControllers = async (options: ReachOptions): Promise<Reached[]> => {
  if (options.controller !== undefined && options.controller.length > 0) {
    return options.controller.flatMap((c) => c.split(',')).map(direct);
  }
  const { forwardControllers } = await import('./forward.ts');
  const forwarded = await forwardControllers(options);
  return forwarded.map((f) => ({
    name: f.pod,
    get: (path, timeoutMs) => fetchJson(f.url, path, timeoutMs),
    close: f.close,
  }));
};

/** The first controller's answer; the others are tried when it fails. */
export const askOne = async (options: ReachOptions, path: string, timeoutMs: number): Promise<unknown> => {
  const reached = await reachControllers(options);
  let last: unknown;
  try {
    for (const controller of reached) {
      try {
        return await controller.get(path, timeoutMs);
      } catch (error) {
        last = error;
        if (error instanceof IsthmusError && error.code !== 'controller/unreachable') throw error;
      }
    }
  } finally {
    for (const controller of reached) controller.close();
  }
  throw last;
};
