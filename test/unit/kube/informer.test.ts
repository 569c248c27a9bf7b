import { describe, expect, test } from 'vitest';
import { IsthmusError } from '../../../src/core/errors.ts';
import type { KubeApi, KubeRequest, StreamHandler } from '../../../src/kube/api.ts';
import { startInformer } from '../../../src/kube/informer.ts';
import { type Json, record, text } from '../../../src/kube/json.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';

const thing = (name: string, version: number, value = '') => ({
  metadata: { name, namespace: 'ns', resourceVersion: String(version) },
  value,
});
const refusal = (status: number) => new IsthmusError('kube/unavailable', `${status}`, { subject: { status } });

/** An API server of one kind whose answers the test decides. */
const rig = (more: { onChange?: (key: string) => void; paths?: string[]; dispensable?: boolean } = {}) => {
  const clock = new SimClock();
  const state = {
    list: [] as object[],
    version: 10,
    listError: undefined as IsthmusError | undefined,
    watchError: undefined as IsthmusError | undefined,
    pages: 1,
    brokenPage: -1,
    lists: 0,
    watches: [] as {
      from: string;
      path: string;
      handler: StreamHandler;
      closed: boolean;
      query: Readonly<Record<string, string>>;
    }[],
    missing: new Set<string>(),
    listed: [] as string[],
  };
  const api: KubeApi = {
    server: 'https://sim',
    request: async (request: KubeRequest) => {
      await new Promise<void>((resolve) => void clock.after(1, resolve));
      if (state.missing.has(request.path))
        throw new IsthmusError('kube/not-found', '404', { subject: { status: 404 } });
      if (state.listError) throw state.listError;
      state.listed.push(request.path);
      const page = Number(request.query?.['continue'] ?? 0);
      if (page === state.brokenPage) throw refusal(500);
      if (page === 0) state.lists++;
      const size = Math.ceil(state.list.length / state.pages);
      return {
        metadata: {
          resourceVersion: String(state.version),
          ...(page + 1 < state.pages && { continue: String(page + 1) }),
        },
        items: state.list.slice(page * size, (page + 1) * size),
      };
    },
    stream: (path, query, handler) => {
      const watch = { from: query['resourceVersion'] ?? '', path, handler, closed: false, query };
      state.watches.push(watch);
      clock.after(0, () => {
        if (watch.closed) return;
        if (state.watchError) handler.end(state.watchError);
        else handler.open();
      });
      return {
        close: () => {
          watch.closed = true;
        },
      };
    },
    close: () => {},
  };
  const seen: string[] = [];
  const logs: string[] = [];
  const problems: IsthmusError[] = [];
  const informer = startInformer<string>({
    api,
    clock,
    rng: seededRng(1),
    log: (level, message) => logs.push(`${level} ${message}`),
    kind: 'things',
    paths: more.paths ?? ['/things'],
    dispensable: more.dispensable === true,
    project: (object: Json) => {
      if (object['value'] === 'malformed') throw new Error('malformed');
      return object['value'] === 'hidden'
        ? undefined
        : text(object, 'value') || text(record(object, 'metadata'), 'name');
    },
    onChange: (key, value, previous) => {
      more.onChange?.(key);
      seen.push(value === undefined ? `-${key}` : previous === undefined ? `+${key}` : `~${key}`);
    },
    onProblem: (error) => problems.push(error),
  });
  const watch = () => {
    const last = state.watches.at(-1);
    if (last === undefined) throw new Error('no watch');
    return last;
  };
  const send = (type: string, object: object) => {
    watch().handler.bytes();
    watch().handler.line(JSON.stringify({ type, object }));
  };
  return { clock, state, informer, seen, logs, problems, watch, send };
};

