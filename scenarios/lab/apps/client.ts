/**
 * The load of the lab, open loop: new connections at a steady rate whether or not earlier ones were answered, and
 * connections that are kept and asked again and again.
 *
 *   node client.ts --target 10.96.0.10:80 --name checkout.shop --rate 100 --keep 20 --every 100 --log calls.jsonl
 *
 * Every call becomes a JSON line in the log. JSON lines on stdin command it, each answered by one line on stdout:
 * {"cmd":"start"}, {"cmd":"stop"}, {"cmd":"rate","perSecond":50}, {"cmd":"stats"}, {"cmd":"mark","name":"fault"} (answers with the
 * window that ends), {"cmd":"call"} (one call now, answered with its record), {"cmd":"flush"}, {"cmd":"quit"}.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { open, readAnswer, requestText, type Target } from './call.ts';
import { type CallRecord, Window } from './window.ts';

const { values } = parseArgs({
  options: {
    target: { type: 'string' },
    name: { type: 'string', default: 'service' },
    rate: { type: 'string', default: '0' },
    keep: { type: 'string', default: '0' },
    every: { type: 'string', default: '100' },
    timeout: { type: 'string', default: '15000' },
    log: { type: 'string' },
    start: { type: 'boolean', default: false },
  },
});

const positive = (name: 'rate' | 'keep' | 'every' | 'timeout', high: number): number => {
  const value = Number(values[name]);
  if (Number.isFinite(value) && value >= 0 && value <= high) return value;
  process.stderr.write(`--${name} "${values[name]}" is not a number from 0 to ${high}\n`);
  process.exit(64);
};

const [host, port] = (values.target ?? '').split(':');
if (!host || !(Number(port) > 0)) {
  process.stderr.write(`--target "${values.target ?? ''}" is not ip:port\n`);
  process.exit(64);
}
const target: Target = { host, port: Number(port), name: values.name };
const keep = positive('keep', 10_000);
const everyMs = Math.max(1, positive('every', 3_600_000));
const timeoutMs = positive('timeout', 3_600_000);
let perSecond = positive('rate', 10_000);

const tickMs = 5;
const flushMs = 100;
const inFlightMax = 20_000;
const pendingLinesMax = 200_000;

// One clock for everything, comparable between processes of one machine.
const now = (): number => performance.timeOrigin + performance.now();

let window = new Window('all', now());
const total = new Window('total', now());
let running = false;
let inFlight = 0;
let lines: string[] = [];
let dropped = 0;
const logFile = values.log === undefined ? undefined : openSync(values.log, 'a');

const flush = (): void => {
  if (logFile === undefined || lines.length === 0) return;
  const text = `${lines.join('\n')}\n`;
  lines = [];
  writeSync(logFile, text);
};

const record = (call: CallRecord): void => {
  window.add(call);
  total.add(call);
  if (logFile === undefined) return;
  if (lines.length < pendingLinesMax) lines.push(JSON.stringify(call));
  else dropped += 1;
};

const fresh = (done: (call: CallRecord) => void): void => {
  const start = now();
  inFlight += 1;
  const socket = open(target);
  const finish = (ok: boolean, answeredBy: string, error: string): void => {
    clearTimeout(timer);
    stop();
    inFlight -= 1;
    socket.destroy();
    done({ kind: 'new', start, ms: now() - start, ok, answeredBy, error });
  };
  const stop = readAnswer(socket, (answer, error) =>
    finish(
      answer?.status === 200,
      answer?.body ?? '',
      error ?? (answer?.status === 200 ? '' : `status ${answer?.status}`),
    ),
  );
  const timer = setTimeout(() => finish(false, '', 'timeout'), timeoutMs);
  socket.write(requestText(target, true));
};

/** A connection that is kept: one request at a time, at a fixed beat; a broken one is replaced at the next beat. */
class Kept {
  #socket: Socket | undefined;
  #busy = false;

