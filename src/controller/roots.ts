/**
 * Which roots this cluster's workloads need: its own, and those of the members that it trades with. A member trades with us when
 * it exports a service that we share. Roots of other members go to nobody: within one trust domain every root can mint any
 * client identity.
 *
 * Partners are counted as services change. Looking through all services each time was passed over: it would cost more than
 * the change that asked for it.
 */
import { X509Certificate } from 'node:crypto';
import type { ServiceKey } from '../core/names.ts';
import type { View } from '../federation/view.ts';
import { isFederated } from '../translate/ztunnel/remotes.ts';

const none: readonly string[] = [];

export class TradedRoots {
  readonly #partnersOf = new Map<ServiceKey, readonly string[]>();
  readonly #services = new Map<string, number>();
  /** What `current` was made from, and what it was. */
  #sources: readonly unknown[] = [];
  #roots: readonly X509Certificate[] = [];

  /** These services may have other exporters than before. */
  update(keys: Iterable<ServiceKey>, view: View): void {
    for (const key of keys) {
      const before = this.#partnersOf.get(key) ?? none;
      const service = view.services.get(key);
      const now = service !== undefined && isFederated(service) ? [...service.remotes.keys()] : none;
      if (before.length === now.length && before.every((name, i) => name === now[i])) continue;
      for (const name of now) this.#services.set(name, (this.#services.get(name) ?? 0) + 1);
      for (const name of before) {
        const left = this.#services.get(name)! - 1;
        if (left > 0) this.#services.set(name, left);
        else this.#services.delete(name);
      }
      if (now.length > 0) this.#partnersOf.set(key, now);
      else this.#partnersOf.delete(key);
    }
  }

  /** The members that we trade with. */
  get partners(): readonly string[] {
    return [...this.#services.keys()].sort();
  }

  /** Sorted by content: the same on every replica. Our own roots are not in it. The same array until something changes. */
  current(view: View): readonly X509Certificate[] {
    const records = [...this.#services.keys()].map((name) => view.members.get(name)?.trust);
    if (records.length === this.#sources.length && records.every((r, i) => r === this.#sources[i])) return this.#roots;
    this.#sources = records;
    const roots = new Map<string, X509Certificate>();
    for (const record of records) {
      for (const der of record?.roots ?? []) {
        const certificate = new X509Certificate(der);
        roots.set(certificate.fingerprint256, certificate);
      }
    }
    this.#roots = [...roots].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, certificate]) => certificate);
    return this.#roots;
  }
}
