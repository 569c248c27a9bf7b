import { describe, expect, test } from 'vitest';
import type { Clock } from '../../../src/core/clock.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import type { KubeRequest } from '../../../src/kube/api.ts';
import { type Election, type ElectionOptions, startElection } from '../../../src/kube/lease.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';

interface Stored {
  metadata: { resourceVersion: string };
  spec: Record<string, unknown>;
}

/** A Lease as the API server keeps it: compare-and-swap on the version, answers after `delayMs`, or none while dark. */
const leaseServer = (clock: Clock) => {
  let stored: Stored | undefined;
  let version = 0;
  const server = {
    dark: false,
    /** Writes land although no answer comes. */
    swallowAnswers: false,
    delayMs: 5,
    writes: [] as string[],
    stored: () => stored,
    request: (request: KubeRequest): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const failed = (status: number) =>
          new IsthmusError(status === 409 ? 'kube/conflict' : 'kube/not-found', `${status}`, { subject: { status } });
        const act = (): void => {
          const body = request.body as
            | { metadata: { resourceVersion?: string }; spec: Record<string, unknown> }
            | undefined;
          let outcome: () => void;
          if (request.method === 'GET') {
            const copy = structuredClone(stored);
            outcome = copy === undefined ? () => reject(failed(404)) : () => resolve(copy);
          } else if (
            request.method === 'POST'
              ? stored !== undefined
              : body?.metadata.resourceVersion !== stored?.metadata.resourceVersion
          ) {
            outcome = () => reject(failed(409));
          } else {
            stored = { metadata: { resourceVersion: String(++version) }, spec: body?.spec ?? {} };
            server.writes.push(String(body?.spec.holderIdentity));
            const copy = structuredClone(stored);
            outcome = () => resolve(copy);
          }
          if (server.swallowAnswers)
            clock.after(request.timeoutMs ?? 10_000, () => reject(new IsthmusError('kube/unavailable', 'timed out')));
          else clock.after(server.delayMs, outcome);
        };
        if (server.dark)
          clock.after(request.timeoutMs ?? 10_000, () => reject(new IsthmusError('kube/unavailable', 'timed out')));
        else clock.after(server.delayMs, act);
      }),
  };
  return server;
};

/** A process that can be stopped as by SIGSTOP: its clock goes on, its timers and answers wait until it continues. */
const stoppable = (clock: Clock) => {
  let stopped = false;
  const held: (() => void)[] = [];
  const later = (fn: () => void) => () => {
    if (stopped) held.push(fn);
    else fn();
  };
  return {
    clock: {
      monotonicMs: () => clock.monotonicMs(),
      wallMs: () => clock.wallMs(),
      after: (ms: number, fn: () => void) => {
        let live = true;
        const timer = clock.after(
          ms,
          later(() => live && fn()),
        );
        return {
          cancel: () => {
            live = false;
            timer.cancel();
          },
        };
      },
    } satisfies Clock,
    api: (server: { request(request: KubeRequest): Promise<unknown> }) => ({
      request: (request: KubeRequest) =>
        new Promise<unknown>((resolve, reject) => {
          server.request(request).then(
            (value) => later(() => resolve(value))(),
            (error) => later(() => reject(error))(),
          );
        }),
    }),
    stop: () => {
      stopped = true;
    },
    /** What was due happens now, in order. */
    continue: () => {
      stopped = false;
      for (const fn of held.splice(0)) fn();
    },
  };
};

const elector = (
  clock: Clock,
  server: Pick<ElectionOptions['api'], 'request'>,
  identity: string,
  more: Partial<ElectionOptions> = {},
) => {
  const events: string[] = [];
  const election = startElection({
    api: server,
    clock,
    log: () => {},
    namespace: 'isthmus-system',
    name: 'isthmus-writer',
    identity,
    onLead: (term) => events.push(`lead ${term}`),
    onLost: (reason) => events.push(`lost ${reason}`),
    ...more,
  });
  return { election, events };
};

const never2 = async (clock: SimClock, ms: number, all: readonly Election[]): Promise<void> => {
  for (let at = 0; at < ms; at += 20) {
    await clock.advance(20);
    expect(all.filter((each) => each.leading()).length).toBeLessThan(2);
  }
};

