/**
 * All members of the cluster set, as far as their own manifests and the authority's memberships carry.
 *
 * It is fed what a watch of the store says, in whatever pieces, and answers with what changed: services by key, members by
 * name. It never asks the store for anything, so the same code runs in the simulation, and one store for all or a store for
 * each member make no difference: a snapshot says which prefix it is of.
 */
import type { KeyObject } from 'node:crypto';
import { IsthmusError, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { StoreEvent, StoreSnapshot } from '../core/store.ts';
import { storeKeys } from '../records/keys.ts';
import { AddressRanges } from '../trust/addresses.ts';
import { relativeEntries, sortEvents, sortListed } from './arrivals.ts';
import { type Changes, type FederationChange, newChanges } from './change.ts';
import type { Times } from './head.ts';
import { MemberLog, type MemberLogOptions } from './member.ts';
import { Memberships } from './memberships.ts';
import type { Quota, SeenChange } from './noise.ts';
import { type Place, placesOf } from './places.ts';
import type { SignedMark } from './revocation_text.ts';
import type { Revocations } from './revocations.ts';
import { readSaved, savedHeader, saveMember } from './saved.ts';
import { SetPolicyLog } from './set_policy.ts';
import type { ManifestHead, MemberView } from './view.ts';

export type { FederationChange } from './change.ts';

export interface FederationOptions {
  readonly clusterset: string;
  /** Our own member name. */
  readonly self: string;
  /** The mesh's trust domain: one for the cluster set. */
  readonly trustDomain: string;
  /** The authority's Ed25519 public key. */
  readonly authorityKey: KeyObject;
  /** CIDRs of this cluster (pods, services, nodes) besides the ranges of our own membership: no peer may name an address in them. */
  readonly ownRanges?: readonly string[];
  /** Of each other member; undefined: none. */
  readonly quota?: Quota | undefined;
  /** Default `isthmus-system/isthmus-gateway`. */
  readonly gatewayAccount?: string;
}

/** What was listed of one member: for everybody, and for us alone. */
export interface Relisted {
  readonly everybodys: StoreSnapshot;
  readonly ours: StoreSnapshot;
}

/** In the saved state the cluster set's policy, and each revocation and each member's newest keys stand where a member would, under names that none can have. */
const policyName = '';
const revocationPrefix = '!';
const keysPrefix = '~';
const nobody: ReadonlySet<string> = new Set();
const noLog = { admitted: undefined, seen: undefined, freshAtMs: undefined, records: [] };

export class Federation {
  readonly #options: FederationOptions;
  #memberships: Memberships;
  #policy: SetPolicyLog;
  readonly #logs = new Map<string, MemberLog>();
  readonly #views = new Map<string, MemberView>();
  readonly #placeOf: (key: string) => Place;
  readonly #membersPrefix: string;
  readonly #publicPrefix: string;
  readonly #ourPrefix: string;
  readonly #policyKey: string;
  readonly #root: string;
  #ownRanges: AddressRanges;
  #wallMs = 0;
  /** There are marks that nobody was told of yet. */
  #marked = false;

  /** Throws `trust/invalid` when `ownRanges` are none. */
  constructor(options: FederationOptions) {
    const keys = storeKeys(options.clusterset);
    this.#options = options;
    this.#root = keys.root;
    this.#placeOf = placesOf(options.clusterset, options.self);
    this.#membersPrefix = keys.membersPrefix;
    this.#publicPrefix = keys.publicPrefix;
    this.#ourPrefix = keys.readerPrefix(options.self);
    this.#policyKey = keys.policy;
    this.#policy = new SetPolicyLog(options);
    this.#memberships = new Memberships(options);
    this.#ownRanges = this.#compileOwnRanges();
  }

  /** Members in force, our own among them, by name. The map is live; a view is replaced when anything of it changes. */
  get members(): ReadonlyMap<string, MemberView> {
    return this.#views;
  }

  /** The spec of the cluster set's default FailoverPolicy, not yet parsed; undefined: the authority gave none. */
  get policySpec(): Readonly<Record<string, unknown>> | undefined {
    return this.#policy.spec;
  }

  /** Problems that belong to no member in force: memberships refused or ended, the policy, records of unknown members. Bounded. */
  get problems(): readonly IsthmusError[] {
    const problems = this.#memberships.problems(this.#wallMs);
    if (this.#policy.problem !== undefined) problems.unshift(this.#policy.problem);
    for (const name of this.#logs.keys()) {
      if (this.#memberships.member(name) !== undefined) continue;
      const message = `the store holds records of ${name}, of whom the authority says nothing: they are ignored`;
      problems.push(new IsthmusError('member/unknown', message, { subject: { member: name } }));
    }
    return problems.slice(0, limits.membersMax);
  }

  /** Whether the authority put this member out: nothing of it is used, whatever the store brings back. */
  revoked(member: string): boolean {
    return this.#memberships.revoked(member);
  }
  get revocations(): Revocations {
    return this.#memberships.revocations;
  }
  /** Marks from elsewhere than the store. @param refused - told of each that is none */
  learnRevocations(
    marks: readonly SignedMark[],
    times: Times,
    refused: (error: IsthmusError) => void = () => {},
  ): FederationChange {
    const out: string[] = [];
    for (const [name, bytes] of marks) {
      const learnt = this.revocations.learn(name, bytes);
      if (typeof learnt === 'object') refused(learnt);
      else if (learnt === true) this.#close(name, out);
    }
    this.#enforce(out, times);
    return this.#settle(new Set(out), times);
  }

  /** Public keys that may sign a member's manifests now. */
  keysOf(member: string): readonly KeyObject[] {
    return this.#logs.get(member)?.signers ?? [];
  }

  /** The newest manifest head seen of a member, admitted or not. */
  seen(member: string): ManifestHead | undefined {
    return this.#logs.get(member)?.seen;
  }

  /**
   * @param prefix - what the snapshot is of; it says nothing about keys elsewhere. Default: the whole cluster set.
   * @param apart - members whose records stand in another store: of those it says nothing
   */
  snapshot(
    snapshot: StoreSnapshot,
    times: Times,
    prefix: string = this.#root,
    apart: ReadonlySet<string> = nobody,
  ): FederationChange {
    this.#wallMs = times.wallMs;
    const known = { records: new Map(), forUs: new Map() };
    for (const [name] of this.#logs) {
      if (apart.has(name)) continue;
      if (`${this.#publicPrefix}${name}/`.startsWith(prefix)) known.records.set(name, new Map());
      if (`${this.#ourPrefix}${name}/`.startsWith(prefix)) known.forUs.set(name, new Map());
    }
    const listed = sortListed(snapshot, this.#placeOf, prefix, known, apart);
    const { memberships, revocations, policy, records, forUs } = listed;
    if (this.#policyKey.startsWith(prefix)) this.#policy.set(policy);
    const revoked = this.#revoke(revocations, times);
    const changed = this.#membersPrefix.startsWith(prefix)
      ? this.#memberships.replace(memberships, times.wallMs)
      : this.#memberships.update(memberships, times.wallMs);
    this.#enforce(changed, times);
    for (const [name, entries] of records) {
      if (entries.size === 0 && this.#memberships.member(name) === undefined) this.#logs.delete(name);
      else if (!this.revoked(name) && !this.#frozen(name)) this.#log(name)?.replace(entries, times.nowMs);
    }
    for (const [name, entries] of forUs) {
      const log = entries.size === 0 ? this.#logs.get(name) : this.revoked(name) ? undefined : this.#log(name);
      if (!this.#frozen(name)) log?.replacePart(entries, times.nowMs);
    }
    return this.#settle(new Set([...revoked, ...changed, ...records.keys(), ...forUs.keys()]), times);
  }

  /** Whole revisions, in order. @param apart - as for `snapshot` */
  events(events: readonly StoreEvent[], times: Times, apart: ReadonlySet<string> = nobody): FederationChange {
    this.#wallMs = times.wallMs;
    const sorted = sortEvents(events, this.#placeOf, apart);
    const { memberships, revocations, policies, batches, forUs } = sorted;
    for (const policy of policies) this.#policy.set(policy);
    const revoked = this.#revoke(revocations, times);
    const changed = this.#memberships.update(memberships, times.wallMs);
    this.#enforce(changed, times);
    for (const [name, { changes, manifestAt }] of batches) {
      if (this.revoked(name)) continue;
      const log = this.#log(name);
      if (log === undefined || log.noise?.refuses(changes, false, times.nowMs)) continue;
      const beyond = manifestAt === undefined ? 0 : changes.findIndex(({ revision }) => revision > manifestAt);
      log.apply(changes, beyond < 0 ? changes.length : beyond, times.nowMs);
    }
    for (const [name, changes] of forUs) {
      const log = this.revoked(name) ? undefined : this.#log(name);
      if (log?.noise?.refuses(changes, true, times.nowMs) !== true) log?.applyPart(changes, times.nowMs);
    }
    return this.#settle(new Set([...revoked, ...changed, ...batches.keys(), ...forUs.keys()]), times);
  }

  /** Members that were frozen for their noise and have calmed down: list their records, and say `relisted`. */
  wanted(times: Times): string[] {
    return [...this.#logs.values()].filter(({ noise }) => noise?.wanted(times.nowMs)).map(({ name }) => name);
  }
  /** @param found - what it publishes for all, and for us alone; undefined: that could not be listed */
  relisted(name: string, found: Relisted | undefined, times: Times): FederationChange {
    const log = this.#logs.get(name);
    const held = log?.noise?.listed(found !== undefined);
    if (log === undefined || held === undefined || found === undefined) return this.#settle(new Set(), times);
    const { everybodys, ours } = found;
    const later = (changes: readonly SeenChange[], { revision }: StoreSnapshot) =>
      changes.filter((c) => c.revision > revision);
    const rest = later(held.everybodys, everybodys);
    log.replace(relativeEntries(everybodys, this.#placeOf), times.nowMs);
    log.apply(rest, rest.length, times.nowMs);
    log.replacePart(relativeEntries(ours, this.#placeOf), times.nowMs);
    log.applyPart(later(held.ours, ours), times.nowMs);
    return this.#settle(new Set([name]), times);
  }

  /** To be called about once a second: memberships start and end, standing problems age. */
  tick(times: Times): FederationChange {
    this.#wallMs = times.wallMs;
    const changed = this.#memberships.retry(times.wallMs);
    this.#enforce(changed, times);
    for (const log of this.#logs.values()) log.tick(times.nowMs);
    return this.#settle(new Set(this.#logs.keys()), times);
  }

  /** The last good state, in pieces that belong after each other. Nothing may change in between. */
  *save(times: Times): Generator<Buffer> {
    yield savedHeader(times.wallMs);
    if (this.#policy.bytes !== undefined) {
      yield saveMember({ name: policyName, membership: this.#policy.bytes, log: noLog }, times.nowMs);
    }
    // Before the members: who was put out must not be let in while the rest is read.
    for (const [name, bytes] of this.#memberships.revocations.signed()) {
      yield saveMember({ name: revocationPrefix + name, membership: bytes, log: noLog }, times.nowMs);
    }
    for (const [name, log] of this.#logs) {
      const membership = this.#memberships.bytes(name);
      if (membership === undefined) continue;
      // Before the member: its manifests may be by these keys.
      if (log.keys !== undefined)
        yield saveMember({ name: keysPrefix + name, membership: log.keys, log: noLog }, times.nowMs);
      yield saveMember({ name, membership, log: log.save() }, times.nowMs);
    }
  }

  /**
   * Into a new Federation, before anything of the store. What the store says afterwards is compared with it.
   * Errors: `state/corrupt`; the Federation is then as new.
   */
  restore(bytes: Uint8Array, times: Times): Result<FederationChange> {
    if (this.#logs.size > 0) throw new Error('restore: this federation has state already');
    const names: string[] = [];
    const keys = new Map<string, Uint8Array>();
    this.#wallMs = times.wallMs;
    try {
      for (const { name, membership, log } of readSaved(bytes, times.nowMs, times.wallMs)) {
        if (name === policyName) {
          this.#policy.set(membership);
          continue;
        }
        if (name.startsWith(revocationPrefix)) {
          this.revocations.learn(name.slice(revocationPrefix.length), membership);
          continue;
        }
        if (name.startsWith(keysPrefix)) {
          keys.set(name.slice(keysPrefix.length), membership);
          continue;
        }
        // Signed by another authority: the authority was replaced, so its members are to be learnt anew.
        if (!this.#memberships.restore(name, membership)) continue;
        if (this.#log(name)?.restore(log) !== true) {
          throw new IsthmusError(
            'state/corrupt',
            `saved federation state: the records of ${name} do not match its manifest`,
          );
        }
        this.#logs.get(name)?.offerKeys(keys.get(name));
        names.push(name);
      }
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      this.#logs.clear();
      // Marks are signed one by one, so those that were read hold whatever became of the rest.
      const marks = this.revocations.signed();
      this.#memberships = new Memberships(this.#options);
      for (const [name, mark] of marks) this.revocations.learn(name, mark);
      this.#policy = new SetPolicyLog(this.#options);
      return { ok: false, error };
    }
    this.#enforce(names, times);
    return { ok: true, value: this.#settle(new Set(names), times) };
  }

  #frozen(name: string): boolean {
    return this.#logs.get(name)?.noise?.frozen === true;
  }

  /** Records of members that the authority has not named are staged, for a few names: the membership may come a moment later. */
  #log(name: string): MemberLog | undefined {
    const known = this.#logs.get(name);
    if (known !== undefined) return known;
    if (this.#memberships.member(name) === undefined) {
      let unknown = 0;
      for (const other of this.#logs.keys()) if (this.#memberships.member(other) === undefined) unknown++;
      if (unknown >= limits.unknownMembersMax) return undefined;
    }
    const log = new MemberLog(name, this.#logOptions(name));
    this.#logs.set(name, log);
    return log;
  }

  #logOptions(name: string): MemberLogOptions {
    const { clusterset, trustDomain, gatewayAccount = 'isthmus-system/isthmus-gateway' } = this.#options;
    const { self, quota } = this.#options;
    const ownRanges = () => (name === self ? undefined : this.#ownRanges);
    return {
      ...{ clusterset, self, trustDomain, gatewayAccount, ownRanges, wallMs: () => this.#wallMs },
      quota: name === self ? undefined : quota,
    };
  }

  /** @returns the names that are out now: what was kept of them is dropped */
  #revoke(marks: readonly (readonly [string, Uint8Array | undefined])[], times: Times): string[] {
    const out: string[] = [];
    for (const [name, bytes] of marks) {
      if (bytes === undefined) this.#memberships.revocations.gone(name);
      else if (this.#memberships.revocations.add(name, bytes)) this.#close(name, out);
    }
    this.#enforce(out, times);
    return out;
  }

  #close(name: string, out: string[]): void {
    this.#marked = true;
    if (this.revoked(name)) out.push(name);
  }

  #compileOwnRanges(): AddressRanges {
    const own = this.#memberships.member(this.#options.self)?.addressRanges ?? [];
    const ranges = AddressRanges.parse([...(this.#options.ownRanges ?? []), ...own]);
    if (!ranges.ok) throw ranges.error;
    return ranges.value;
  }

  #enforce(names: readonly string[], times: Times): void {
    const all = names.includes(this.#options.self);
    if (all) this.#ownRanges = this.#compileOwnRanges();
    for (const name of names) this.#log(name);
    for (const log of this.#logs.values()) {
      if (!all && !names.includes(log.name)) continue;
      const open = this.#memberships.standing(log.name, times.wallMs) !== 'closed';
      log.setMember(open ? this.#memberships.member(log.name) : undefined, times.nowMs, all);
    }
  }

  /** Brings standing and views of the named members up to date, and says what changed. */
  #settle(names: ReadonlySet<string>, times: Times): FederationChange {
    this.#wallMs = times.wallMs;
    const changes: Changes = newChanges({ policy: this.#policy.take(), revocations: this.#marked });
    this.#marked = false;
    for (const name of names) {
      const log = this.#logs.get(name);
      if (log === undefined) continue;
      if (log.empty && this.#memberships.member(name) === undefined) {
        // Its place is for the next name of which nothing is known yet.
        this.#logs.delete(name);
        continue;
      }
      const standing = this.#memberships.standing(name, times.wallMs);
      const member = this.#memberships.member(name);
      if (member !== undefined && (standing === 'closed') !== (log.view === undefined)) {
        log.setMember(standing === 'closed' ? undefined : member, times.nowMs, false);
      }
      log.setAdmitting(standing === 'open', times.nowMs);
      const change = log.take();
      const services = name === this.#options.self ? changes.own : changes.services;
      for (const key of change.services) services.add(key);
      if (change.member) changes.members.add(name);
      if (change.topology) changes.topology.add(name);
      if (change.signals) changes.signals.add(name);
      if (change.head) changes.heads.add(name);
      const view = log.view;
      // Nothing of it is kept: should it be let in again, it comes with other keys.
      if (this.revoked(name)) this.#logs.delete(name);
      if (view === undefined) this.#views.delete(name);
      else this.#views.set(name, view);
    }
    return changes;
  }
}
