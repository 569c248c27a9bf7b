/**
 * One proxy's subscription to one type: the delta protocol as a pure machine. Requests and table revisions go in, pushes
 * come out; no sockets, no clock.
 *
 * Intuition: "the client holds the table as it was at revision `cursor`, as far as it is subscribed, except for the names
 * in `diverged`". A name diverges while it waits to be sent, or when the client refused it. So a client that is up to
 * date costs one number, and what waits is bounded by the number of resources, never by the number of changes: a name
 * that changes a hundred times while a slow client reads is sent once, as it is then.
 */
import { IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type Aliases, AliasNames } from './aliases.ts';
import { behaviourOf, type TypeBehaviour } from './behaviour.ts';
import type { DeltaRequest } from './decode.ts';
import { renamedFrame } from './encode.ts';
import { type Push, PushDraft, type PushItem, sharedPushes } from './push.ts';
import { attribute } from './refusal.ts';
import type { Resource } from './resource.ts';
import type { Delta, ResourceTable } from './table.ts';

export interface Rejected {
  readonly name: string;
  readonly version: string;
  readonly reason: string;
  readonly sinceMs: number;
}

/** What the client holds of a name where that is not what the table held at `cursor`. */
interface Divergence {
  held: string | undefined;
  /** To be sent (or removed), if it still differs then. */
  dirty: boolean;
  /** Asked for by name: answered even if nothing differs, or nothing exists. */
  asked: boolean;
  rejected: Rejected | undefined;
}

interface Unanswered {
  readonly items: readonly PushItem[];
  readonly systemVersion: string;
  /** Corrections of `before`, where an earlier response was refused after this one was sent. */
  before: Map<string, string | undefined> | undefined;
}

export interface TypeStatus {
  readonly typeUrl: string;
  readonly wildcard: boolean;
  /** Names subscribed one by one. */
  readonly names: number;
  /** `system_version_info` of the newest response sent and of the newest one acknowledged. */
  readonly sentVersion: string | undefined;
  readonly ackedVersion: string | undefined;
  /** True when all that was sent is answered and nothing waits. */
  readonly synced: boolean;
  readonly waiting: number;
  readonly rejected: readonly Rejected[];
}

export type Part = 'all' | 'upserts' | 'removals';
export type Answer =
  | { readonly kind: 'none' | 'ack' | 'unknown' }
  | { readonly kind: 'nack'; readonly failed: readonly Rejected[] };

export class TypeSubscription {
  readonly typeUrl: string;
  readonly behaviour: TypeBehaviour;
  readonly #table: ResourceTable;
  readonly #names = new Set<string>();
  readonly #aliases: AliasNames | undefined;
  readonly #diverged = new Map<string, Divergence>();
  readonly #unanswered = new Map<string, Unanswered>();
  /** Pushes made once for all streams that this one has still to send. */
  #shared: Push[] = [];
  /** Groups of names that have to be sent apart, to find out which one is refused. */
  #apart: (readonly string[])[] = [];
  #wildcard = false;
  #started = false;
  #answerDue = false;
  #cursor = 0;
  #sequence = 0;
  #sentVersion: string | undefined;
  #ackedVersion: string | undefined;
  /** Set when the table's log no longer reaches back to what the client holds: only a reconnect helps. */
  overrun = false;

  constructor(typeUrl: string, table: ResourceTable, aliases?: Aliases) {
    this.typeUrl = typeUrl;
    this.behaviour = behaviourOf(typeUrl);
    this.#table = table;
    this.#aliases = aliases && new AliasNames((name) => aliases(typeUrl, name));
  }

