/** What a user can get wrong between a controller and etcd: each gives one clear error, and nothing unchecked is believed. */
import { createServer, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { IsthmusError } from '../../../src/core/errors.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { connectAdmin } from '../../../src/store/admin.ts';
import { connectStore, type EtcdOptions, type EtcdStore } from '../../../src/store/etcd.ts';
import { clusterset, own, prefix, Recorder, root, text } from '../../conformance/recorder.ts';
import { startEtcd, type TestEtcd } from '../etcd.ts';
import { newTestCa, type TestCa } from '../pki.ts';
import { startRelay } from '../relay.ts';
import { startFakeEtcd } from './fake-etcd.ts';
import { pause } from './rig.ts';

const undo: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const fn of undo.splice(0).reverse()) await fn();
});

const storeOf = (o: EtcdOptions): EtcdStore => {
  const store = connectStore(o);
  undo.push(() => store.close());
  return store;
};
const failureOf = async (promise: Promise<unknown>): Promise<IsthmusError> =>
  promise.then(
    () => expect.unreachable('it was accepted'),
    (error: IsthmusError) => error,
  ) as Promise<IsthmusError>;
const until = async (done: () => boolean, what: string): Promise<void> => {
  const end = performance.now() + 15_000;
  while (!done()) {
    if (performance.now() > end) throw new Error(`never: ${what}`);
    await pause(20);
  }
};

describe('a real etcd with authentication', () => {
  let etcd: TestEtcd;
  let base: Pick<EtcdOptions, 'endpoints' | 'clock' | 'log'>;
  const members = ['alpha', 'beta'];

  beforeAll(async () => {
    etcd = await startEtcd();
    base = { endpoints: etcd.endpoints, clock: realClock, log: () => {} };
    const admin = connectAdmin({ ...base, ...(await etcd.client('root')) });
    expect(await admin.ensureMembers(clusterset, members)).not.toEqual([]);
    expect(await admin.enableAuth()).toContain('turned on authentication');
    admin.close();
  });
  afterAll(() => etcd.stop());

  const as = async (commonName: string, more: Partial<EtcdOptions> = {}): Promise<EtcdStore> =>
    storeOf({ ...base, ...(await etcd.client(commonName)), ...more });
  const put = (key: string) => ({ compare: [], puts: [{ key, value: text('x') }], deletes: [] });

  it('refuses a member’s writes under every name but its own', async () => {
    const alpha = await as('alpha');
    expect((await alpha.commit(put(`${own}manifest`))).ok).toBe(true);
    for (const key of [
      `${prefix}beta/manifest`,
      `${prefix}alpha2/manifest`,
      `${prefix}alpha`,
      `${prefix}`,
      `${root}set/members/alpha`,
      `${root}set/policy`,
      '/isthmus/v1/other/public/alpha/manifest',
      '/',
    ]) {
      expect((await failureOf(alpha.commit(put(key)))).code, key).toBe('store/denied');
      expect((await failureOf(alpha.commit({ compare: [], puts: [], deletes: [key] }))).code, key).toBe('store/denied');
    }
    // Not even together with a write of its own.
    const mixed = { ...put(`${own}x`), deletes: [`${prefix}beta/manifest`] };
    expect((await failureOf(alpha.commit(mixed))).code).toBe('store/denied');
    const beta = await as('beta');
    expect((await beta.list(`${prefix}alpha/`)).entries.map((e) => e.key)).toEqual([`${own}manifest`]);
    expect((await failureOf(alpha.list('/isthmus/v1/other/'))).code).toBe('store/denied');
    expect((await failureOf(alpha.list('/'))).code).toBe('store/denied');
  });

  it('names the wrong user', async () => {
    const stranger = await as('mallory');
    const error = await failureOf(stranger.check(prefix));
    expect(error.code).toBe('store/denied');
    expect(error.message).toContain(etcd.endpoints[0]);
    expect(error.hint).toContain('common name');
    const seen = new Recorder();
    stranger.watch(prefix, seen);
    await until(() => seen.downs > 0, 'the watch is refused');
    expect(seen.reasons).toEqual([]);
    expect(stranger.status()).toMatchObject({ connected: false });
    expect(stranger.status().reason).toContain('permission denied');
    // A member may read the version, and may not administer.
    const admin = connectAdmin({ ...base, ...(await etcd.client('alpha')) });
    undo.push(async () => admin.close());
    expect((await failureOf(admin.ensureMembers(clusterset, ['gamma']))).code).toBe('store/denied');
    expect((await failureOf(admin.enableAuth())).message).toContain('CN=alpha');
  });

  it('names the wrong CA, on either side, a stale certificate and unusable files', async () => {
    const other = await newTestCa('another CA');
    const cases: [string, Partial<EtcdOptions>][] = [
      ['the server’s CA', { ca: other.cert }],
      ['the client’s CA', await other.issue({ commonName: 'alpha' })],
      ['an expired certificate', await etcd.ca.issue({ commonName: 'alpha', notAfterMs: -1_000 })],
      ['a key that is not the certificate’s', { key: (await other.issue({ commonName: 'alpha' })).key }],
      ['no PEM', { cert: Buffer.from('nonsense') }],
      ['an empty CA', { ca: Buffer.from('') }],
    ];
    for (const [what, more] of cases) {
      const store = await as('alpha', more);
      const error = await failureOf(store.check());
      expect(error.code, `${what}: ${error.message}`).toBe('store/tls');
      expect(error.hint).toBeTruthy();
      expect((await failureOf(store.list(prefix))).code).toBe('store/tls');
    }
  });

  it('is idempotent, narrows a role that is too wide, and refuses dangerous names', async () => {
    const admin = connectAdmin({ ...base, ...(await etcd.client('root')) });
    undo.push(async () => admin.close());
    expect(await admin.ensureMembers(clusterset, members)).toEqual([]);
    expect(await admin.enableAuth()).toEqual([]);
    for (const name of ['root', 'Alpha', 'a/b', '', 'a'.repeat(64)]) {
      expect((await failureOf(admin.ensureMembers(clusterset, [name]))).code, name).toBe('usage/invalid');
    }
    expect((await failureOf(admin.ensureMembers('../x', ['gamma']))).code).toBe('usage/invalid');
    expect(await admin.ensureMembers(clusterset, ['gamma'])).toHaveLength(7);
    const gamma = await as('gamma');
    expect((await gamma.commit(put(`${prefix}gamma/x`))).ok).toBe(true);
    expect(await admin.removeMember(clusterset, 'gamma')).toHaveLength(2);
    expect((await failureOf(gamma.commit(put(`${prefix}gamma/x`)))).code).toBe('store/denied');
    expect(await admin.removeMember(clusterset, 'gamma')).toEqual([]);
  });
});

