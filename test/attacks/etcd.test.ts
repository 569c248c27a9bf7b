/**
 * Whoever may read and write everything in etcd. What was signed cannot be forged; what was good stays in use; what is withheld,
 * put back or planted is shown, counted and logged, and the cluster's own records are put right.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../src/core/limits.ts';
import { signSetPolicy } from '../../src/records/set_policy.ts';
import { signMembership, verifyMembership } from '../../src/trust/membership.ts';
import { clusterset } from '../real/controller/harness.ts';
import { eventually } from '../real/kube/objects.ts';
import { keys, value } from './forger.ts';
import { checkoutKey, eastOf, northOf, Stage } from './stage.ts';

let stage: Stage;
/** What stands in etcd when nobody has touched it. */
let memberships: ReadonlyMap<string, Uint8Array>;

beforeAll(async () => {
  stage = await Stage.start();
  const { entries } = await stage.root.list(keys.membersPrefix);
  memberships = new Map(entries.map((entry) => [entry.key, entry.value]));
});
afterEach(async () => {
  await stage.etcd.put(Object.fromEntries(memberships));
  await stage.restore();
});
afterAll(() => stage?.stop());

const untouched = async (attack: () => Promise<void>): Promise<void> => {
  const before = stage.workload();
  await attack();
  expect(stage.workload()).toBe(before);
  await stage.northGoesOn();
};

describe('what a member wrote', () => {
  it('deleted: one record, then all, then the manifest with them', () =>
    untouched(async () => {
      await stage.noticed('manifest/root', /east/, () =>
        stage.etcd.put({ [keys.memberPrefix('east') + checkoutKey]: undefined }),
      );
      const all = [...stage.good.keys(), 'manifest'].map((key) => [keys.memberPrefix('east') + key, undefined]);
      await stage.noticed('record/uncovered', /no manifest/, () => stage.etcd.put(Object.fromEntries(all)));
      const seen = await stage.replica.until('its silence is shown', (s) => eastOf(s)?.control.state === 'silent');
      expect(seen.services.find((s) => s.service === 'shop/checkout')?.remotes.map((r) => r.member)).toEqual(['east']);
    }));

  it('put back: an old record beside the new manifest, then both old', () =>
    untouched(async () => {
      const manifestKey = keys.manifest('east');
      const { entries } = await stage.root.list(keys.memberPrefix('east'));
      const old = Object.fromEntries(entries.map((entry) => [entry.key, entry.value]));
      await stage.east.tick({ 'services/shop/more': stage.service({ name: 'more' }) });
      await stage.replica.until('more is there', (s) => eastOf(s)?.services === 2);
      const more = { [`${keys.memberPrefix('east')}services/shop/more`]: undefined };
      await stage.noticed('manifest/root', /east/, () => stage.etcd.put(more));
      await stage.noticed('manifest/stale', /older/, () =>
        stage.etcd.put({ ...old, ...more, [manifestKey]: old[manifestKey] }),
      );
      expect(eastOf(await stage.replica.status())?.services).toBe(2);
    }));

  it('copied into another’s place: a record and a manifest of east under the name of north', async () => {
    const { entries } = await stage.root.list(keys.memberPrefix('north'));
    const manifest = (await stage.root.list(keys.manifest('east'))).entries[0]!.value;
    await stage.noticed(
      'manifest/malformed|manifest/signature',
      /north/,
      () =>
        stage.etcd.put({
          [`${keys.memberPrefix('north')}${checkoutKey}`]: stage.good.get(checkoutKey),
          [keys.manifest('north')]: manifest,
        }),
      'north',
    );
    const seen = await stage.replica.status();
    expect(northOf(seen)?.services).toBe(1);
    expect(seen.services.find((s) => s.service === 'shop/checkout')?.remotes.map((r) => r.member)).toEqual(['east']);
    await stage.etcd.put({ [`${keys.memberPrefix('north')}${checkoutKey}`]: undefined });
    await stage.etcd.put(Object.fromEntries(entries.map((entry) => [entry.key, entry.value])));
  });

  it('under keys that nobody writes: long ones, odd ones, and not of any member', () =>
    untouched(async () => {
      const root = keys.root;
      const odd = [
        'public/',
        'public/x',
        'public//',
        'public/../north/manifest',
        'set/members/',
        'set/members/a/b',
        'set/else',
        'to/west/east/x',
        'else',
      ];
      for (const key of odd) await stage.etcd.put({ [root + key]: Buffer.from('x') });
      const long = `${keys.memberPrefix('east')}services/${'k'.repeat(400_000)}`;
      await stage.noticed('manifest/root', /east/, () => stage.etcd.put({ [long]: Buffer.from('x') }));
      const status = JSON.stringify(await stage.replica.status());
      expect(status.length).toBeLessThan(50_000);
      await stage.etcd.put(Object.fromEntries([...odd.map((key) => root + key), long].map((key) => [key, undefined])));
    }));
});

