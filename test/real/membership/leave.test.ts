/** Getting out, against a real etcd of three with authentication on: who leaves in order, and who is put out at once. */
import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readCrl } from '../../../src/ca/crl.ts';
import type { StoreWatch } from '../../../src/core/store.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { connectStore, type EtcdStore } from '../../../src/store/etcd.ts';
import { isthmus, passphrase, startDesk, type TestDesk } from './desk.ts';

const keys = storeKeys('demo');
let desk: TestDesk;
beforeAll(async () => {
  desk = await startDesk(['us-east', 'us-west', 'eu-west', 'thief'], 3);
}, 60_000);
afterAll(() => desk?.stop());
const undo: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const fn of undo.splice(0).reverse()) await fn();
});

const at = (...argv: string[]) => isthmus(...argv, '--authority-dir', desk.authority);
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const fileOf = (member: string, name: string) => readFileSync(join(desk.authority, member, name));
const storeOf = (member: string, endpoints = desk.etcd.endpoints): EtcdStore => {
  const store = connectStore({
    endpoints,
    ca: desk.etcd.ca.cert,
    cert: fileOf(member, 'etcd-client.pem'),
    key: fileOf(member, 'etcd-client-key.pem'),
    clock: realClock,
    log: () => {},
  });
  undo.push(() => store.close());
  return store;
};
const put = (key: string, byte = 1) => ({ compare: [], puts: [{ key, value: new Uint8Array([byte]) }], deletes: [] });
const content = async (): Promise<Map<string, string>> => {
  const store = await desk.etcd.store('root');
  const { entries } = await store.list(keys.root);
  await store.close();
  return new Map(entries.map((e) => [e.key, `${e.modRevision} ${Buffer.from(e.value).toString('hex')}`]));
};

/** Restarts an etcd member whenever the command that revoke runs asks for it. */
const restarter = (): { readonly command: string; readonly times: () => number } => {
  const flag = (url: string) => join(desk.dir, `restart-${new URL(url).port}`);
  let over = false;
  let times = 0;
  const serving = (async () => {
    while (!over) {
      for (const member of desk.etcd.members) {
        if (!existsSync(flag(member.url))) continue;
        await member.stop();
        await member.start();
        times++;
        rmSync(flag(member.url));
      }
      await pause(10);
    }
  })();
  undo.push(async () => {
    over = true;
    await serving;
  });
  const file = `${desk.dir}/restart-$(echo {endpoint} | sed 's/.*://')`;
  return { command: `touch ${file}; while [ -e ${file} ]; do sleep 0.02; done`, times: () => times };
};

interface Spy {
  readonly events: string[];
  endedAt: number | undefined;
  watch: StoreWatch;
}

describe('isthmus leave', () => {
  it('says what everybody else loses, does nothing before a yes, and proves that nothing else changed', async () => {
    for (const [member, service] of [
      ['us-west', 'shop/checkout'],
      ['us-west', 'shop/only'],
      ['eu-west', 'shop/checkout'],
    ] as const) {
      await storeOf(member).commit(put(`${keys.memberPrefix(member)}services/${service}`));
    }
    const before = await content();
    const dry = await at('leave', '--cluster', 'us-west', '--dry-run');
    expect(dry.code, dry.err).toBe(0);
    expect(dry.out).toMatch(/shop\/checkout +eu-west\n/);
    expect(dry.out).toMatch(/shop\/only +NOBODY/);
    expect((await at('leave', '--cluster', 'us-west', '--force')).code).toBe(64);
    // Not dead, and not at hand either.
    const absent = await at('leave', '--cluster', 'us-west', '--yes', '--kubeconfig', join(desk.dir, 'none'));
    expect([absent.code, absent.err]).toEqual([65, expect.stringContaining('--force')]);
    expect(await content()).toEqual(before);

    const left = await at('leave', '--cluster', 'us-west', '--force', '--yes');
    expect(left.code, left.err).toBe(0);
    expect(left.err).toContain('nothing else changed');
    const after = await content();
    const own = (key: string) => key.includes('us-west');
    expect([...after].filter(([key]) => !own(key))).toEqual([...before].filter(([key]) => !own(key)));
    expect([...after.keys()].filter(own)).toEqual([keys.revocation('us-west')]);
    await expect(storeOf('us-west').list(keys.publicPrefix)).rejects.toMatchObject({ code: 'store/denied' });
    expect((await storeOf('eu-west').list(keys.setPrefix)).entries.length).toBeGreaterThan(2);
    expect(desk.audit().at(-1)).toMatchObject({ action: 'leave', outcome: 'done', cluster: 'us-west' });
    expect((await at('leave', '--cluster', 'nobody', '--yes')).err).toContain('member/unknown');
  }, 60_000);
});

