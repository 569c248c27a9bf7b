/** The few things that the runner asks an Envoy's admin interface, over its unix socket. */
import { request } from 'node:http';

export interface AdminReply {
  readonly status: number;
  readonly body: string;
}

const bodyBytesMax = 4 * 1024 * 1024;

/** Rejects when nothing comes back within `timeoutMs`, or the socket is not there. */
export const askAdmin = (
  path: string,
  method: 'GET' | 'POST',
  target: string,
  timeoutMs: number,
): Promise<AdminReply> =>
  new Promise((resolve, reject) => {
    const req = request({ socketPath: path, method, path: target, agent: false, timeout: timeoutMs }, (res) => {
      let body = '';
      res.setEncoding('utf8');
      res.on('data', (chunk: string) => {
        body += chunk;
        if (body.length > bodyBytesMax) req.destroy(new Error(`answer of ${target} is too long`));
      });
      res.on('end', () => resolve({ status: res.statusCode ?? 0, body }));
      res.on('error', reject);
    });
    req.on('timeout', () => req.destroy(new Error(`no answer to ${target} in ${timeoutMs} ms`)));
    req.on('error', reject);
    req.end();
  });

/** Names of the listeners that accept connections now. */
export const activeListeners = (body: string): string[] => {
  const parsed = JSON.parse(body) as { listener_statuses?: readonly { name?: string }[] };
  return (parsed.listener_statuses ?? []).map((l) => l.name ?? '');
};