describe('what the authority wrote', () => {
  const authority = async () =>
    createPrivateKey(await readFile(join(stage.harness.dir, 'bundles', 'authority-key.pem')));
  const east = async () => {
    const key = await authority();
    const bytes = memberships.get(keys.member('east'))!;
    return value(
      verifyMembership(bytes, {
        clusterset,
        name: 'east',
        authorityKey: createPublicKey(key),
        wallMs: undefined,
        highWater: undefined,
      }),
    ).member;
  };

  it('changed by one bit, or signed anew by the attacker', () =>
    untouched(async () => {
      const forged = Uint8Array.from(memberships.get(keys.member('east'))!);
      forged[forged.length - 1]! ^= 1;
      await stage.noticed('member/signature', /east/, () => stage.etcd.put({ [keys.member('east')]: forged }), '');
      const all = {
        ...(await east()),
        namespaces: ['*'],
        addressRanges: ['0.0.0.0/0'],
        sequence: BigInt(Date.now()) * 2n,
      };
      const own = value(signMembership(all, generateKeyPairSync('ed25519').privateKey));
      await stage.etcd.put({ [keys.member('east')]: own });
      await stage.east.tick({
        'services/bank/vault': stage.service({ namespace: 'bank', name: 'vault', accounts: [] }),
      });
      await stage.replica.until(
        'it is refused',
        (s) => eastOf(s)?.problems.some((p) => p.code === 'record/not-granted') === true,
      );
    }));

  it('deleted, or put under another’s name', () =>
    untouched(async () => {
      await stage.noticed(
        'member/unknown',
        /east is gone/,
        () => stage.etcd.put({ [keys.member('east')]: undefined }),
        '',
      );
      expect((await stage.replica.status()).peers.map((p) => p.member).sort()).toEqual(['east', 'north']);
      const misplaced = { [keys.member('north')]: memberships.get(keys.member('east'))! };
      await stage.noticed('member/duplicate', /north/, () => stage.etcd.put(misplaced), '');
      expect(northOf(await stage.replica.status())?.region).toBe('region-north');
    }));

  it('put back: a membership from before rights were taken away', async () => {
    const now = { ...(await east()), namespaces: ['shop', 'late'], sequence: BigInt(Date.now()) };
    const next = { ...now, namespaces: ['shop'], sequence: now.sequence + 1n };
    const key = await authority();
    await stage.etcd.put({ [keys.member('east')]: value(signMembership(now, key)) });
    await stage.etcd.put({ [keys.member('east')]: value(signMembership(next, key)) });
    const old = { [keys.member('east')]: value(signMembership(now, key)) };
    await stage.noticed('member/stale', /east/, () => stage.etcd.put(old), '');
    memberships = new Map([...memberships, [keys.member('east'), value(signMembership(next, key))]]);
  });

  it('made up: a cluster of which it says nothing, with a membership of its own making', () =>
    untouched(async () => {
      const mallory = { ...(await east()), name: 'mallory', region: 'm' };
      const membership = value(signMembership(mallory, generateKeyPairSync('ed25519').privateKey));
      await stage.noticed(
        'member/signature',
        /mallory/,
        () =>
          stage.etcd.put({
            [keys.member('mallory')]: membership,
            [`${keys.memberPrefix('mallory')}${checkoutKey}`]: stage.good.get(checkoutKey),
          }),
        '',
      );
      await stage.etcd.put({
        [keys.member('mallory')]: undefined,
        [`${keys.memberPrefix('mallory')}${checkoutKey}`]: undefined,
      });
    }));

  it('many made up: a few are shown, none is kept', () =>
    untouched(async () => {
      const names = Array.from({ length: 200 }, (_, i) => `${keys.memberPrefix(`m${i}`)}services/shop/x`);
      for (const key of names)
        await stage.root.commit({ compare: [], puts: [{ key, value: new Uint8Array(100) }], deletes: [] });
      await stage.replica.until(
        'some are shown',
        (s) => s.problems.filter((p) => p.code === 'member/unknown').length === limits.unknownMembersMax,
      );
      for (let at = 0; at < names.length; at += 100)
        await stage.root.commit({ compare: [], puts: [], deletes: names.slice(at, at + 100) });
    }));

  it('a policy by another key', () =>
    untouched(async () => {
      const policy = signSetPolicy(
        { clusterset, sequence: 5n, spec: { mode: 'observe' } },
        generateKeyPairSync('ed25519').privateKey,
      );
      await stage.noticed('policy/signature', /./, () => stage.etcd.put({ [keys.policy]: value(policy) }), '');
      await stage.etcd.put({ [keys.policy]: undefined });
    }));
});

