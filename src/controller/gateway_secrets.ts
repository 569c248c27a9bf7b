/**
 * Certificates and roots on their way to the gateways: what the keeper has, joined with the roots of the members that we trade
 * with. The engine gets them when one of both really changed, for each time all listeners are made anew.
 */
import type { X509Certificate } from 'node:crypto';
import { pemOf } from '../ca/pem.ts';
import type { IsthmusError } from '../core/errors.ts';
import type { GatewaySecrets } from '../translate/envoy/input.ts';
import type { GatewayCertificates } from './certificates.ts';
import type { Engine } from './engine.ts';
import { ListKeeper, type ListKeeperOptions } from './lists.ts';

export interface OfferedSecretsOptions {
  readonly engine: Engine;
  /** Roots of our own mesh, PEM, as they are now. */
  readonly meshRoots: () => string;
  /** Roots of the members that we trade with, as they are now. */
  readonly tradedRoots: () => readonly X509Certificate[];
  /** Where the revocation lists of both are. */
  readonly lists: Pick<ListKeeperOptions, 'dir' | 'authority' | 'clock' | 'log' | 'metrics'>;
  /** The engine got other secrets: worth saving. */
  readonly onChange: () => void;
}

export class OfferedSecrets {
  readonly #o: OfferedSecretsOptions;
  readonly #lists: ListKeeper;
  #certificates: GatewayCertificates | undefined;
  /** What the last offer was made of. */
  #made:
    | { readonly certificates: unknown; readonly roots: unknown; readonly meshRoots: string; readonly lists: string }
    | undefined;

  constructor(options: OfferedSecretsOptions) {
    this.#o = options;
    const { lists, tradedRoots } = options;
    this.#lists = new ListKeeper({ ...lists, tradedRoots, onChange: () => this.offer() });
  }

  problems(): readonly IsthmusError[] {
    return this.#lists.problems();
  }
  close(): void {
    this.#lists.close();
  }

  certificates(found: GatewayCertificates): void {
    this.#certificates = found;
    this.offer();
  }

  /** To be called when certificates, revocation lists or the members that we trade with may have changed. */
  offer(): void {
    const { engine } = this.#o;
    const meshRoots = this.#o.meshRoots();
    const known = this.#certificates ?? engine.secrets;
    const roots = this.#o.tradedRoots();
    if (known === undefined) return;
    // Not read yet: what was saved stays.
    const lists = this.#lists.current() ?? { mesh: engine.secrets?.meshLists, traded: engine.secrets?.tradedLists };
    const made = this.#made;
    const same = made?.certificates === known && made.roots === roots && made.meshRoots === meshRoots;
    if (same && made.lists === JSON.stringify(lists)) return;
    const more = roots.map(pemOf).filter((pem) => !meshRoots.includes(pem));
    const { mesh, federation } = known;
    const next: GatewaySecrets = {
      ...{ mesh, federation, meshRoots, tradedRoots: meshRoots + more.join('') },
      ...(lists.mesh === undefined ? {} : { meshLists: lists.mesh }),
      ...(lists.traded === undefined ? {} : { tradedLists: lists.traded }),
    };
    if (JSON.stringify(next) !== JSON.stringify(engine.secrets)) {
      engine.setSecrets(next);
      this.#o.onChange();
    }
    this.#made = { certificates: this.#certificates ?? engine.secrets, roots, meshRoots, lists: JSON.stringify(lists) };
  }
}
