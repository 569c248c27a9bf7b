/**
 * Certificates and roots on their way to the gateways: what the keeper has, joined with the roots of the members that we trade
 * with. The engine gets them when one of both really changed, for each time all listeners are made anew.
 */
import type { X509Certificate } from 'node:crypto';
import { pemOf } from '../ca/pem.ts';
import type { GatewaySecrets } from '../translate/envoy/input.ts';
import type { GatewayCertificates } from './certificates.ts';
import type { Engine } from './engine.ts';

export interface OfferedSecretsOptions {
  readonly engine: Engine;
  /** Roots of our own mesh, PEM, as they are now. */
  readonly meshRoots: () => string;
  /** Roots of the members that we trade with, as they are now. */
  readonly tradedRoots: () => readonly X509Certificate[];
  /** The engine got other secrets: worth saving. */
  readonly onChange: () => void;
}

export class OfferedSecrets {
  readonly #o: OfferedSecretsOptions;
  #certificates: GatewayCertificates | undefined;
  /** What the last offer was made of. */
  #made: { readonly certificates: unknown; readonly roots: unknown; readonly meshRoots: string } | undefined;

  constructor(options: OfferedSecretsOptions) {
    this.#o = options;
  }

  certificates(found: GatewayCertificates): void {
    this.#certificates = found;
    this.offer();
  }

  /** To be called when certificates or the members that we trade with may have changed. */
  offer(): void {
    const { engine } = this.#o;
    const meshRoots = this.#o.meshRoots();
    const known = this.#certificates ?? engine.secrets;
    const roots = this.#o.tradedRoots();
    const made = this.#made;
    const same = made?.certificates === known && made?.roots === roots && made?.meshRoots === meshRoots;
    if (known === undefined || same) return;
    const more = roots.map(pemOf).filter((pem) => !meshRoots.includes(pem));
    const { mesh, federation } = known;
    const next: GatewaySecrets = { mesh, federation, meshRoots, tradedRoots: meshRoots + more.join('') };
    if (JSON.stringify(next) !== JSON.stringify(engine.secrets)) {
      engine.setSecrets(next);
      this.#o.onChange();
    }
    this.#made = { certificates: this.#certificates ?? engine.secrets, roots, meshRoots };
  }
}
