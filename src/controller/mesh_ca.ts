/**
 * This cluster's issuing CA and roots, as the cacerts directory has them now. A change is taken up without a restart, and what cannot be
 * used is not: the last good one goes on issuing, and the reason is shown.
 *
 * The directory is read once a second rather than watched: a Secret is mounted by way of links that are exchanged, which file
 * watches miss. A change counts when two readings agree, so that a directory that is being written is not read half-way.
 */
import type { X509Certificate } from 'node:crypto';
import { type Authority, fingerprint } from '../ca/authority.ts';
import { loadMaterial, type Material, materialDigest, parseMaterial, readMaterial } from '../ca/material.ts';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import type { Log } from '../ops/log.ts';

export interface MeshCaOptions {
  readonly dir: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Another CA issues, or other roots are trusted. */
  readonly onChange: () => void;
}

export class MeshCa {
  readonly #o: MeshCaOptions;
  #material: Material;
  /** What was read last: a change is taken up when it is read twice. */
  #seen: string;
  #problem: IsthmusError | undefined;

  /** @throws IsthmusError 'trust/invalid' or 'files/invalid': there is no last good one yet. */
  constructor(options: MeshCaOptions) {
    this.#o = options;
    this.#material = loadMaterial(options.dir, options.clock.wallMs());
    this.#seen = this.#material.digest;
  }

  get authority(): Authority {
    return this.#material.authority;
  }
  /** In a rotation: the CA that issues after the switch. */
  get next(): Authority | undefined {
    return this.#material.next;
  }
  /** CAs whose certificates are our own. */
  get issuers(): readonly X509Certificate[] {
    return this.#material.issuers;
  }
  /** Why the directory as it is now is not in use. */
  get problem(): IsthmusError | undefined {
    return this.#problem;
  }

  /** Once a second. */
  look(): void {
    const { dir, clock, log, onChange } = this.#o;
    try {
      const files = readMaterial(dir);
      const digest = materialDigest(files);
      const settled = digest === this.#seen;
      this.#seen = digest;
      if (digest === this.#material.digest) this.#problem = undefined;
      if (!settled || digest === this.#material.digest) return;
      this.#material = parseMaterial(files, dir, clock.wallMs());
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      const said = (this.#problem?.cause as Error | undefined)?.message;
      if (said !== error.message) log('error', 'cacerts are not taken up', { error });
      this.#problem = new IsthmusError(error.code, `cacerts changed and are not used: ${error.message}`, {
        hint: error.hint ?? 'put them right; until then the last good CA and roots stay in use',
        cause: error,
      });
      return;
    }
    this.#problem = undefined;
    const { authority, next } = this.#material;
    log('info', 'cacerts taken up', {
      ca: fingerprint(authority.certificate),
      roots: authority.roots.map(fingerprint).join(' '),
      next: next === undefined ? 'none' : fingerprint(next.certificate),
    });
    onChange();
  }
}