  beat(): void {
    if (this.#busy) return;
    const socket = this.#socket ?? this.#open();
    const start = now();
    this.#busy = true;
    const finish = (ok: boolean, answeredBy: string, error: string, usable: boolean): void => {
      clearTimeout(timer);
      stop();
      this.#busy = false;
      if (!usable) {
        socket.destroy();
        this.#socket = undefined;
      }
      record({ kind: 'keep', start, ms: now() - start, ok, answeredBy, error });
    };
    const stop = readAnswer(socket, (answer, error) =>
      finish(
        answer?.status === 200,
        answer?.body ?? '',
        error ?? (answer?.status === 200 ? '' : `status ${answer?.status}`),
        answer !== undefined,
      ),
    );
    const timer = setTimeout(() => finish(false, '', 'timeout', false), timeoutMs);
    socket.write(requestText(target, false));
  }

  #open(): Socket {
    const socket = open(target);
    this.#socket = socket;
    const lost = (): void => {
      if (this.#socket !== socket) return;
      this.#socket = undefined;
      socket.destroy();
      // During a request its own reader reports; a connection that is lost between two is a failure of its own.
      if (!this.#busy) {
        record({ kind: 'keep', start: now(), ms: 0, ok: false, answeredBy: '', error: 'connection lost while idle' });
      }
    };
    socket.on('end', lost);
    socket.on('close', lost);
    return socket;
  }
}

const kept = Array.from({ length: keep }, () => new Kept());
let startedAt = 0;
let issued = 0;
let lastTick = now();
let beats = 0;

const tick = (): void => {
  const at = now();
  const lag = at - lastTick - tickMs;
  lastTick = at;
  window.lag(lag);
  total.lag(lag);
  if (!running) return;
  const due = Math.floor(((at - startedAt) * perSecond) / 1_000);
  for (; issued < due; issued += 1) {
    if (inFlight >= inFlightMax)
      record({ kind: 'new', start: at, ms: 0, ok: false, answeredBy: '', error: 'client overloaded' });
    else fresh(record);
  }
  // The kept ones are spread over their period, so that they do not all ask in one tick.
  const dueBeats = keep === 0 ? 0 : Math.floor(((at - startedAt) * keep) / everyMs);
  if (dueBeats - beats > keep) beats = dueBeats - keep;
  for (; beats < dueBeats; beats += 1) kept[beats % keep]?.beat();
};

const restart = (): void => {
  startedAt = now();
  issued = 0;
  beats = 0;
};

const reply = (value: Record<string, unknown>): void => {
  process.stdout.write(`${JSON.stringify(value)}\n`);
};

const quit = (): void => {
  flush();
  if (logFile !== undefined) closeSync(logFile);
  process.exit(0);
};

const commands: Readonly<Record<string, (message: Record<string, unknown>) => void>> = {
  start: () => {
    running = true;
    restart();
    window = new Window('all', now());
    reply({ ok: true });
  },
  stop: () => {
    running = false;
    reply({ ok: true });
  },
  rate: ({ perSecond: wanted }) => {
    perSecond = typeof wanted === 'number' && wanted >= 0 && wanted <= 10_000 ? wanted : perSecond;
    restart();
    reply({ ok: true, perSecond });
  },
  stats: () => reply({ ...window.summary(now()), total: total.summary(now()), inFlight, dropped, running }),
  mark: ({ name }) => {
    const at = now();
    reply({ ...window.summary(at), inFlight });
    window = new Window(String(name ?? ''), at, window.lastSuccess);
  },
  call: () =>
    fresh((call) => {
      record(call);
      reply({ ...call });
    }),
  flush: () => {
    flush();
    reply({ ok: true });
  },
  quit,
};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    try {
      const message = JSON.parse(line) as Record<string, unknown>;
      const command = commands[String(message.cmd)];
      if (command === undefined) reply({ error: `unknown command ${String(message.cmd)}` });
      else command(message);
    } catch (error) {
      reply({ error: (error as Error).message });
    }
  })
  .on('close', quit);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, quit);
setInterval(tick, tickMs);
setInterval(flush, flushMs);
reply({ event: 'ready', target });
if (values.start) {
  running = true;
  restart();
}
