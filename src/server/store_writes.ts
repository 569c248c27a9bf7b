/**
 * The writes of members, one after the other for each member and none waiting for another's: judged (`writes/judge.ts`) by what was
 * read of the store, and written together with a note that every gateway compares.
 *
 * Everything is counted from one watch of the cluster set. That the count is exact, also with several gateways, is the note's doing: it
 * changes with every write of its member, so a write that was judged by an old count fails its comparison, and is judged again once
 * the watch has brought what was missing. A lock held by one gateway was passed over: it would have to be believed, and given up.
 */
import type { KeyObject } from 'node:crypto';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { CommitResult, Store, StoreEntry, StoreEvent, StoreTxn, StoreWatch } from '../core/store.ts';
import { type Keys, storeKeys } from '../records/keys.ts';
import { writeSignatureHolds } from '../records/write_signature.ts';
import { tokenOfUser } from '../trust/tokens.ts';
import { judge, type Verdict, type WriteQuota } from '../writes/judge.ts';
import { decodeNote, emptyNote, encodeNote, type Note } from '../writes/ledger.ts';
import { ownerOf } from '../writes/names.ts';
import { parseWrite } from '../writes/request.ts';
import { Roster } from '../writes/roster.ts';
import { type Filled, Usage } from '../writes/usage.ts';

export interface StoreWritesOptions {
  readonly clusterset: string;
  /** As the gateway's own user; `beyond`: operations above those of a publisher. */
  readonly store: Pick<Store, 'watch'> & { commit(txn: StoreTxn, beyond?: number): Promise<CommitResult> };
  /** The authority's Ed25519 public key. */
  readonly authorityKey: KeyObject;
  readonly quota: WriteQuota;
  readonly clock: Clock;
}

export interface Write {
  readonly member: string;
  /** A TxnRequest as it came. */
  readonly request: Uint8Array;
  readonly signature: Uint8Array;
  /** Whoever asked waits no longer. */
  readonly givenUp: () => boolean;
}

export interface Written {
  readonly ok: boolean;
  readonly revision: bigint;
  readonly clusterId: bigint;
  /** After a comparison that failed: the compared keys as they are. */
  readonly current: readonly StoreEntry[];
  /** For how long it was held back for its rate. */
  readonly heldMs: number;
}

interface Noted {
  readonly note: Note;
  readonly modRevision: bigint;
}

const guarding = /^(?:revocations\/[^/]+|joins\/[^/]+\/open)$/;
const seenWithinMs = 2_000;
const unknown: Noted = { note: emptyNote, modRevision: 0n };

export class StoreWrites {
  readonly #o: StoreWritesOptions;
  readonly #keys: Keys;
  readonly #watch: StoreWatch;
  readonly #roster: Roster;
  readonly #usage: Usage;
  readonly #manifests = new Map<string, Uint8Array>();
  readonly #notes = new Map<string, Noted>();
  /** Marks of revocation and open tokens, by key. */
  readonly #guards = new Map<string, bigint>();
  /** Of certificates that gateways issued: by member and key, until when. */
  readonly #issued = new Map<string, Map<string, number>>();
  readonly #queues = new Map<string, { tail: Promise<unknown>; waiting: number }>();
  readonly #awaiting = new Set<{ readonly revision: bigint; done(): void }>();
  #known = false;
  #up = false;
  #reason = 'not read yet';
  #revision = 0n;
  #clusterId = 0n;

