/**
 * How the command line reaches a controller: an admin address given by hand, else a port-forward through the Kubernetes API,
 * so that RBAC decides who may look. etcd credentials never leave the controllers.
 */
import { type ClientRequest, request as httpRequest } from 'node:http';
import { type ErrorCode, errorCodes, IsthmusError } from '../core/errors.ts';
import { cliHeader } from '../ops/http.ts';

export interface ReachOptions {
  readonly controller?: readonly string[];
  readonly kubeconfig?: string;
  readonly context?: string;
  readonly namespace: string;
}

interface Reached {
  readonly name: string;
  get(path: string, timeoutMs: number): Promise<unknown>;
  post(path: string, body: unknown, timeoutMs: number): Promise<unknown>;
  close(): void;
}

const answersMax = 64 * 1024 * 1024;

interface Sent {
  readonly status: number;
  readonly text: string;
}

/** Plain node:http: `fetch` refuses some ports and hides why a connection failed. A body makes it a POST. */
const request = (url: URL, body: unknown, timeoutMs: number): Promise<Sent> =>
  new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const headers =
      payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': payload.length, [cliHeader]: '1' };
    const method = payload === undefined ? 'GET' : 'POST';
    const call: ClientRequest = httpRequest(url, { method, headers, timeout: timeoutMs, agent: false }, (response) => {
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
    call.end(payload);
  });

const exchange = async (base: string, path: string, body: unknown, timeoutMs: number): Promise<unknown> => {
  const unreachable = (why: string, cause?: unknown) =>
    new IsthmusError('controller/unreachable', `controller at ${base} does not answer: ${why}`, {
      hint: 'check that its pod runs, and the address',
      cause,
    });
  const ask = () => request(new URL(path, base), body, timeoutMs);
  // A port-forward may lose a connection; to ask again changes nothing, to send a change again might.
  const again = (cause: NodeJS.ErrnoException) => {
    if (body !== undefined || cause.code !== 'ECONNRESET') throw cause;
    return ask();
  };
  const answer = await ask()
    .catch(again)
    .catch((cause: NodeJS.ErrnoException) => {
      throw unreachable(cause.code ?? cause.message, cause);
    });
  let read: unknown;
  try {
    read = JSON.parse(answer.text);
  } catch (cause) {
    if (answer.status === 404 || answer.status === 405) {
      throw new IsthmusError('controller/unreachable', `controller at ${base} does not know ${path}`, {
        hint: 'it is older than this command line: upgrade it, or use the version that `isthmus status` shows',
      });
    }
    throw unreachable(`it sent ${answer.status} and no JSON`, cause);
  }
  if (answer.status === 200) return read;
  const error = (read as { error?: { code?: ErrorCode; message?: string; hint?: string } }).error;
  if (error?.code === undefined || !(error.code in errorCodes)) throw unreachable(`it sent status ${answer.status}`);
  throw new IsthmusError(
    error.code,
    error.message ?? 'no reason given',
    error.hint === undefined ? {} : { hint: error.hint },
  );
};

const reached = (name: string, url: string, close: () => void): Reached => ({
  name,
  get: (path, timeoutMs) => exchange(url, path, undefined, timeoutMs),
  post: (path, body, timeoutMs) => exchange(url, path, body, timeoutMs),
  close,
});

const direct = (url: string): Reached => {
  try {
    new URL(url);
  } catch {
    throw new IsthmusError('usage/invalid', `--controller "${url}" is not a URL`, {
      hint: 'for example http://127.0.0.1:15000',
    });
  }
  return reached(url, url, () => {});
};

/** Every controller that can be reached, at least one; or 'controller/unreachable'. */
export const reachControllers = async (options: ReachOptions): Promise<Reached[]> => {
  if (options.controller !== undefined && options.controller.length > 0) {
    return options.controller.flatMap((c) => c.split(',')).map(direct);
  }
  const { forwardControllers } = await import('./forward.ts');
  const forwarded = await forwardControllers(options);
  return forwarded.map((f) => reached(f.pod, f.url, f.close));
};

type Ask = (controller: Reached) => Promise<unknown>;

/** Asks one after the other until one answers. @param goesOn - errors after which the next one is asked */
const askEach = async (options: ReachOptions, ask: Ask, goesOn: (error: IsthmusError) => boolean): Promise<unknown> => {
  const controllers = await reachControllers(options);
  let last: unknown;
  try {
    for (const controller of controllers) {
      try {
        return await ask(controller);
      } catch (error) {
        last = error;
        if (error instanceof IsthmusError && !goesOn(error)) throw error;
      }
    }
  } finally {
    for (const controller of controllers) controller.close();
  }
  throw last;
};

/** The first controller's answer; the others are tried when it fails. */
export const askOne = (options: ReachOptions, path: string, timeoutMs: number): Promise<unknown> =>
  askEach(
    options,
    (controller) => controller.get(path, timeoutMs),
    ({ code }) => code === 'controller/unreachable',
  );

/** Every controller's answer, at least one: what each replica alone knows, as its journal. */
export const askAll = async (options: ReachOptions, path: string, timeoutMs: number): Promise<readonly unknown[]> => {
  const controllers = await reachControllers(options);
  const answers = await Promise.allSettled(controllers.map((controller) => controller.get(path, timeoutMs)));
  for (const controller of controllers) controller.close();
  const found = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
  if (found.length > 0) return found;
  // All of them failed: a refusal says more than a silence.
  const errors = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as unknown] : []));
  throw errors.find((e) => e instanceof IsthmusError && e.code !== 'controller/unreachable') ?? errors[0];
};

/** As `askOne`, for a question that has a body and changes nothing. */
export const askOneWith = (options: ReachOptions, path: string, body: unknown, timeoutMs: number): Promise<unknown> =>
  askEach(
    options,
    (controller) => controller.post(path, body, timeoutMs),
    ({ code }) => code === 'controller/unreachable',
  );

/** Where nothing can have arrived: a controller that was reached and fell silent may have done what it was asked. */
const neverSent = (error: IsthmusError): boolean =>
  error.code === 'controller/unreachable' &&
  (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ECONNREFUSED';

/** Sends a change to the replica that decides; the others say that they do not. */
export const sendOne = async (
  options: ReachOptions,
  path: string,
  body: unknown,
  timeoutMs: number,
): Promise<unknown> => {
  try {
    return await askEach(
      options,
      (controller) => controller.post(path, body, timeoutMs),
      (error) => error.code === 'command/not-writer' || neverSent(error),
    );
  } catch (error) {
    if (!(error instanceof IsthmusError) || error.code !== 'controller/unreachable' || neverSent(error)) throw error;
    throw new IsthmusError('controller/unreachable', `${error.message}; whether it was carried out is not known`, {
      hint: 'isthmus journal list',
      cause: error.cause,
    });
  }
};
