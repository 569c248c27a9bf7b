/**
 * A member at a store gateway that has little room now and then, in random order: what its readers believe of it is never in doubt, it is
 * heard of, what it withdraws goes, and with room again all stands there.
 */
import { createPublicKey } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Rng } from '../../../src/core/clock.ts';
import type { Store } from '../../../src/core/store.ts';
import type { Federation } from '../../../src/federation/federation.ts';
import { codec } from '../../../src/records/codec.ts';
import { MerkleSet, valueHash } from '../../../src/records/merkle.ts';
import { Publisher } from '../../../src/store/publisher.ts';
import { judge, type WriteQuota } from '../../../src/writes/judge.ts';
import { emptyNote } from '../../../src/writes/ledger.ts';
import { Usage } from '../../../src/writes/usage.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';
import { SimEtcd, simStore } from '../../sim/store.ts';
import { federation, keys, membershipOf, serviceBytes } from '../federation/author.ts';
import { testMember } from '../trust/certificates.ts';

const member = 'us-west';
const identity = await testMember(member);
const prefix = keys.memberPrefix(member);
const readers = ['us-east', 'eu', 'asia'];
const seeds = Number(process.env['SEEDS'] ?? 8);
const first = Number(process.env['FIRST'] ?? 1);

const roomy: WriteQuota = {
  keys: 2_000,
  bytes: 2 ** 26,
  changes: { perSecond: 1_000, burst: 40_000 },
  written: { perSecond: 2 ** 18, burst: 2 ** 26 },
};

class World {
  readonly clock = new SimClock();
  readonly etcd = new SimEtcd();
  readonly rng: Rng;
  readonly views: { readonly self: string; readonly of: Federation }[] = [];
  readonly publishers: Publisher[] = [];
  readonly desired = new Map<string, Uint8Array>();
  readonly withdrawnAtMs = new Map<string, number>();
  readonly log: string[] = [];
  quota = roomy;
  commits = 0;
  /** Whom the lease names. */
  chosen = 0;
  refused = 0;
  heads = 0;
  #note = emptyNote;
  #turn: Promise<unknown> = Promise.resolve();
  readonly #open: Store[] = [];