describe('an etcd with known authorization holes', () => {
  let ca: TestCa;
  beforeAll(async () => {
    ca = await newTestCa();
  });
  const fakeOf = async (version: string | undefined) => {
    const fake = await startFakeEtcd(ca);
    undo.push(() => fake.close());
    fake.version = version;
    return fake;
  };
  const optionsFor = async (endpoints: string[]): Promise<EtcdOptions> => {
    const tls = { ca: ca.cert, ...(await ca.issue({ commonName: 'alpha' })) };
    return { endpoints, ...tls, clock: realClock, log: () => {} };
  };

  it('is refused before anything is read from it', async () => {
    const fake = await fakeOf('3.6.13');
    const store = storeOf(await optionsFor([fake.url]));
    const error = await failureOf(store.check());
    expect(error.code).toBe('store/too-old');
    expect(error.message).toContain('3.6.13');
    expect(error.hint).toContain('store.allowUnsafeVersion');
    expect((await failureOf(store.list(prefix))).code).toBe('store/too-old');
    expect((await failureOf(store.commit({ compare: [], puts: [], deletes: [] }))).code).toBe('store/too-old');
    const seen = new Recorder();
    store.watch(prefix, seen);
    await until(() => seen.reason.includes('3.6.13'), 'the watch tells why');
    expect(seen.reasons).toEqual([]);
    expect(fake.calls.range).toBe(0);
  });

  it('is accepted with the override, with a warning', async () => {
    const fake = await fakeOf('3.4.1');
    const warnings: string[] = [];
    const log = (level: string, msg: string) => {
      if (level === 'warn') warnings.push(msg);
    };
    const store = storeOf({ ...(await optionsFor([fake.url])), allowUnsafeVersion: true, log });
    await store.check();
    expect(store.status().version).toBe('3.4.1');
    expect(warnings.join()).toContain('unsafe');
  });

  it('is refused when it does not tell its version at all', async () => {
    const fake = await fakeOf(undefined);
    const error = await failureOf(storeOf(await optionsFor([fake.url])).check());
    expect(error.code).toBe('store/too-old');
    expect(error.message).toContain('does not tell');
  });

  it('is refused also when it takes the place of a good one', async () => {
    const fake = await fakeOf('3.7.3');
    fake.onWatch = ({ requestUnion }, stream) => {
      if (requestUnion.case === 'createRequest') stream.send({ created: true });
      else stream.send({ watchId: -1n });
    };
    const relay = await startRelay(Number(new URL(fake.url).port));
    undo.push(() => relay.close());
    const store = storeOf(await optionsFor([relay.url]));
    const seen = new Recorder();
    store.watch(prefix, seen);
    await until(() => seen.up, 'the watch is live');
    fake.version = '3.5.1';
    relay.drop();
    await until(() => seen.reason.includes('3.5.1'), 'the new version is refused');
    const reads = fake.calls.range;
    expect((await failureOf(store.list(prefix))).code).toBe('store/too-old');
    expect(fake.calls.range).toBe(reads);
  });

  it('is passed by for an endpoint that is safe', async () => {
    const [old, good] = [await fakeOf('3.5.1'), await fakeOf('3.7.3')];
    const store = storeOf(await optionsFor([old.url, good.url]));
    await store.check();
    expect(store.status().endpoint).toBe(good.url);
  });
});

