/**
 * A small client of an API server over the portal's socket: requests and watches, as the cluster's administrator. The lab's
 * kubelet part needs no more; the project's own client is under test and must not also be the one that sets up the test.
 */
import { Agent, type RequestOptions, request } from 'node:https';
import { connect } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import type { Pair } from '../pki.ts';

export interface KubeObject {
  apiVersion?: string;
  kind?: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    [key: string]: unknown;
  };
  // biome-ignore lint/suspicious/noExplicitAny: whatever the kind holds
  [key: string]: any;
}

export class KubeStatusError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface ApiClientOptions {
  readonly socketPath: string;
  readonly ca: string;
  readonly client: Pair;
}

export class ApiClient {
  readonly #agent: Agent;

  constructor({ socketPath, ca, client }: ApiClientOptions) {
    this.#agent = new Agent({ keepAlive: true, maxSockets: 8 });
    // The socket is a tunnel: TLS goes through it to the server, which is known by a name of its certificate.
    this.#agent.createConnection = () =>
      tlsConnect({ socket: connect(socketPath), ca, cert: client.cert, key: client.key, servername: 'kubernetes' });
  }

  /** One request; rejects with KubeStatusError on anything but 2xx. */
  async call<T = KubeObject>(
    method: string,
    path: string,
    body?: unknown,
    contentType = 'application/json',
  ): Promise<T> {
    const payload = body === undefined ? undefined : JSON.stringify(body);
    const headers = {
      accept: 'application/json',
      ...(payload === undefined ? {} : { 'content-type': contentType, 'content-length': Buffer.byteLength(payload) }),
    };
    const options: RequestOptions = { method, path, headers, agent: this.#agent, host: 'kubernetes', timeout: 15_000 };
    const { status, text } = await new Promise<{ status: number; text: string }>((resolve, reject) => {
      const call = request(options, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
        );
        response.on('error', reject);
      });
      call.on('timeout', () => call.destroy(new Error(`${method} ${path}: no answer in 15 s`)));
      call.on('error', reject);
      call.end(payload);
    });
    if (status < 200 || status > 299)
      throw new KubeStatusError(status, `${method} ${path}: ${status} ${text.slice(0, 600)}`);
    return (text.startsWith('{') ? JSON.parse(text) : text) as T;
  }

  get<T = KubeObject>(path: string): Promise<T> {
    return this.call<T>('GET', path);
  }

  /** Creates the object; one that is there already stays as it is. */
  async ensure(path: string, object: unknown): Promise<void> {
    await this.call('POST', path, object).catch((error: unknown) => {
      if (!(error instanceof KubeStatusError) || error.status !== 409) throw error;
    });
  }

  merge<T = KubeObject>(path: string, patch: unknown): Promise<T> {
    return this.call<T>('PATCH', path, patch, 'application/merge-patch+json');
  }

  /** Deletes the object at once; one that is gone already is no error. */
  async remove(path: string): Promise<void> {
    await this.call('DELETE', path, { gracePeriodSeconds: 0 }).catch((error: unknown) => {
      if (!(error instanceof KubeStatusError) || error.status !== 404) throw error;
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}