describe('isthmus revoke', () => {
  it('cuts access and ends every open watch within 5 s, on every etcd, and nobody else notices', async () => {
    const { command, times } = restarter();
    const spies: Spy[] = desk.etcd.members.map(({ url }) => {
      const store = storeOf('thief', [url]);
      const spy: Spy = { events: [], endedAt: undefined, watch: { close: () => {} } };
      spy.watch = store.watch(keys.publicPrefix, {
        snapshot: () => spy.events.push('snapshot'),
        events: (events) => spy.events.push(...events.map((e) => e.key)),
        connected: (up) => {
          if (!up) spy.endedAt ??= performance.now();
        },
      });
      return spy;
    });
    while (spies.some((s) => s.events.length === 0)) await pause(20);
    const peer = storeOf('us-east');
    let failures = 0;
    let writes = 0;
    let over = false;
    const writing = (async () => {
      for (let i = 0; !over; i++) {
        await peer.commit(put(`${keys.memberPrefix('us-east')}tick`, i & 255)).then(
          () => writes++,
          () => failures++,
        );
        await pause(50);
      }
    })();
    const started = performance.now();
    const revoked = await at('revoke', 'thief', '--yes', '--reason', 'laptop stolen', '--restart-etcd', command);
    const tookMs = performance.now() - started;
    expect(revoked.code, revoked.err).toBe(0);
    expect(times()).toBe(3);
    for (const spy of spies) expect(spy.endedAt! - started).toBeLessThan(5_000);
    process.stderr.write(
      `revoke: ${Math.round(tookMs)} ms, watches ended after ${spies.map((s) => Math.round(s.endedAt! - started)).join(', ')} ms\n`,
    );
    const events = spies.map((s) => s.events.length);
    await pause(1_500);
    over = true;
    await writing;
    expect(spies.map((s) => s.events.length)).toEqual(events);
    expect(writes).toBeGreaterThan(10);
    process.stderr.write(`revoke: a peer wrote ${writes} times, ${failures} attempts were tried again\n`);
    await expect(storeOf('thief').list(keys.publicPrefix)).rejects.toMatchObject({ code: 'store/denied' });
    // Its certificate is on the list that etcd reads.
    const crl = readFileSync(join(desk.authority, 'etcd-crl.der'));
    const serial = new X509Certificate(fileOf('thief', 'etcd-client.pem')).serialNumber.toLowerCase();
    expect(readCrl(crl, 'crl').map((r) => r.serial)).toEqual([serial]);
  }, 90_000);

  it('is refused by etcd itself with the list, when a user of that name is made again', async () => {
    const crl = join(desk.authority, 'etcd-crl.der');
    for (const member of desk.etcd.members) {
      await member.stop();
      await member.start(['--client-crl-file', crl]);
    }
    await expect(storeOf('thief').check()).rejects.toMatchObject({ code: expect.stringMatching(/^store\//) });
    await storeOf('us-east').check(keys.publicPrefix);
    // Without a way to end the watches it says so.
    const revoked = await at('revoke', 'eu-west', '--yes', '--etcd-crl', crl);
    expect([revoked.code, revoked.err]).toEqual([79, expect.stringContaining('etcd ends no watch by itself')]);
    expect(readCrl(readFileSync(crl), 'crl')).toHaveLength(2);
    await expect(storeOf('eu-west').check()).rejects.toMatchObject({ code: expect.stringMatching(/^store\//) });
    await storeOf('us-east').check(keys.publicPrefix);
  }, 60_000);

  it('puts the intermediate CA on the list that ztunnels load', async () => {
    const trust = join(desk.dir, 'trust');
    expect((await isthmus('trust', 'init', '--out', trust, '--cluster', 'us-east', '--cluster', 'thief')).code).toBe(0);
    const again = await at('revoke', 'thief', '--yes', '--trust-dir', trust);
    expect(again.code).toBe(79);
    const { serialNumber } = new X509Certificate(readFileSync(join(trust, 'thief', 'ca-cert.pem')));
    const lists = readFileSync(join(trust, 'us-east', 'ca-crl.pem'), 'utf8').split(/(?=-----BEGIN)/);
    expect(lists.map((list) => readCrl(list, 'crl').map(({ serial }) => serial))).toEqual([
      [serialNumber.toLowerCase().replace(/^0+/, '')],
      [],
    ]);
    expect(existsSync(join(trust, 'thief', 'ca-crl.pem'))).toBe(false);
  }, 60_000);

  it('lets the name in again by a new token, with new keys', async () => {
    process.env['ISTHMUS_AUTHORITY_PASSPHRASE'] = passphrase;
    const terms = ['--region', 'r', '--network', 'n', '--address-range', '10.4.0.0/16', '--export-namespace', 'shop'];
    const file = join(desk.dir, 'again.token');
    const made = await at('token', 'create', '--cluster', 'thief', ...terms, '-o', 'file', '--file', file);
    expect(made.code, made.err).toBe(0);
    const [joined, approved] = await Promise.all([
      isthmus('join', '--token-file', file, '--out', join(desk.dir, 'thief-again')),
      at('approve', '--wait'),
    ]);
    expect([joined.code, approved.code], joined.err).toEqual([0, 0]);
    const old = storeOf('thief');
    await expect(old.check()).rejects.toMatchObject({ code: expect.stringMatching(/^store\//) });
  }, 60_000);
});