describe('what is no etcd', () => {
  it('a port that is silent, one that talks nonsense and one that is closed each give an error in time', async () => {
    const ca = await newTestCa();
    const tls = { ca: ca.cert, ...(await ca.issue({ commonName: 'alpha' })) };
    const listen = async (onConnection: (write: (text: string) => void) => void): Promise<string> => {
      const server = createServer((socket) => {
        socket.on('error', () => {});
        onConnection((t) => socket.write(t));
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      undo.push(async () => {
        server.close();
      });
      return `https://127.0.0.1:${(server.address() as { port: number }).port}`;
    };
    const silent = await listen(() => {});
    const nonsense = await listen((write) => write('HTTP/1.1 400 Bad Request\r\n\r\n'));
    for (const endpoint of [silent, nonsense, 'https://127.0.0.1:1', 'https://no.such.host.invalid:2379']) {
      const store = storeOf({ endpoints: [endpoint], ...tls, clock: realClock, log: () => {} });
      const start = performance.now();
      const error = await failureOf(store.list(prefix));
      expect(['store/unavailable', 'store/tls'], error.message).toContain(error.code);
      expect(error.message).toContain(endpoint);
      // A connection that never comes about ends with its deadline (grpc-node #2785).
      expect(performance.now() - start).toBeLessThan(10_000);
    }
  });

  it('leaves no connection behind on a port that stays silent', async () => {
    const ca = await newTestCa();
    const tls = { ca: ca.cert, ...(await ca.issue({ commonName: 'alpha' })) };
    const openSockets = new Set<Socket>();
    let accepted = 0;
    const server = createServer((socket) => {
      accepted += 1;
      openSockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => openSockets.delete(socket));
      socket.resume();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    undo.push(async () => {
      server.close();
    });
    const endpoints = [`https://127.0.0.1:${(server.address() as { port: number }).port}`];
    const store = storeOf({ endpoints, ...tls, clock: realClock, log: () => {} });
    for (let i = 0; i < 2; i++) {
      expect((await failureOf(store.check())).message).toContain('no answer in 4 s');
      await pause(300);
    }
    expect(accepted).toBe(2);
    expect(openSockets.size).toBe(0);
  });
});
