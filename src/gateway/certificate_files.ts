/**
 * The gateway's certificate towards its controllers, as files that Envoy watches.
 *
 * Certificate and key lie in one file: Envoy reads a file again when another is renamed onto it, and two files would be read
 * as a pair that does not match in between. What an earlier runner left is used as long as it is valid, so that a gateway
 * starts while no controller answers. Renewed at half its life, then again and again until it succeeds.
 */
import { X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import type { GatewayLog } from './log.ts';

/** All PEM. `cert`: the leaf, then intermediates; `roots`: what the controllers are checked with. */
export interface GatewayCertificate {
  readonly cert: string;
  readonly key: string;
  readonly roots: string;
  /** Wall clock, ms since 1970. */
  readonly notAfterMs: number;
}

export interface CertificatePaths {
  /** Chain and key lie in the same file. */
  readonly certificate: string;
  readonly key: string;
  readonly roots: string;
}

export const certificatePaths = (runDir: string): CertificatePaths => {
  const identity = join(runDir, 'identity', 'identity.pem');
  return { certificate: identity, key: identity, roots: join(runDir, 'identity', 'roots.pem') };
};

const retry = { firstMs: 500, maxMs: 30_000 } as const;
/** One that ends sooner is not worth starting with. */
const usableMs = 30_000;

export interface CertificateFilesOptions {
  readonly runDir: string;
  readonly obtain: () => Promise<GatewayCertificate>;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: GatewayLog;
}

const replace = (path: string, content: string): void => {
  writeFileSync(`${path}.new`, content, { mode: 0o600 });
  renameSync(`${path}.new`, path);
};

export class CertificateFiles {
  readonly #o: CertificateFilesOptions;
  #timer: Timer | undefined;
  #failures = 0;
  #stopped = false;
  #notAfterMs: number | undefined;

  constructor(options: CertificateFilesOptions) {
    this.#o = options;
  }

  /** End of the certificate in use, on the wall clock. */
  get notAfterMs(): number | undefined {
    return this.#notAfterMs;
  }

  /** Resolves once there is a certificate; keeps it fresh from then on. */
  start(): Promise<void> {
    const nowMs = this.#o.clock.wallMs();
    this.#notAfterMs = this.#saved();
    if (this.#notAfterMs !== undefined && this.#notAfterMs > nowMs + usableMs) {
      this.#o.log('info', 'certificate of an earlier run is used', { endsInMs: this.#notAfterMs - nowMs });
      // How much of its life is over is not known: renew soon.
      this.#renewAfter(1_000 * this.#o.rng(), () => {});
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#renewAfter(0, resolve);
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #saved(): number | undefined {
    try {
      const paths = certificatePaths(this.#o.runDir);
      readFileSync(paths.roots);
      return new X509Certificate(readFileSync(paths.certificate)).validToDate.getTime();
    } catch {
      return undefined;
    }
  }

  #renewAfter(ms: number, done: () => void): void {
    if (this.#stopped) return;
    this.#timer = this.#o.clock.after(ms, () => {
      this.#renew().then(
        (nextMs) => {
          done();
          this.#renewAfter(nextMs, () => {});
        },
        (error: unknown) => {
          const pauseMs = Math.min(retry.maxMs, retry.firstMs * 2 ** this.#failures) * (0.75 + this.#o.rng() / 2);
          this.#failures += 1;
          this.#o.log('warn', 'certificate not obtained', { error, retryInMs: Math.round(pauseMs) });
          this.#renewAfter(pauseMs, done);
        },
      );
    });
  }

  /** Gives the time until the next renewal. */
  async #renew(): Promise<number> {
    const got = await this.#o.obtain();
    const paths = certificatePaths(this.#o.runDir);
    mkdirSync(join(this.#o.runDir, 'identity'), { recursive: true, mode: 0o700 });
    replace(paths.roots, got.roots);
    replace(paths.certificate, `${got.cert.trimEnd()}\n${got.key.trimEnd()}\n`);
    this.#notAfterMs = got.notAfterMs;
    this.#failures = 0;
    const lifeMs = Math.max(0, got.notAfterMs - this.#o.clock.wallMs());
    this.#o.log('info', 'certificate renewed', { endsInMs: lifeMs });
    return Math.max(retry.firstMs, (lifeMs / 2) * (0.9 + this.#o.rng() / 5));
  }
}