  get unanswered(): number {
    return this.#unanswered.size;
  }
  /** True while the client works with an older version of something because it refused the newer one. */
  get rejecting(): boolean {
    for (const entry of this.#diverged.values()) if (entry.rejected !== undefined) return true;
    return false;
  }

  request(request: DeltaRequest, nowMs: number): Result<Answer> {
    const names = this.#names.size + request.subscribe.length + request.initialVersions.size;
    if (names > limits.subscriptionsPerStreamMax) {
      return {
        ok: false,
        error: new IsthmusError(
          'xds/malformed',
          `${names} names of ${this.typeUrl} on one stream, at most ${limits.subscriptionsPerStreamMax}`,
        ),
      };
    }
    const answer = this.#started ? this.#answered(request, nowMs) : ({ kind: 'none' } as const);
    if (!this.#started) this.#start(request);
    else this.advance();
    this.#subscribe(request);
    this.#unsubscribe(request.unsubscribe);
    return ok(answer);
  }

  /** Takes note of what changed in the table. Cheap when nothing did. */
  advance(): void {
    if (!this.#started || this.#table.unchanged(this.typeUrl, this.#cursor)) return;
    const delta = this.#table.since(this.typeUrl, this.#cursor);
    this.#cursor = this.#table.revision;
    if (delta === undefined) {
      this.overrun = true;
      return;
    }
    if (this.#canShare(delta)) {
      this.#shared = [...sharedPushes(delta, this.typeUrl, this.#table.digest(this.typeUrl))];
      return;
    }
    this.#unshare();
    for (const name of this.#aliases?.refresh(this.#table, this.typeUrl) ?? []) {
      if (!this.#wildcard && !this.#names.has(name)) this.#ask(name, undefined, false);
    }
    for (const change of delta.removed) this.#changed(change.name, change.before);
    for (const change of delta.upserted) this.#changed(change.name, change.before);
    for (const { name, held } of this.#aliases?.stale(this.#table, this.typeUrl) ?? []) this.#changed(name, held);
  }

  /** The next response of this type, or undefined when the client has all it wants. Call it only when it can be written. */
  next(part: Part): Push | undefined {
    this.advance();
    if (this.#shared.length === 0 && this.#diverged.size === 0 && !this.#answerDue) return undefined;
    const push = (part === 'removals' ? undefined : this.#shared.shift()) ?? this.#collect(part);
    if (push === undefined) return undefined;
    this.#answerDue = false;
    this.#sentVersion = push.systemVersion;
    this.#unanswered.set(push.nonce, { items: push.items, systemVersion: push.systemVersion, before: undefined });
    if (this.#unanswered.size > limits.unansweredPerTypeMax) {
      this.#unanswered.delete(this.#unanswered.keys().next().value!);
    }
    return push;
  }

  /** Whether `next(part)` may have something. */
  waiting(part: Part): boolean {
    this.advance();
    if (part !== 'removals' && (this.#shared.length > 0 || this.#answerDue)) return true;
    for (const [name, entry] of this.#diverged) {
      if (!entry.dirty) continue;
      if (part === 'all' || (this.#current(name) === undefined) === (part === 'removals')) return true;
    }
    return false;
  }

  subscribed(name: string): boolean {
    return this.#wildcard || this.#names.has(name) || this.#aliases?.implied(name) === true;
  }

  status(): TypeStatus {
    const entries = [...this.#diverged.values()];
    const waiting = entries.filter((entry) => entry.dirty).length + this.#shared.length;
    return {
      typeUrl: this.typeUrl,
      wildcard: this.#wildcard,
      names: this.#names.size,
      sentVersion: this.#sentVersion,
      ackedVersion: this.#ackedVersion,
      synced:
        this.#started &&
        waiting === 0 &&
        this.#unanswered.size === 0 &&
        this.#table.unchanged(this.typeUrl, this.#cursor),
      waiting,
      rejected: entries.flatMap((entry) => (entry.rejected === undefined ? [] : [entry.rejected])),
    };
  }

  #start(request: DeltaRequest): void {
    this.#started = true;
    this.#answerDue = true;
    this.#cursor = this.#table.revision;
    const byDefault = request.subscribe.length === 0 && this.behaviour.wildcardByDefault;
    const everything = byDefault || (request.subscribe.includes('*') && !request.unsubscribe.includes('*'));
    for (const [name, version] of request.initialVersions) {
      if (!everything) this.#watch(name);
      const held = version === '' ? undefined : version;
      if (held !== this.#current(name)?.version || held === undefined)
        this.#ask(name, held, held === undefined && !everything);
    }
    if (everything) this.#watchAll(request.initialVersions);
  }

  #watchAll(known: ReadonlyMap<string, string>): void {
    if (known.size === 0 && this.#diverged.size === 0 && this.#names.size === 0) {
      this.#wildcard = true;
      this.#shared = [...sharedPushes(this.#table.whole(this.typeUrl), this.typeUrl, this.#table.digest(this.typeUrl))];
      if (this.#shared.some((push) => this.#unanswered.has(push.nonce))) this.#unshare();
      return;
    }
    for (const name of this.#table.names(this.typeUrl)) {
      if (!known.has(name) && !this.subscribed(name)) this.#ask(name, undefined, false);
    }
    this.#wildcard = true;
  }

  #subscribe(request: DeltaRequest): void {
    for (const name of request.subscribe) {
      if (name === '*') {
        if (!this.#wildcard && !request.unsubscribe.includes('*')) {
          this.#unshare();
          this.#watchAll(new Map());
          this.#answerDue = true;
        }
        continue;
      }
      this.#unshare();
      const claimed = request.initialVersions.get(name);
      const held = claimed ?? (this.subscribed(name) ? this.#held(name) : undefined);
      this.#watch(name);
      if (claimed === undefined || claimed === '') this.#ask(name, held === '' ? undefined : held, true);
    }
  }

  #unsubscribe(names: readonly string[]): void {
    for (const name of names) {
      if (name === '*') {
        if (this.#wildcard) this.#narrow();
      } else if (this.#names.delete(name)) {
        this.#unshare();
        this.#aliases?.drop(name);
        if (!this.subscribed(name)) this.#diverged.delete(name);
      }
    }
  }

  /** From everything to the names asked for one by one. */
  #narrow(): void {
    this.#unshare();
    this.#wildcard = false;
    for (const name of [...this.#diverged.keys()]) if (!this.subscribed(name)) this.#diverged.delete(name);
  }

  #watch(name: string): void {
    this.#unshare();
    this.#names.add(name);
    for (const implied of this.#aliases?.add(name, this.#table, this.typeUrl) ?? []) {
      if (!this.#wildcard && !this.#names.has(implied)) this.#ask(implied, undefined, false);
    }
  }

  #ask(name: string, held: string | undefined, asked: boolean): void {
    const entry = this.#diverged.get(name);
    if (entry === undefined) this.#diverged.set(name, { held, dirty: true, asked, rejected: undefined });
    else {
      entry.dirty = true;
      entry.asked ||= asked;
    }
  }

  #changed(name: string, before: string | undefined): void {
    if (!this.subscribed(name)) return;
    const entry = this.#diverged.get(name);
    if (entry === undefined) this.#diverged.set(name, { held: before, dirty: true, asked: false, rejected: undefined });
    else entry.dirty = true;
  }

  #held(name: string): string | undefined {
    const entry = this.#diverged.get(name);
    return entry === undefined ? this.#current(name)?.version : entry.held;
  }

  #current(name: string): Resource | undefined {
    return this.#table.get(this.typeUrl, name) ?? this.#aliases?.resolve(name, this.#table, this.typeUrl);
  }

  /** True when the delta is just what this client lacks, as it is for every client that is up to date. */
  #canShare(delta: Delta): boolean {
    if (!this.#wildcard || this.#names.size > 0 || this.#shared.length > 0 || this.#apart.length > 0) return false;
    if (this.behaviour.ordered && delta.removed.length > 0) return false;
    if (this.#diverged.size === 0) return true;
    for (const entry of this.#diverged.values()) if (entry.dirty) return false;
    const diverged = ({ name }: { readonly name: string }): boolean => this.#diverged.has(name);
    return !delta.removed.some(diverged) && !delta.upserted.some(diverged);
  }

  /** Turns pushes that were not sent yet into names that wait, so that they are sent as they are by then. */
  #unshare(): void {
    const pushes = this.#shared;
    this.#shared = [];
    for (const push of pushes) for (const item of push.items) this.#ask(item.name, item.before, false);
  }

  #collect(part: Part): Push | undefined {
    const draft = new PushDraft();
    if (part !== 'removals') {
      for (let group = this.#apart.shift(); group !== undefined && draft.empty; group = this.#apart.shift()) {
        for (const name of group) this.#take(draft, name, 'upserts');
        if (!draft.empty) return this.#finish(draft);
      }
    }
    const kinds = part === 'all' ? (['removals', 'upserts'] as const) : [part];
    for (const kind of kinds) {
      for (const name of [...this.#diverged.keys()]) if (!this.#take(draft, name, kind)) break;
    }
    if (draft.empty && !(this.#answerDue && part !== 'removals')) return undefined;
    return this.#finish(draft);
  }

  #finish(draft: PushDraft): Push {
    return draft.done(this.typeUrl, `own-${(this.#sequence++).toString(36)}`, this.#table.digest(this.typeUrl));
  }

  /** Adds a name if it is due, and forgets it when there is nothing left to say. False when the response is full. */
  #take(draft: PushDraft, name: string, part: 'upserts' | 'removals'): boolean {
    const entry = this.#diverged.get(name);
    if (entry === undefined || !entry.dirty) return true;
    const now = this.#current(name);
    if ((now === undefined) !== (part === 'removals')) return true;
    if (!this.subscribed(name)) this.#diverged.delete(name);
    else if (now?.version === entry.held && !entry.asked) this.#settled(name, now?.version);
    else if (now === undefined) {
      if (!draft.fits(name.length)) return false;
      draft.remove(name, entry.held);
      this.#settled(name, undefined);
    } else if (entry.rejected?.version === now.version && !entry.asked) {
      entry.dirty = false;
    } else {
      const frame = now.name === name ? now.frame : renamedFrame(now, name);
      if (!draft.fits(frame.length)) return false;
      draft.add(name, now, frame, entry.held);
      this.#settled(name, now.version);
    }
    return true;
  }

  #settled(name: string, version: string | undefined): void {
    this.#diverged.delete(name);
    this.#aliases?.sent(name, version);
  }

  #answered(request: DeltaRequest, nowMs: number): Answer {
    if (request.nonce === '') return { kind: 'none' };
    const sent = this.#unanswered.get(request.nonce);
    if (sent === undefined) return { kind: 'unknown' };
    this.#unanswered.delete(request.nonce);
    if (request.error === undefined) {
      this.#ackedVersion = sent.systemVersion;
      return { kind: 'ack' };
    }
    return { kind: 'nack', failed: this.#refused(sent, request.error, nowMs) };
  }

  #refused(sent: Unanswered, reason: string, nowMs: number): readonly Rejected[] {
    const { failed, retry } = attribute(sent.items, reason, this.behaviour.appliesEach);
    this.#unshare();
    const rejected = failed.map((item) => ({ name: item.name, version: item.version!, reason, sinceMs: nowMs }));
    for (const [i, item] of failed.entries()) this.#rollBack(item, sent, rejected[i]);
    for (const group of retry) {
      for (const item of group) this.#rollBack(item, sent, undefined);
      this.#apart.push(group.map((item) => item.name));
    }
    return rejected;
  }

  /** The client still holds what it held before this response. */
  #rollBack(item: PushItem, sent: Unanswered, rejected: Rejected | undefined): void {
    const held = sent.before?.has(item.name) === true ? sent.before.get(item.name) : item.before;
    for (const later of this.#unanswered.values()) {
      if (!later.items.some((other) => other.name === item.name)) continue;
      later.before ??= new Map();
      later.before.set(item.name, held);
      return;
    }
    const entry = this.#diverged.get(item.name);
    if (entry !== undefined) {
      entry.held = held;
      entry.rejected = rejected;
    } else if (this.subscribed(item.name)) {
      this.#diverged.set(item.name, { held, dirty: true, asked: false, rejected });
    }
  }
}