describe('the writer’s lease', () => {
  test('one of two leads, and keeps leading', async () => {
    const clock = new SimClock();
    const server = leaseServer(clock);
    const a = elector(clock, server, 'a');
    const b = elector(clock, server, 'b');
    await never2(clock, 20_000, [a.election, b.election]);
    expect([a.events, b.events]).toEqual([['lead 1'], []]);
    expect(b.election.holder()).toBe('a');
    expect(server.stored()?.spec.leaseDurationSeconds).toBe(4);
  });

  test('given back at the end: the other leads within a renewal, with a higher term', async () => {
    const clock = new SimClock();
    const server = leaseServer(clock);
    const a = elector(clock, server, 'a');
    const b = elector(clock, server, 'b');
    await clock.advance(3_000);
    const closing = a.election.close();
    expect(a.election.leading()).toBe(false);
    await clock.advance(1_100);
    await closing;
    expect(a.events).toEqual(['lead 1', 'lost closed']);
    expect(b.events).toEqual(['lead 2']);
  });

  test('a holder that dies is followed after the lease’s time, not before', async () => {
    const clock = new SimClock();
    const server = leaseServer(clock);
    const gone = stoppable(clock);
    elector(gone.clock, gone.api(server), 'a');
    await clock.advance(2_000);
    const b = elector(clock, server, 'b');
    await clock.advance(500);
    gone.stop();
    await clock.advance(3_400);
    expect(b.events).toEqual([]);
    await clock.advance(2_000);
    expect(b.events).toEqual(['lead 2']);
  });

  test('with the API dark the leader stops by itself at ⅔ of the time after its last renewal was sent', async () => {
    const clock = new SimClock();
    const server = leaseServer(clock);
    const a = elector(clock, server, 'a');
    await clock.advance(500);
    const startedAt = clock.monotonicMs();
    server.dark = true;
    await clock.advance(2_100);
    expect(a.election.leading()).toBe(true);
    await clock.advance(100);
    expect(a.election.leading()).toBe(false);
    expect(clock.monotonicMs() - startedAt).toBeLessThan(2_667);
    expect(a.events).toEqual(['lead 1', 'lost expired']);
    server.dark = false;
    await clock.advance(3_000);
    expect(a.events).toEqual(['lead 1', 'lost expired', 'lead 2']);
  });

  test('a renewal that was written but not acknowledged in time does not count', async () => {
    const clock = new SimClock();
    const server = leaseServer(clock);
    const a = elector(clock, server, 'a');
    await clock.advance(500);
    server.swallowAnswers = true;
    const writes = server.writes.length;
    await clock.advance(2_667);
    expect(server.writes.length).toBeGreaterThan(writes);
    expect(a.election.leading()).toBe(false);
  });

  test('stopped past its time and continued: it knows at once, before a timer or an old answer tells it', async () => {
    const clock = new SimClock();
    const server = leaseServer(clock);
    const process = stoppable(clock);
    const a = elector(process.clock, process.api(server), 'a');
    await clock.advance(1_000);
    const b = elector(clock, server, 'b');
    // The renewal is on its way while the process stops: its answer will be old when it is read.
    await clock.advance(8);
    process.stop();
    await clock.advance(10_000);
    expect(b.events).toEqual(['lead 2']);
    expect(a.election.leading()).toBe(false);
    process.continue();
    await never2(clock, 10_000, [a.election, b.election]);
    // It may have gone on without a lease: it has to hear that another took it.
    expect(a.events).toEqual(['lead 1', 'lost expired', 'lost taken']);
    expect(b.election.leading()).toBe(true);
  });

  test('a rival’s write is noticed at the next renewal', async () => {
    const clock = new SimClock();
    const server = leaseServer(clock);
    const a = elector(clock, server, 'a');
    await clock.advance(500);
    const stored = server.stored();
    await Promise.all([
      server.request({
        method: 'PUT',
        path: '',
        body: { metadata: stored?.metadata, spec: { ...stored?.spec, holderIdentity: 'x' } },
      }),
      clock.advance(1_100),
    ]);
    expect(a.events).toEqual(['lead 1', 'lost taken']);
  });

  test('never two, whatever stops, darkens and slows, and in the end one', async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const rng = seededRng(seed);
      const clock = new SimClock();
      const server = leaseServer(clock);
      const processes = [stoppable(clock), stoppable(clock), stoppable(clock)];
      const electors = processes.map((process, index) => elector(process.clock, process.api(server), `p${index}`));
      for (let step = 0; step < 40; step++) {
        const process = processes[Math.floor(rng() * 3)];
        const dice = rng();
        if (dice < 0.25) process?.stop();
        else if (dice < 0.5) process?.continue();
        else if (dice < 0.6) server.dark = !server.dark;
        else if (dice < 0.7) server.swallowAnswers = !server.swallowAnswers;
        else server.delayMs = Math.floor(rng() * 900);
        await never2(
          clock,
          Math.floor(rng() * 2_000),
          electors.map((each) => each.election),
        );
      }
      server.dark = false;
      server.swallowAnswers = false;
      server.delayMs = 5;
      for (const process of processes) process.continue();
      await clock.advance(12_000);
      expect(electors.filter((each) => each.election.leading()).length, `seed ${seed}`).toBe(1);
      const terms = electors.flatMap((each) => each.events.filter((event) => event.startsWith('lead')));
      expect(new Set(terms).size, `seed ${seed}: a term was led twice`).toBe(terms.length);
    }
  });

  test('times that cannot work are refused', () => {
    const clock = new SimClock();
    expect(() => elector(clock, leaseServer(clock), 'a', { ttlMs: 2_000, renewMs: 1_000 })).toThrow(/renew/);
  });
});