  constructor(seed: number) {
    this.rng = seededRng(seed);
    const key = keys.member(member);
    const membership = membershipOf({ ...identity, member: { ...identity.member, notAfterMs: 2e12 } })[key]!;
    this.etcd.commit('root', { compare: [], puts: [{ key, value: membership }], deletes: [] });
    for (const [i, self] of readers.slice(0, 2).entries()) {
      const of = federation({ self });
      const times = () => ({ nowMs: this.clock.monotonicMs(), wallMs: this.clock.wallMs() });
      this.#store(90 + i).watch(keys.root, {
        snapshot: (snapshot) => void of.snapshot(snapshot, times()),
        events: (events) => void of.events(events, times()),
        connected: () => {},
      });
      this.views.push({ self, of });
    }
    for (let i = 0; i < 2; i++) {
      this.publishers.push(
        new Publisher({
          ...{ store: this.#gateway(this.#store(i)), clock: this.clock, clusterset: 'demo', member },
          recordKey: identity.recordKey,
          heartbeatMs: 1_000,
          epochFloor: () => 0n,
          journalHead: () =>
            this.heads === 0 ? undefined : { chain: 'a'.repeat(16), sequence: this.heads, hash: '0'.repeat(64) },
          onEvent: (event) => {
            if (event.kind === 'failed') this.log.push(`${this.clock.monotonicMs()} ${i} failed ${event.error.code}`);
            if (event.kind === 'fenced') this.clock.after(4_000, () => this.chosen === i && this.publishers[i]!.lead());
          },
        }),
      );
    }
  }

  int(below: number): number {
    return Math.floor(this.rng() * below);
  }
  pick<T>(list: readonly T[]): T {
    return list[this.int(list.length)]!;
  }

  #store(seed: number): Store {
    const made = simStore(this.etcd, { clock: this.clock, rng: seededRng(seed) });
    this.#open.push(made);
    return made;
  }

  #gateway(base: Store): Store {
    const commit: Store['commit'] = async (txn) => {
      this.commits++;
      for (;;) {
        const { entries } = this.etcd.snapshot('root', keys.root);
        const usage = new Usage('demo');
        usage.replace(entries);
        const verdict = judge(txn, {
          ...{ clusterset: 'demo', member, usage, note: this.#note, quota: this.quota, wallMs: this.clock.wallMs() },
          recordKeys: [createPublicKey(identity.recordKey)],
          isMember: () => true,
          manifest: entries.find(({ key }) => key === keys.manifest(member))?.value,
        });
        if (!verdict.ok) {
          this.refused++;
          throw verdict.error;
        }
        const { waitMs, note } = verdict.value;
        if (waitMs === 0) {
          const result = await base.commit(txn);
          if (result.ok) this.#note = note;
          this.#checkSalts();
          return result;
        }
        await new Promise<void>((resolve) => this.clock.after(waitMs, resolve));
      }
    };
    return {
      list: (under) => base.list(under),
      watch: (under, handler) => base.watch(under, handler),
      close: () => base.close(),
      commit: (txn) => {
        const turn = this.#turn.then(() => commit(txn));
        this.#turn = turn.catch(() => {});
        return turn;
      },
    };
  }

  /** A root that is told without a salt in it could be guessed at. */
  #checkSalts(): void {
    const told = codec.readers.decode(this.value('readers') ?? new Uint8Array());
    for (const { reader, root } of told.ok ? told.value.parts : []) {
      const under = keys.partPrefix(reader, member);
      const set = new MerkleSet();
      for (const { key, value } of this.etcd.snapshot('root', under).entries) {
        set.set(key.slice(under.length), valueHash(value));
      }
      if (set.root().equals(root) && set.get('salt') === undefined) this.log.push(`UNSALTED ${reader}`);
    }
  }

  publish(changes: ReadonlyMap<string, Uint8Array | undefined>): void {
    for (const [key, value] of changes) {
      if (value === undefined) {
        if (this.desired.delete(key)) this.withdrawnAtMs.set(key, this.clock.monotonicMs());
      } else {
        this.desired.set(key, value);
        this.withdrawnAtMs.delete(key);
      }
    }
    for (const publisher of this.publishers) publisher.publish(changes);
  }

  change(): string {
    const count = this.rng() < 0.1 ? 150 : 1 + this.int(4);
    const to = this.rng() < 0.4 ? `to/${this.pick(readers)}/` : '';
    const changes = new Map<string, Uint8Array | undefined>();
    for (let i = 0; i < count; i++) {
      const name = `s${this.int(count > 10 ? 200 : 8)}`;
      const label = 'x'.repeat(1 + this.int(40));
      const made = serviceBytes(name, { draining: this.rng() < 0.5, hostname: `${name}.shop.svc.${label}.local` });
      for (const [key, bytes] of Object.entries(made)) {
        changes.set(to + key, this.rng() < 0.45 ? undefined : bytes);
      }
    }
    this.publish(changes);
    return `change ${to} ${count}`;
  }

  withdrawAll(): string {
    this.publish(new Map([...this.desired.keys()].map((key) => [key, undefined])));
    return 'withdraw all';
  }

  squeeze(): string {
    const { entries } = this.etcd.snapshot('root', keys.memberPrefix(member));
    const usage = new Usage('demo');
    usage.replace(this.etcd.snapshot('root', keys.root).entries);
    const filled = usage.of(member);
    const kind = this.int(4);
    if (kind === 0) this.quota = { ...roomy, keys: Math.max(1, filled.keys + this.int(6) - 2) };
    else if (kind === 1) this.quota = { ...roomy, bytes: Math.max(600, filled.bytes + this.int(2_000) - 600) };
    else if (kind === 2) this.quota = { ...this.quota, changes: { perSecond: 10, burst: 130 + this.int(200) } };
    else this.quota = { ...this.quota, written: { perSecond: 3_000, burst: 70_000 } };
    return `squeeze ${kind} at ${entries.length} ${filled.keys} ${filled.bytes}`;
  }

  problems(): string[] {
    return this.views.flatMap(({ self, of }) =>
      (of.members.get(member)?.problems ?? []).map((error) => `${self}: ${error.code} ${error.message}`),
    );
  }
  tick(): void {
    for (const { of } of this.views) of.tick({ nowMs: this.clock.monotonicMs(), wallMs: this.clock.wallMs() });
  }
  ageMs(): number {
    return this.clock.monotonicMs() - (this.views[0]!.of.members.get(member)?.freshAtMs ?? Number.NaN);
  }
  value(key: string): Uint8Array | undefined {
    const [, reader, rest] = /^to\/([^/]+)\/(.+)$/.exec(key) ?? [];
    const full = reader === undefined ? prefix + key : keys.partPrefix(reader, member) + rest;
    return this.etcd.snapshot('root', full).entries.find((entry) => entry.key === full)?.value;
  }
  count(): number {
    return (
      this.etcd.snapshot('root', prefix).entries.length +
      readers.reduce(
        (sum, reader) => sum + this.etcd.snapshot('root', keys.partPrefix(reader, member)).entries.length,
        0,
      )
    );
  }

  async close(): Promise<void> {
    for (const publisher of this.publishers) publisher.close();
    for (const each of this.#open) await each.close();
  }
}

const same = (a: Uint8Array | undefined, b: Uint8Array | undefined) =>
  a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0;