describe('what the attacked cluster wrote itself', () => {
  const own = async () => {
    const { entries } = await stage.root.list(keys.memberPrefix('west'));
    return new Map(entries.map((entry) => [entry.key, entry.value]));
  };

  it.each([
    ['its manifest is garbage', async () => ({ [keys.manifest('west')]: Buffer.from('garbage') })],
    [
      'its manifest is east’s',
      async () => ({ [keys.manifest('west')]: (await stage.root.list(keys.manifest('east'))).entries[0]!.value }),
    ],
    ['all of it is deleted', async () => Object.fromEntries([...(await own()).keys()].map((key) => [key, undefined]))],
    [
      'a state is planted for its other replica',
      async () => ({ [keys.verdicts('west')]: Buffer.from('x'), [keys.statePart('west', 3)]: Buffer.from('y') }),
    ],
    ['a service is planted', async () => ({ [keys.service('west', 'shop', 'planted')]: stage.good.get(checkoutKey) })],
  ])('is put right: %s', (_what, attack) =>
    untouched(async () => {
      const before = await own();
      const terms = stage.replica.lines.filter((l) => l.msg === 'writing begins').length;
      await stage.etcd.strike(await attack());
      await eventually('it is put right', async () => {
        const now = await own();
        const same = (key: string) =>
          key.endsWith('/manifest') ||
          key.includes('/verdicts') ||
          Buffer.compare(now.get(key) ?? Buffer.alloc(0), before.get(key)!) === 0;
        return (
          [...before.keys()].every((key) => now.has(key) && same(key)) &&
          [...now.keys()].every((key) => before.has(key) || key.includes('/verdicts'))
        );
      });
      await stage.replica.until('it reads back', (s) => s.writer && (s.store.readBackSeconds ?? 99) < 5);
      expect(stage.replica.lines.filter((l) => l.msg === 'fenced by another writer')).toEqual([]);
      expect(stage.replica.lines.filter((l) => l.msg === 'writing begins').length).toBeGreaterThanOrEqual(terms);
    }),
  );
});

describe('an etcd that stops answering', () => {
  it('darkens nobody: peers are not silent, and what was served is served', () =>
    untouched(async () => {
      const [process] = stage.harness.etcd.members;
      process!.pause();
      try {
        const seen = await stage.replica.until('the store is dark', (s) => (s.store.readBackSeconds ?? 0) > 6);
        expect(eastOf(seen)?.control.state).not.toBe('silent');
        expect(seen.services.find((s) => s.service === 'shop/checkout')?.serving).toMatch(/east/);
      } finally {
        process!.resume();
      }
      await stage.replica.until('it is back', (s) => (s.store.readBackSeconds ?? 99) < 3);
    }));
});
