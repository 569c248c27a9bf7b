/**
 * Who may write at all, and by which record keys: read from what the authority signed, and from the keys that follow each other since.
 *
 * The same machines judge here that readers use (`federation/memberships.ts`, `federation/succession.ts`), so that what gets in is what
 * is believed. But who is only in the grace after the end of a membership is believed for a while, and writes nothing new.
 */
import type { KeyObject } from 'node:crypto';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';
import type { StoreEntry, StoreEvent } from '../core/store.ts';
import { Memberships } from '../federation/memberships.ts';
import { Succession } from '../federation/succession.ts';
import { type Keys, storeKeys } from '../records/keys.ts';
import { publicKeyOf } from '../records/signed.ts';
import { validityText } from '../trust/membership.ts';
import { tokenOfUser } from '../trust/tokens.ts';

export interface RosterOptions {
  readonly clusterset: string;
  /** The authority's Ed25519 public key. */
  readonly authorityKey: KeyObject;
}

const openToken = /^joins\/([0-9a-f]{32})\/open$/;
const keysRecord = /^([^/]+)\/keys$/;

export class Roster {
  readonly #o: RosterOptions;
  readonly #keys: Keys;
  readonly #memberships: Memberships;
  readonly #successions = new Map<string, Succession>();
  /** Tokens that are open, and what their secrets sign with. */
  readonly #open = new Map<string, KeyObject>();

  constructor(options: RosterOptions) {
    this.#o = options;
    this.#keys = storeKeys(options.clusterset);
    this.#memberships = new Memberships(options);
  }

  /** Let in by the authority and not put out, whatever the date. */
  isMember(name: string): boolean {
    return this.#memberships.member(name) !== undefined && !this.#memberships.revoked(name);
  }

  /**
   * Those whose word counts for a member, the newest first; for the user of a token, the token's own. Errors: `member/unknown`,
   * `member/revoked`, `member/expired`, `token/used`.
   */
  writer(name: string, wallMs: number): Result<readonly KeyObject[]> {
    const token = tokenOfUser(name);
    if (token !== undefined) return this.#joiner(token);
    if (this.#memberships.member(name) === undefined) this.#follow(this.#memberships.retry(wallMs), wallMs);
    const subject = { member: name };
    const member = this.#memberships.member(name);
    if (this.#memberships.revoked(name)) {
      return fail('member/revoked', `${name} was put out of cluster set ${this.#o.clusterset}: it writes nothing`, {
        hint: 'a new token lets it in again: isthmus token create',
        subject,
      });
    }
    if (member === undefined) {
      return fail('member/unknown', `cluster set ${this.#o.clusterset} has no member "${name}"`, {
        hint: 'the common name of the certificate must be a member’s, and its membership must stand in the store',
        subject,
      });
    }
    if (this.#memberships.standing(name, wallMs) !== 'open') {
      const message = `${validityText(member, wallMs)}: it writes nothing`;
      return fail('member/expired', message, { hint: 'have the authority renew it, and check the clocks', subject });
    }
    const succession = this.#succession(name);
    succession.tick(wallMs);
    return ok(succession.keys);
  }

  /** All that stands in the store. What was put out stays out. */
  replace(entries: readonly StoreEntry[], wallMs: number): void {
    const found = new Map<string, Uint8Array>();
    const links = new Map<string, Uint8Array>();
    for (const { key, value } of entries) this.#sort(key, value, found, links);
    this.#open.clear();
    for (const { key, value } of entries) this.#invite(key, value);
    const changed = this.#memberships.replace(found, wallMs);
    this.#follow(changed, wallMs);
    for (const [name, value] of links) this.#succession(name).offer(value, wallMs);
  }

  apply(event: StoreEvent, wallMs: number): void {
    this.#invite(event.key, event.type === 'put' ? event.value : undefined);
    // Deleting a membership, a mark or a link takes none of them back.
    if (event.type === 'delete') return;
    const found = new Map<string, Uint8Array>();
    const links = new Map<string, Uint8Array>();
    this.#sort(event.key, event.value, found, links);
    this.#follow(this.#memberships.update(found, wallMs), wallMs);
    for (const [name, bytes] of links) this.#succession(name).offer(bytes, wallMs);
  }

  #joiner(token: string): Result<readonly KeyObject[]> {
    const verifier = this.#open.get(token);
    if (verifier !== undefined) return ok([verifier]);
    return fail('token/used', `token ${token} is not open: it was used or withdrawn`, {
      hint: 'ask for a new one (isthmus token create)',
      subject: { token },
    });
  }

  #invite(key: string, value: Uint8Array | undefined): void {
    const token = openToken.exec(key.slice(this.#keys.setPrefix.length))?.[1];
    if (token === undefined || !key.startsWith(this.#keys.setPrefix)) return;
    const verifier = value === undefined ? undefined : publicKeyOf(value);
    if (verifier?.ok === true && this.#open.size < limits.membersMax) this.#open.set(token, verifier.value);
    else this.#open.delete(token);
  }

  #sort(key: string, value: Uint8Array, members: Map<string, Uint8Array>, links: Map<string, Uint8Array>): void {
    const { membersPrefix, revocationsPrefix, publicPrefix } = this.#keys;
    if (key.startsWith(membersPrefix)) {
      const name = key.slice(membersPrefix.length);
      if (isDnsLabel(name)) members.set(name, value);
    } else if (key.startsWith(revocationsPrefix)) {
      this.#memberships.revocations.add(key.slice(revocationsPrefix.length), value);
    } else if (key.startsWith(publicPrefix)) {
      const name = keysRecord.exec(key.slice(publicPrefix.length))?.[1];
      if (name !== undefined && isDnsLabel(name) && value.length <= limits.recordBytesMax) links.set(name, value);
    }
  }

  #follow(changed: readonly string[], wallMs: number): void {
    for (const name of changed) {
      const member = this.#memberships.member(name);
      if (member !== undefined) this.#succession(name).setMember(member, wallMs);
    }
  }

  #succession(name: string): Succession {
    const known = this.#successions.get(name);
    if (known !== undefined) return known;
    const made = new Succession(this.#o.clusterset, name);
    this.#successions.set(name, made);
    return made;
  }
}