describe('an informer', () => {
  test('lists, watches from there, and follows events', async () => {
    const { clock, state, informer, seen, watch, send } = rig();
    state.list = [thing('a', 1), thing('b', 2)];
    await clock.advance(10);
    expect(informer.synced).toBe(true);
    expect(watch().from).toBe('10');
    expect(watch().query).toMatchObject({ allowWatchBookmarks: 'true' });
    const timeout = Number(watch().query['timeoutSeconds']);
    expect(timeout).toBeGreaterThanOrEqual(240);
    expect(timeout).toBeLessThanOrEqual(360);
    send('ADDED', thing('c', 11));
    send('MODIFIED', thing('a', 12, 'new'));
    send('DELETED', thing('b', 13));
    send('BOOKMARK', { metadata: { resourceVersion: '20' } });
    expect(seen).toEqual(['+ns/a', '+ns/b', '+ns/c', '~ns/a', '-ns/b']);
    watch().handler.end(undefined);
    await clock.advance(10);
    expect(watch().from).toBe('20');
    expect(state.lists).toBe(1);
  });

  test('a failed list, or half of one, takes nothing away', async () => {
    const { clock, state, informer, seen, send, logs, problems } = rig();
    state.list = [thing('a', 1), thing('b', 2), thing('c', 3), thing('d', 4)];
    await clock.advance(10);
    seen.length = 0;
    state.pages = 2;
    state.brokenPage = 1;
    state.list = [thing('a', 1)];
    send('ERROR', { code: 410, reason: 'Expired' });
    await clock.advance(60_000);
    expect(seen).toEqual([]);
    expect(informer.items.size).toBe(4);
    expect(informer.staleMs()).toBeGreaterThan(59_000);
    expect(problems.length).toBeGreaterThan(5);
    expect(logs.filter((line) => line === 'warn a list failed; what is known is kept').length).toBe(1);
    state.brokenPage = -1;
    state.list = [thing('a', 1), thing('b', 9, 'new'), thing('d', 4), thing('e', 10)];
    await clock.advance(6_000);
    expect(seen.sort()).toEqual(['+ns/e', '-ns/c', '~ns/b']);
    expect(informer.staleMs()).toBeLessThan(6_000);
  });

  test('bad JSON, an unknown event and an error in the stream do not end it', async () => {
    const { clock, state, seen, watch, send } = rig();
    state.list = [thing('a', 1)];
    for (const line of ['{"type":"ADDED",', '[]', '"x"', '{"type":"WHAT","object":{}}', 'null']) {
      await clock.advance(8_000);
      const lists = state.lists;
      watch().handler.line(line);
      await clock.advance(8_000);
      expect(state.lists).toBe(lists + 1);
    }
    send('ERROR', { code: 500, reason: 'InternalError', message: 'boom' });
    await clock.advance(8_000);
    send('ADDED', thing('b', 30));
    expect(seen).toEqual(['+ns/a', '+ns/b']);
  });

  test('a handler that throws and an object that is malformed cost only themselves', async () => {
    const { clock, state, informer, send, logs } = rig({
      onChange: (key) => {
        if (key === 'ns/a') throw new Error('handler');
      },
    });
    state.list = [thing('a', 1), thing('bad', 2, 'malformed'), thing('b', 3), { metadata: {} }, 7 as never];
    await clock.advance(10);
    expect([...informer.items.keys()]).toEqual(['ns/a', 'ns/b']);
    send('ADDED', thing('c', 11));
    // Its last good state stays when it becomes malformed.
    send('MODIFIED', thing('b', 12, 'malformed'));
    expect([...informer.items.keys()]).toEqual(['ns/a', 'ns/b', 'ns/c']);
    expect(logs.some((line) => line.startsWith('error a handler'))).toBe(true);
  });

  test('an object that leaves the selection of interest goes', async () => {
    const { clock, state, seen, send } = rig();
    state.list = [thing('a', 1)];
    await clock.advance(10);
    send('MODIFIED', thing('a', 11, 'hidden'));
    send('MODIFIED', thing('a', 12));
    expect(seen).toEqual(['+ns/a', '-ns/a', '+ns/a']);
  });

  test('a silent watch is reopened from where it was; bytes of any kind keep it', async () => {
    const { clock, state, watch, informer } = rig();
    await clock.advance(10);
    const first = watch();
    await clock.advance(70_000);
    first.handler.bytes();
    await clock.advance(70_000);
    expect(state.watches.length).toBe(1);
    expect(informer.staleMs()).toBeGreaterThan(69_000);
    await clock.advance(11_000);
    expect(first.closed).toBe(true);
    expect(state.watches.length).toBe(2);
    expect(state.lists).toBe(1);
    expect(informer.staleMs()).toBeLessThan(2_000);
  });

  test('an API server that refuses is asked ever less, within bounds', async () => {
    const { clock, state, informer } = rig();
    await clock.advance(10);
    state.watchError = new IsthmusError('kube/unavailable', 'refused');
    state.watches.at(-1)?.handler.end(state.watchError);
    const before = state.watches.length;
    await clock.advance(120_000);
    const tries = state.watches.length - before;
    expect(tries).toBeGreaterThan(20);
    expect(tries).toBeLessThan(60);
    state.watchError = undefined;
    await clock.advance(5_100);
    expect(informer.connected).toBe(true);
  });

  test('a watch that ends at once, every time, is no busy loop', async () => {
    const { clock, state } = rig();
    for (let at = 0; at < 600; at++) {
      await clock.advance(100);
      state.watches.at(-1)?.handler.end(undefined);
    }
    expect(state.watches.length).toBeLessThan(60);
  });

  test('lists again now and then and reports what an event never told; if that fails the watch goes on', async () => {
    const { clock, state, seen, watch, send } = rig();
    state.list = [thing('a', 1)];
    await clock.advance(10);
    state.list = [thing('b', 2)];
    await clock.advance(1);
    const minutes = async (n: number) => {
      for (let at = 0; at < n; at++) {
        watch().handler.bytes();
        await clock.advance(60_000);
      }
    };
    await minutes(11);
    state.listError = refusal(503);
    watch().handler.end(undefined);
    await clock.advance(1_000);
    expect(seen).toEqual(['+ns/a']);
    send('ADDED', thing('c', 40));
    await minutes(11);
    state.listError = undefined;
    state.version = 50;
    state.list = [thing('b', 2), thing('c', 40)];
    watch().handler.end(undefined);
    await clock.advance(1_000);
    expect(seen).toEqual(['+ns/a', '+ns/c', '+ns/b', '-ns/a']);
    expect(watch().from).toBe('50');
  });

  test.each([
    [true, 'is gone without'],
    [false, 'is waited for'],
  ])('a kind that may not be read and is dispensable (%s) %s', async (dispensable) => {
    const { clock, state, informer, seen, problems } = rig({ dispensable });
    const denied = new IsthmusError('kube/denied', 'things is forbidden', { subject: { status: 403 } });
    state.list = [thing('a', 1)];
    state.listError = denied;
    await clock.advance(100);
    // The first answers may be those of an API server that does not know its roles yet.
    expect(informer.synced).toBe(false);
    await clock.advance(20_000);
    expect(informer.synced).toBe(dispensable);
    expect(informer.denied?.code).toBe(dispensable ? 'kube/denied' : undefined);
    expect(problems.length).toBeGreaterThan(0);
    state.listError = undefined;
    await clock.advance(6_000);
    expect(informer.synced).toBe(true);
    expect(informer.denied).toBeUndefined();
    expect(seen).toEqual(['+ns/a']);
  });

  test('falls back to an older version of the kind, and waits for a kind that does not exist', async () => {
    const { clock, state, informer, watch } = rig({ paths: ['/v1/things', '/v1alpha1/things'] });
    state.missing.add('/v1/things').add('/v1alpha1/things');
    await clock.advance(10);
    expect(informer.synced).toBe(true);
    expect(state.watches.length).toBe(0);
    state.missing.delete('/v1alpha1/things');
    state.list = [thing('a', 1)];
    await clock.advance(7_000);
    expect(watch().path).toBe('/v1alpha1/things');
    expect(informer.items.size).toBe(1);
    // A server that starts up may answer 404 once; only when it keeps saying so is the kind gone.
    state.missing.add('/v1alpha1/things');
    watch().handler.end(new IsthmusError('kube/not-found', '404', { subject: { status: 404 } }));
    await clock.advance(500);
    expect(informer.items.size).toBe(1);
    await clock.advance(5_000);
    expect(informer.items.size).toBe(0);
  });

  test('after close nothing is asked and nothing is told', async () => {
    const { clock, state, informer, seen, watch } = rig();
    state.list = [thing('a', 1)];
    await clock.advance(10);
    const last = watch();
    informer.close();
    await clock.advance(600_000);
    expect(last.closed).toBe(true);
    expect(state.watches.length).toBe(1);
    expect(seen).toEqual(['+ns/a']);
  });
});