const run = async (seed: number): Promise<void> => {
  const world = new World(seed);
  const { clock, log } = world;
  const say = (what: string) => log.push(`${clock.monotonicMs()} ${what}`);
  let fastUntilMs = 0;
  let leader = world.publishers[0]!;
  let calmSinceMs = 0;
  try {
    world.publish(new Map(Object.entries(serviceBytes('first'))));
    leader.lead();
    await clock.advance(500);
    for (let step = 0; step < 60; step++) {
      const dice = world.rng();
      if (dice < 0.6) say(world.change());
      else if (dice < 0.62) world.heads = world.heads * 3 + 1;
      else if (dice < 0.7) {
        say(world.squeeze());
      } else if (dice < 0.74) {
        world.quota = roomy;
        say('roomy');
      } else if (dice < 0.78) {
        say('lead');
        if (world.rng() < 0.7) leader.resign();
        world.chosen = world.int(2);
        leader = world.publishers[world.chosen]!;
        leader.lead();
        for (const each of world.publishers) if (each !== leader && world.rng() < 0.8) each.resign();
        calmSinceMs = clock.monotonicMs();
      } else if (dice < 0.82) {
        say('lost answer');
        world.etcd.loseNextAnswer = true;
        calmSinceMs = clock.monotonicMs();
      } else if (dice < 0.84) say(world.withdrawAll());
      const before = world.commits;
      const ms = world.pick([5, 50, 300, 1_000, 1_000, 3_000]);
      for (let left = ms; left > 0; left -= 1_000) {
        await clock.advance(Math.min(left, 1_000));
        world.tick();
        const problems = world.problems();
        if (problems.length > 0) throw new Error(`problems: ${problems.join('; ')}`);
        if (clock.monotonicMs() - calmSinceMs > 9_000 && !(world.ageMs() < 9_000))
          throw new Error(`age ${world.ageMs()}`);
        for (const publisher of world.publishers) {
          for (const key of world.desired.keys()) {
            if (publisher.stands(key) && publisher === leader && world.value(key) === undefined) {
              throw new Error(`stands ${key}`);
            }
          }
        }
        const fast = world.quota.changes.perSecond < 1_000 || world.quota.written.perSecond < 2 ** 18;
        if (fast) fastUntilMs = clock.monotonicMs() + 10_000;
        if (fastUntilMs < clock.monotonicMs() && clock.monotonicMs() - calmSinceMs > 8_000) {
          for (const [key, atMs] of world.withdrawnAtMs) {
            if (clock.monotonicMs() - atMs > 4_000 && world.value(key) !== undefined) throw new Error(`kept ${key}`);
          }
        }
      }
      if (world.commits - before > 60 + (ms / 1_000) * 80) throw new Error(`busy: ${world.commits - before} in ${ms}`);
      const unsalted = log.find((line) => line.startsWith('UNSALTED'));
      if (unsalted !== undefined) throw new Error(unsalted);
    }
    world.quota = roomy;
    say('end');
    for (const each of world.publishers) if (each !== leader) each.resign();
    leader.lead();
    await clock.advance(62_000);
    world.tick();
    expect(world.problems()).toEqual([]);
    for (const [key, bytes] of world.desired) if (!same(world.value(key), bytes)) throw new Error(`missing ${key}`);
    for (const key of world.withdrawnAtMs.keys()) if (world.value(key) !== undefined) throw new Error(`left ${key}`);
    const parts = readers.filter((reader) => [...world.desired.keys()].some((key) => key.startsWith(`to/${reader}/`)));
    const readersRecord = world.value('readers');
    if (parts.length > 0) {
      const decoded = codec.readers.decode(readersRecord!);
      if (!decoded.ok) throw decoded.error;
      expect(decoded.value.parts.map(({ reader }) => reader)).toEqual([...parts].sort());
    } else expect(readersRecord).toBeUndefined();
    expect(world.count()).toBe(world.desired.size + 1 + parts.length + (parts.length > 0 ? 1 : 0));
    // A heartbeat may be on its way.
    for (let i = 0; i < 20 && !leader.settled; i++) await clock.advance(5);
    expect([leader.heldBack, leader.settled, leader.lastError]).toEqual([0, true, undefined]);
    for (const each of world.publishers) if (each !== leader) expect(each.heldBack).toBe(0);
  } catch (error) {
    throw new Error(
      `seed ${seed} at ${clock.monotonicMs()}: ${(error as Error).message}\n${log.slice(-25).join('\n')}`,
    );
  } finally {
    await world.close();
  }
};

describe('at a gateway with little room, in any order', () => {
  for (let seed = first; seed < first + seeds; seed++) it(`holds, seed ${seed}`, () => run(seed), 60_000);
});