  constructor(options: StoreWritesOptions) {
    this.#o = options;
    this.#keys = storeKeys(options.clusterset);
    this.#roster = new Roster(options);
    this.#usage = new Usage(options.clusterset);
    this.#watch = options.store.watch(this.#keys.root, {
      snapshot: (snapshot) => {
        this.#clusterId = snapshot.clusterId;
        this.#replace(snapshot.entries);
        this.#known = true;
        this.#seen(snapshot.revision);
      },
      events: (events, revision) => {
        for (const event of events) this.#apply(event);
        this.#seen(revision);
      },
      connected: (up, reason) => {
        this.#up = up;
        this.#reason = reason;
      },
    });
  }

  /** Why nothing can be written; empty: it can. */
  get dark(): string {
    return this.#known && this.#up ? '' : this.#reason || 'not read yet';
  }
  get clusterId(): bigint {
    return this.#clusterId;
  }
  get revision(): bigint {
    return this.#revision;
  }
  /** Of those who fill anything. */
  filled(): ReadonlyMap<string, Filled> {
    return new Map([...this.#usage.members].map((member) => [member, this.#usage.of(member)]));
  }

  /** Whether this member may write at all. @throws IsthmusError member/…, store/unavailable */
  admit(member: string): readonly KeyObject[] {
    if (this.dark !== '') throw darkError(this.dark);
    const keys = this.#roster.writer(member, this.#o.clock.wallMs());
    if (!keys.ok) throw keys.error;
    return keys.value;
  }

  /** Writes, or says why not. @throws IsthmusError store/…, manifest/…, member/…, record/too-large */
  async write(write: Write): Promise<Written> {
    this.proven(write);
    const txn = parseWrite(write.request);
    if (!txn.ok) throw txn.error;
    return this.#inTurn(write.member, () => this.#settle(write, txn.value));
  }

  /** Whether the request is the member's own. @throws IsthmusError store/signature, member/… */
  proven({ member, request, signature }: Omit<Write, 'givenUp'>): void {
    if (!writeSignatureHolds(request, signature, this.admit(member))) throw signatureError(member, signature.length);
  }

  /** Notes a certificate before it is given to a member. @throws IsthmusError member/revoked, store/… */
  async issued(member: string, serial: string, notAfterMs: number): Promise<void> {
    this.admit(member);
    const key = `${this.#keys.issuedPrefix(member)}${serial}`;
    const value = Buffer.from(JSON.stringify({ notAfterMs }));
    const nowMs = this.#o.clock.wallMs();
    const known = [...(this.#issued.get(member) ?? [])];
    const ended = known.filter(([, untilMs]) => untilMs < nowMs).map(([one]) => one);
    if (known.length - ended.length >= limits.issuedLiveMax) throw tooManyIssued(member);
    const deletes = ended.slice(0, limits.txnOpsMax - 2);
    const done = await this.#o.store.commit({ compare: [this.#guardOf(member)], puts: [{ key, value }], deletes });
    if (!done.ok) throw new IsthmusError('member/revoked', `${member} was put out: it gets no certificate`);
  }

  close(): void {
    this.#watch.close();
    for (const waiting of this.#awaiting) waiting.done();
  }

  async #inTurn<T>(member: string, run: () => Promise<T>): Promise<T> {
    const queue = this.#queues.get(member) ?? { tail: Promise.resolve(), waiting: 0 };
    // With many certificates one member could have many places: what waits is bounded for the member.
    if (queue.waiting >= limits.writesQueuedMax) throw heldError(member);
    this.#queues.set(member, queue);
    queue.waiting++;
    const turn = queue.tail.then(run);
    queue.tail = turn.catch(() => {});
    try {
      return await turn;
    } finally {
      queue.waiting--;
      if (queue.waiting === 0) this.#queues.delete(member);
    }
  }

  async #settle({ member, givenUp }: Write, txn: StoreTxn): Promise<Written> {
    let heldMs = 0;
    for (let attempt = 1; attempt <= limits.writeAttemptsMax; attempt++) {
      if (givenUp()) throw new IsthmusError('store/unavailable', `${member} waits no longer for this write`);
      const verdict = this.#judge(member, txn);
      if (verdict.waitMs > 0) {
        if (heldMs + verdict.waitMs > limits.writeWaitMaxMs) throw heldError(member);
        heldMs += verdict.waitMs;
        await this.#pause(verdict.waitMs);
        continue;
      }
      const done = await this.#commit(member, txn, verdict);
      if (done !== undefined) return { ...done, heldMs };
    }
    throw new IsthmusError('store/conflict', `${member} writes by several gateways at once: this one lost too often`, {
      hint: 'it is tried again',
      subject: { member },
    });
  }

  #judge(member: string, txn: StoreTxn): Verdict {
    const { clusterset, quota, clock } = this.#o;
    const recordKeys = this.admit(member);
    const verdict = judge(txn, {
      ...{ clusterset, member, recordKeys, quota },
      isMember: (name) => this.#roster.isMember(name),
      usage: this.#usage,
      manifest: this.#manifests.get(member),
      note: this.#noted(member).note,
      wallMs: clock.wallMs(),
    });
    if (!verdict.ok) throw verdict.error;
    return verdict.value;
  }

  /** @returns undefined: another gateway wrote meanwhile, and what it wrote is known now */
  async #commit(member: string, txn: StoreTxn, { note }: Verdict): Promise<Omit<Written, 'heldMs'> | undefined> {
    const key = this.#keys.writeNote(member);
    const { modRevision } = this.#noted(member);
    const guard = this.#guardOf(member);
    const noted: StoreTxn = {
      compare: [...txn.compare, { key, modRevision }, guard],
      puts: [...txn.puts, { key, value: encodeNote(note) }],
      deletes: txn.deletes,
    };
    const result = await this.#o.store.commit(noted, 2);
    if (result.ok) {
      await this.#until(result.revision);
      return { ok: true, revision: result.revision, clusterId: result.clusterId, current: [] };
    }
    const revisionOf = (of: string): bigint => result.current.find((entry) => entry.key === of)?.modRevision ?? 0n;
    const [theirs, guarded] = [revisionOf(key), revisionOf(guard.key)];
    if (theirs === modRevision && guarded === guard.modRevision) {
      const current = result.current.filter((entry) => entry.key !== key && entry.key !== guard.key);
      return { ok: false, revision: result.revision, clusterId: this.#clusterId, current };
    }
    // Of what this gateway has not seen yet, the newer.
    const changed = [theirs, guarded].reduce((newest, one) => (one > newest ? one : newest), 0n);
    // Gone: its deletion has no revision that could be waited for.
    if (changed <= this.#revision) await this.#pause(50);
    else await this.#until(changed);
    return undefined;
  }

  /** What says that a member, or the holder of a token, may write: compared too, so that nothing gets in after it has changed. */
  #guardOf(member: string): { readonly key: string; readonly modRevision: bigint } {
    const token = tokenOfUser(member);
    const key = token === undefined ? this.#keys.revocation(member) : this.#keys.joinOpen(token);
    return { key, modRevision: this.#guards.get(key) ?? 0n };
  }

  #noted(member: string): Noted {
    return this.#notes.get(member) ?? unknown;
  }

  #replace(entries: readonly StoreEntry[]): void {
    this.#usage.replace(entries);
    this.#manifests.clear();
    this.#notes.clear();
    this.#guards.clear();
    this.#issued.clear();
    this.#roster.replace(entries, this.#o.clock.wallMs());
    for (const { key, value, modRevision } of entries) this.#keep(key, value, modRevision);
  }

  #apply(event: StoreEvent): void {
    this.#usage.apply(event);
    this.#roster.apply(event, this.#o.clock.wallMs());
    this.#keep(event.key, event.type === 'put' ? event.value : undefined, event.modRevision);
  }

  #keep(key: string, value: Uint8Array | undefined, modRevision: bigint): void {
    const { writeNotesPrefix, setPrefix, allIssuedPrefix } = this.#keys;
    if (key.startsWith(allIssuedPrefix)) {
      this.#keepIssued(key, key.slice(allIssuedPrefix.length), value);
      return;
    }
    if (key.startsWith(setPrefix)) {
      if (!guarding.test(key.slice(setPrefix.length))) return;
      if (value === undefined) this.#guards.delete(key);
      else this.#guards.set(key, modRevision);
      return;
    }
    if (key.startsWith(writeNotesPrefix)) {
      const member = key.slice(writeNotesPrefix.length);
      if (value === undefined) this.#notes.delete(member);
      else this.#notes.set(member, { note: decodeNote(value) ?? emptyNote, modRevision });
      return;
    }
    const owned = ownerOf(this.#o.clusterset, key);
    if (owned === undefined || owned.name.reader !== undefined || owned.name.rest !== 'manifest') return;
    if (value === undefined || value.length > limits.recordBytesMax) this.#manifests.delete(owned.member);
    else this.#manifests.set(owned.member, value);
  }

  #keepIssued(key: string, place: string, value: Uint8Array | undefined): void {
    const member = place.slice(0, Math.max(0, place.indexOf('/')));
    const issued = this.#issued.get(member) ?? new Map<string, number>();
    this.#issued.set(member, issued);
    if (value === undefined) issued.delete(key);
    else issued.set(key, untilOf(value));
    if (issued.size === 0) this.#issued.delete(member);
  }

  #seen(revision: bigint): void {
    this.#revision = revision;
    for (const waiting of this.#awaiting) if (waiting.revision <= revision) waiting.done();
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#o.clock.after(ms, () => resolve()));
  }

  /** Until the watch has brought a revision. After a while it goes on without: the next comparison finds out. */
  #until(revision: bigint): Promise<void> {
    if (this.#revision >= revision) return Promise.resolve();
    return new Promise((resolve) => {
      const waiting = {
        revision,
        done: () => {
          timer.cancel();
          this.#awaiting.delete(waiting);
          resolve();
        },
      };
      const timer = this.#o.clock.after(seenWithinMs, () => waiting.done());
      this.#awaiting.add(waiting);
    });
  }
}

