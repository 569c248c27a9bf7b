/**
 * The workload of the lab: answers HTTP with the name of its cluster and pod, well or badly as told.
 *
 *   node server.ts --host <pod ip> --port 8080 --cluster us-east --pod checkout-0
 *
 * Bind the pod's own address, not the wildcard: the stand-in for ztunnel listens on virtual addresses in the same namespace.
 * Behaviour is set by a JSON line on stdin, or by `POST /-/behave`: {"status":503,"delayMs":0,"share":1,"refuse":false,"ready":true}.
 * Its readiness (`/-/ready`) is told apart from how it answers others: a service may say that it is ready, and fail.
 * `share` is the part of the requests that it applies to. One JSON line on stdout per change; one per request with --log.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    host: { type: 'string', default: '0.0.0.0' },
    port: { type: 'string', default: '8080' },
    cluster: { type: 'string', default: 'cluster' },
    pod: { type: 'string', default: 'pod' },
    log: { type: 'boolean', default: false },
  },
});

interface Behaviour {
  status: number;
  delayMs: number;
  share: number;
  /** Close the connection without an answer. */
  refuse: boolean;
  /** What its readiness probe is told. */
  ready: boolean;
}

const name = `${values.cluster}/${values.pod}`;
const body = `${name}\n`;
let behaviour: Behaviour = { status: 200, delayMs: 0, share: 1, refuse: false, ready: true };
let requests = 0;

const say = (line: Record<string, unknown>): void => {
  process.stdout.write(`${JSON.stringify({ at: performance.timeOrigin + performance.now(), ...line })}\n`);
};

const number = (value: unknown, low: number, high: number, otherwise: number): number =>
  typeof value === 'number' && value >= low && value <= high ? value : otherwise;

/** Unknown or malformed fields keep the default. */
const behave = (text: string): boolean => {
  try {
    const wanted = JSON.parse(text) as Record<string, unknown>;
    behaviour = {
      status: number(wanted.status, 200, 599, 200),
      delayMs: number(wanted.delayMs, 0, 600_000, 0),
      share: number(wanted.share, 0, 1, 1),
      refuse: wanted.refuse === true,
      ready: wanted.ready !== false,
    };
    say({ event: 'behave', ...behaviour });
    return true;
  } catch (error) {
    say({ event: 'error', error: (error as Error).message });
    return false;
  }
};

const answer = (request: IncomingMessage, response: ServerResponse): void => {
  const { status, delayMs, refuse, share } = behaviour;
  // Spread evenly: a share of the requests, not the first ones of each thousand.
  const applies = share >= 1 || (requests * 0.618_033_988_75) % 1 < share;
  const send = (): void => {
    if (applies && refuse) {
      request.socket.destroy();
      return;
    }
    response.writeHead(applies ? status : 200, {
      'content-length': Buffer.byteLength(body),
      'content-type': 'text/plain',
    });
    response.end(body);
    if (values.log) say({ event: 'request', from: request.socket.remoteAddress, status: response.statusCode });
  };
  if (applies && delayMs > 0) setTimeout(send, delayMs);
  else send();
};

const server = createServer({ keepAliveTimeout: 0, requestTimeout: 0 }, (request, response) => {
  requests += 1;
  if (request.method === 'POST' && request.url === '/-/behave') {
    let text = '';
    request.on('data', (chunk: Buffer) => {
      if (text.length < 4_096) text += chunk.toString();
    });
    request.on('end', () => {
      response.writeHead(behave(text) ? 204 : 400).end();
    });
    return;
  }
  request.resume();
  if (request.url === '/-/ready') response.writeHead(behaviour.ready ? 200 : 503).end();
  else answer(request, response);
});
server.on('error', (error) => {
  say({ event: 'error', error: error.message });
  process.exit(1);
});
server.listen(Number(values.port), values.host, () =>
  say({ event: 'listening', name, host: values.host, port: Number(values.port) }),
);
createInterface({ input: process.stdin }).on('line', behave);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => process.exit(0));
