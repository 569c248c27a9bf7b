/**
 * Who is a member, by the authority's word.
 *
 * Each name has the membership that the store holds now, and the one in force: the newest that verified. Deleting one from the store
 * removes nobody, for the store is not the authority; a member is removed by a revocation, or by letting its membership end. Ending
 * stops admission at once and use after a stated grace; a revocation closes at once (`revocations.ts`).
 */
import type { KeyObject } from 'node:crypto';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { claimsOf, type Member, type MembershipMark, validityText, verifyMembership } from '../trust/membership.ts';
import { Revocations } from './revocations.ts';

interface InForce {
  readonly member: Member;
  readonly mark: MembershipMark;
  /** As signed, for the saved state. */
  readonly bytes: Uint8Array;
}

/** `ended`: what is admitted stays in use. `closed`: nothing of it is used. */
export type Standing = 'open' | 'ended' | 'closed';

export interface MembershipsOptions {
  readonly clusterset: string;
  readonly authorityKey: KeyObject;
}

export class Memberships {
  readonly #options: MembershipsOptions;
  readonly revocations: Revocations;
  readonly #stored = new Map<string, Uint8Array>();
  readonly #inForce = new Map<string, InForce>();
  readonly #problems = new Map<string, IsthmusError>();
  /** Names, keys and CAs, by the member that has them. */
  readonly #claims = new Map<string, string>();

  constructor(options: MembershipsOptions) {
    this.#options = options;
    this.revocations = new Revocations(options);
  }

  member(name: string): Member | undefined {
    return this.#inForce.get(name)?.member;
  }
  bytes(name: string): Uint8Array | undefined {
    return this.#inForce.get(name)?.bytes;
  }
  names(): Iterable<string> {
    return this.#inForce.keys();
  }

  standing(name: string, wallMs: number): Standing {
    const member = this.member(name);
    if (member === undefined || this.revoked(name)) return 'closed';
    if (wallMs >= member.notAfterMs + limits.membershipGraceMs) return 'closed';
    return wallMs >= member.notAfterMs || wallMs < member.notBeforeMs ? 'ended' : 'open';
  }

  /** Whether the membership in force is one that a revocation closes. */
  revoked(name: string): boolean {
    const mark = this.revocations.mark(name);
    const member = this.member(name);
    return mark !== undefined && (member === undefined || member.sequence <= mark.sequence);
  }

  problems(wallMs: number): IsthmusError[] {
    const ended: IsthmusError[] = [...this.revocations.problems];
    for (const [name, { member }] of this.#inForce) {
      if (this.revoked(name)) continue;
      const standing = this.standing(name, wallMs);
      if (standing === 'open') continue;
      const what = standing === 'closed' ? 'its records are no longer used' : 'nothing new of it is admitted';
      const message = `${validityText(member, wallMs)}: ${what}`;
      ended.push(
        new IsthmusError('member/expired', message, {
          hint: 'have the authority renew it, and check the clocks',
          subject: { member: name },
        }),
      );
    }
    return [...this.#problems.values(), ...ended];
  }

  /** What the store holds under these names (undefined: nothing). @returns names whose membership in force changed */
  update(stored: ReadonlyMap<string, Uint8Array | undefined>, wallMs: number): string[] {
    for (const [name, bytes] of stored) {
      if (bytes !== undefined && (this.#stored.has(name) || this.#stored.size < limits.membersMax)) {
        // Enough of it to be refused for its size.
        this.#stored.set(name, bytes.slice(0, limits.membershipBytesMax + 1024));
      } else if (bytes === undefined) this.#stored.delete(name);
    }
    return this.#judge(stored.keys(), wallMs);
  }

  /** The store's whole content. @returns names whose membership in force changed */
  replace(stored: ReadonlyMap<string, Uint8Array>, wallMs: number): string[] {
    const update = new Map<string, Uint8Array | undefined>();
    for (const name of [...this.#stored.keys(), ...this.#inForce.keys()]) update.set(name, undefined);
    for (const [name, bytes] of stored) update.set(name, bytes);
    return this.update(update, wallMs);
  }

  /** Time has passed: what was refused for its date, or for another that had its key, may be taken now. */
  retry(wallMs: number): string[] {
    const again = [...this.#problems].filter(
      ([, { code }]) => code === 'member/expired' || code === 'member/duplicate',
    );
    return again.length === 0 ? [] : this.#judge(new Map(again).keys(), wallMs);
  }

  /** From the saved state: verified again, whatever its date. @returns whether it holds */
  restore(name: string, bytes: Uint8Array): boolean {
    const verified = verifyMembership(bytes, { ...this.#options, name, wallMs: undefined, highWater: undefined });
    return verified.ok && this.#enforce(name, { ...verified.value, bytes: new Uint8Array(bytes) }) === undefined;
  }

  #judge(names: Iterable<string>, wallMs: number): string[] {
    const verified: [string, InForce][] = [];
    for (const name of names) {
      const bytes = this.#stored.get(name);
      const before = this.#inForce.get(name);
      this.#problems.delete(name);
      if (bytes === undefined) {
        if (before !== undefined && !this.revoked(name)) this.#problems.set(name, deleted(name));
        continue;
      }
      const result = verifyMembership(bytes, { ...this.#options, name, wallMs, highWater: before?.mark });
      if (!result.ok) this.#problems.set(name, result.error);
      else if (this.revocations.closes(name, result.value.member.sequence)) this.#problems.set(name, revived(name));
      else if (result.value.mark.digest !== before?.mark.digest) verified.push([name, { ...result.value, bytes }]);
    }
    // One order for all readers, so that of two new members with one key all take the same.
    verified.sort(([a, { member: x }], [b, { member: y }]) => x.notBeforeMs - y.notBeforeMs || (a < b ? -1 : 1));
    const changed: string[] = [];
    for (const [name, next] of verified) {
      const problem = this.#enforce(name, next);
      if (problem === undefined) changed.push(name);
      else this.#problems.set(name, problem);
    }
    return changed;
  }

  #enforce(name: string, next: InForce): IsthmusError | undefined {
    const claims = claimsOf(next.member);
    for (const { what, claim } of claims) {
      const owner = this.#claims.get(claim);
      if (owner !== undefined && owner !== name) {
        const message = `member ${name} has the same ${what} as member ${owner}`;
        return new IsthmusError('member/duplicate', message, {
          hint: 'issue it a key and a CA of its own',
          subject: { member: name },
        });
      }
    }
    const before = this.#inForce.get(name);
    if (before !== undefined) for (const { claim } of claimsOf(before.member)) this.#claims.delete(claim);
    for (const { claim } of claims) this.#claims.set(claim, name);
    this.#inForce.set(name, next);
    return undefined;
  }
}

const deleted = (name: string): IsthmusError =>
  new IsthmusError('member/unknown', `the membership of ${name} is gone from the store; the last one stays in force`, {
    hint: 'write it again, or have the authority sign one that grants nothing',
    subject: { member: name },
  });

const revived = (name: string): IsthmusError =>
  new IsthmusError('member/revoked', `the store holds a membership of ${name}, who was revoked: it is not used`, {
    hint: 'the store may have been restored from a backup, or somebody writes to it; run "isthmus revoke" again to clean it',
    subject: { member: name },
  });