const darkError = (reason: string): IsthmusError =>
  new IsthmusError('store/unavailable', `the store gateway cannot reach its etcd: ${reason}`, {
    hint: 'see its log; traffic keeps its last good state meanwhile',
  });

const signatureError = (member: string, bytes: number): IsthmusError =>
  new IsthmusError(
    'store/signature',
    bytes === 0
      ? `the write of ${member} has no signature`
      : `the write of ${member} is not signed by its record key, as the authority and the keys that follow name it`,
    { hint: 'compare the record key in the membership with the one the controller signs with', subject: { member } },
  );

/** What cannot be read is kept: whoever was given it may have it still. */
const untilOf = (value: Uint8Array): number => {
  try {
    const { notAfterMs } = JSON.parse(Buffer.from(value).toString('utf8')) as { notAfterMs?: unknown };
    return typeof notAfterMs === 'number' ? notAfterMs : Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
};

const tooManyIssued = (member: string): IsthmusError =>
  new IsthmusError(
    'csr/rate',
    `${member} has ${limits.issuedLiveMax} client certificates for etcd that have not ended`,
    {
      hint: 'a member needs two; if it did not ask for these, somebody has its keys: isthmus revoke',
      subject: { member },
    },
  );

const heldError = (member: string): IsthmusError =>
  new IsthmusError('store/rate', `${member} writes faster than the store gateway lets it`, {
    hint: 'it is taken when there is room again; see the quota of the store gateway',
    subject: { member },
  });
