/**
 * How the command line reaches a controller: an admin address given by hand, else a port-forward through the Kubernetes API,
 * so that RBAC decides who may look. etcd credentials never leave the controllers.
 */
import { IsthmusError } from '../core/errors.ts';

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

const fetchJson = async (base: string, path: string, timeoutMs: number): Promise<unknown> => {
  let response: Response;
  try {
    response = await fetch(new URL(path, base), { signal: AbortSignal.timeout(timeoutMs) });
  } catch (cause) {
    throw new IsthmusError('controller/unreachable', `controller at ${base} does not answer: ${reasonOf(cause)}`, {
      hint: 'check that its pod runs, and the address',
      cause,
    });
  }
  const body: unknown = await response.json().catch(() => undefined);
  if (response.ok) return body;
  const error = (body as { error?: { code?: string; message?: string; hint?: string } } | undefined)?.error;
  throw new IsthmusError(
    error?.message === undefined ? 'controller/unreachable' : 'usage/invalid',
    error?.message ?? `controller answered ${response.status}`,
    {
      ...(error?.hint === undefined ? {} : { hint: error.hint }),
    },
  );
};

const reasonOf = (cause: unknown): string => {
  const inner = (cause as { cause?: { code?: string } }).cause?.code;
  return inner ?? (cause as Error).name;
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
