/**
 * What this replica has issued that is still in use: for each holder the newest certificate, with the roots that came with it. It is what
 * says which roots the ztunnels have.
 */
import type { Caller, Issued } from '../ca/service.ts';
import { limits } from '../core/limits.ts';
import { type GivenRoots, heldFor, type IssuedCertificate, type ReplicaReport } from '../trust/loaded.ts';

type Earlier = ReplicaReport['earlier'][number];

export const sameRoots = (a: GivenRoots, b: GivenRoots): boolean =>
  a.issuer === b.issuer &&
  (a.roots === b.roots || (a.roots.length === b.roots.length && a.roots.every((root, i) => root === b.roots[i])));

/** Of many certificates of which only their roots are remembered, when the last ends. */
const merged = (all: readonly Earlier[]): Earlier[] => {
  const found: Earlier[] = [];
  for (const one of all) {
    const at = found.findIndex((other) => sameRoots(other, one));
    if (at < 0) found.push(one);
    else if (found[at]!.untilMs < one.untilMs) found[at] = one;
  }
  return found;
};

export class IssuedCertificates {
  readonly #all = new Map<string, IssuedCertificate>();
  #earlier: readonly Earlier[] = [];

  /** What is left of an earlier run. */
  adopt(certificates: readonly IssuedCertificate[], earlier: readonly Earlier[]): void {
    for (const one of certificates) {
      const key = `${one.holder}\n${one.pod}`;
      if (!this.#all.has(key)) this.#all.set(key, one);
    }
    this.#earlier = merged([...this.#earlier, ...earlier]);
  }

  note({ identity, notAfterMs, roots, issuer }: Issued, caller: Caller, nowMs: number): void {
    const [namespace = '', name = ''] = identity.slice(identity.indexOf('/ns/') + 4).split('/sa/');
    const account = `${namespace}/${name}`;
    const own = account === `${caller.namespace}/${caller.serviceAccount}`;
    const where = own ? caller.pod?.name : caller.node;
    const holder = where === undefined ? account : own ? `${account} in ${where}` : heldFor(namespace, name, where);
    const pod = caller.pod?.uid ?? '';
    const key = `${holder}\n${pod}`;
    this.#all.delete(key);
    this.#all.set(key, { holder, pod, issuedMs: nowMs, untilMs: notAfterMs, roots, issuer });
    while (this.#all.size > limits.callersRememberedMax) this.#forget(this.#all.keys().next().value!);
  }

  /** Whether all that is in use came with the same roots from the same CA as what is given now. */
  uniform(gives: GivenRoots, nowMs: number): boolean {
    this.#expire(nowMs);
    for (const one of this.#all.values()) if (!sameRoots(one, gives)) return false;
    return this.#earlier.every((one) => sameRoots(one, gives));
  }

  /** @param most - so many are told one by one, the newest first; the others as what they came with */
  tell(nowMs: number, most: number): Pick<ReplicaReport, 'certificates' | 'earlier'> {
    this.#expire(nowMs);
    const all = [...this.#all.values()].reverse();
    return { certificates: all.slice(0, most), earlier: merged([...this.#earlier, ...all.slice(most)]) };
  }

  #forget(key: string): void {
    const one = this.#all.get(key)!;
    this.#all.delete(key);
    this.#earlier = merged([...this.#earlier, one]);
  }

  #expire(nowMs: number): void {
    for (const [key, { untilMs }] of this.#all) if (untilMs <= nowMs) this.#all.delete(key);
    if (this.#earlier.some(({ untilMs }) => untilMs <= nowMs)) {
      this.#earlier = this.#earlier.filter(({ untilMs }) => untilMs > nowMs);
    }
  }
}
