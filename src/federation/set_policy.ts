/**
 * The cluster set's policy, as far as the authority's signature carries. Deleting it from the store ends nothing, for the store is
 * not the authority: that is done by signing an empty one.
 */
import type { KeyObject } from 'node:crypto';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type VerifiedSetPolicy, verifySetPolicy } from '../records/set_policy.ts';

export class SetPolicyLog {
  readonly #options: { readonly clusterset: string; readonly authorityKey: KeyObject };
  #inForce: VerifiedSetPolicy | undefined;
  #bytes: Uint8Array | undefined;
  #problem: IsthmusError | undefined;
  #changed = false;

  constructor(options: { readonly clusterset: string; readonly authorityKey: KeyObject }) {
    this.#options = options;
  }

  get spec(): VerifiedSetPolicy['spec'] | undefined {
    return this.#inForce?.spec;
  }
  /** As signed, of what is in force; for the saved state. */
  get bytes(): Uint8Array | undefined {
    return this.#bytes;
  }
  /** Why what the store holds is not in force. */
  get problem(): IsthmusError | undefined {
    return this.#problem;
  }

  /** What the store holds, or the saved state did; undefined: nothing. */
  set(bytes: Uint8Array | undefined): void {
    this.#problem = undefined;
    if (bytes === undefined) {
      if (this.#inForce !== undefined) this.#problem = deleted();
      return;
    }
    const verified = verifySetPolicy(bytes, { ...this.#options, highWater: this.#inForce?.mark });
    if (!verified.ok) {
      this.#problem = verified.error;
      return;
    }
    if (verified.value.mark.digest === this.#inForce?.mark.digest) return;
    this.#inForce = verified.value;
    this.#bytes = bytes.slice(0, limits.setPolicyBytesMax * 2);
    this.#changed = true;
  }

  /** Whether it changed since the last call. */
  take(): boolean {
    const changed = this.#changed;
    this.#changed = false;
    return changed;
  }
}

const deleted = (): IsthmusError =>
  new IsthmusError('policy/stale', "the cluster set's policy is gone from the store; the last one stays in force", {
    hint: 'write it again, or have the authority sign an empty one',
  });
