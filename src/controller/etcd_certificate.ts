/**
 * This member's client certificate for etcd: the newest that the Secret `isthmus-member` holds, and its renewal through a store gateway
 * that issues them, between half and three fifths of its life. Where none does, people renew it at the desk, and what they put
 * into the Secret is taken up as well.
 *
 * Connections that are open go on with the certificate by which they were made, and new ones are made with the new one: there is no
 * moment without. The key is made here, and lies in the Secret alone.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { newEtcdRequest } from '../ca/etcd_request.ts';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import type { Secret } from '../kube/secrets.ts';
import type { Log } from '../ops/log.ts';

export interface EtcdPair {
  /** PEM. */
  readonly cert: Buffer;
  readonly key: Buffer;
}

export interface EtcdCertificateOptions {
  readonly config: Config;
  /** From the files of the bundle. */
  readonly first: EtcdPair;
  /** A certificate for a request, PEM; undefined: nobody issues them to us. */
  readonly renew: ((request: string) => Promise<string>) | undefined;
  /** Another is in use. */
  readonly onNew: (pair: EtcdPair) => void;
  /** Puts files into the Secret, by compare-and-swap. */
  readonly store: (files: Readonly<Record<string, Uint8Array>>) => Promise<void>;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
}

export const etcdFiles = { cert: 'etcd-client.pem', key: 'etcd-client-key.pem' } as const;

const retryMs = 600_000;
const deniedRetryMs = 86_400_000;
const dueFrom = 0.5;
const dueJitter = 0.1;

const endOf = ({ cert }: EtcdPair): number => new X509Certificate(cert).validToDate.getTime();

/** For this member, its key beside it. */
const usable = ({ cert, key }: EtcdPair, member: string): boolean => {
  try {
    const certificate = new X509Certificate(cert);
    return certificate.subject === `CN=${member}` && certificate.checkPrivateKey(createPrivateKey(key));
  } catch {
    return false;
  }
};

export class EtcdCertificate {
  readonly #o: EtcdCertificateOptions;
  readonly #jitter: number;
  #now: EtcdPair;
  #busy = false;
  #notBeforeMs = 0;
  #problem: IsthmusError | undefined;

  constructor(options: EtcdCertificateOptions) {
    this.#o = options;
    this.#now = options.first;
    this.#jitter = options.rng();
  }

  /** The one in use. */
  get current(): EtcdPair {
    return this.#now;
  }
  get problems(): readonly IsthmusError[] {
    return this.#problem === undefined ? [] : [this.#problem];
  }

  /** What the Secret holds. Where the configuration names other files, those are what counts. */
  take(secret: Pick<Secret, 'data'>): void {
    const { config, log, onNew } = this.#o;
    if (!this.#fromSecret(config)) return;
    const [cert, key] = [secret.data[etcdFiles.cert], secret.data[etcdFiles.key]];
    if (cert === undefined || key === undefined) return;
    const found = { cert: Buffer.from(cert), key: Buffer.from(key) };
    // Never back to one that ends sooner: the Secret may have been applied from an old bundle.
    if (found.cert.equals(this.#now.cert) || !usable(found, config.member) || endOf(found) <= endOf(this.#now)) return;
    this.#now = found;
    this.#problem = undefined;
    onNew(found);
    log('info', 'a new client certificate for etcd is in use', { until: new Date(endOf(found)).toISOString() });
  }

  /** Renews it when that is due. @param isWriter - one replica does it for all */
  check(isWriter: boolean): void {
    const { clock, renew, log } = this.#o;
    if (renew === undefined || !isWriter || this.#busy || clock.monotonicMs() < this.#notBeforeMs) return;
    // What would be put into the Secret would not be used.
    if (!this.#fromSecret(this.#o.config)) return;
    if (!this.#due(clock.wallMs())) return;
    this.#busy = true;
    this.#renew(renew)
      .catch((error: unknown) => {
        if (!(error instanceof IsthmusError)) throw error;
        // Nobody issues them there: no fault. Whoever runs the desk is told when the certificate is about to end.
        const nobody = error.code === 'store/denied';
        log(nobody ? 'info' : 'warn', 'the client certificate for etcd was not renewed', { error });
        this.#notBeforeMs = clock.monotonicMs() + (nobody ? deniedRetryMs : retryMs);
        this.#problem = nobody ? undefined : error;
      })
      .finally(() => {
        this.#busy = false;
      });
  }

  #fromSecret({ store }: Config): boolean {
    return store.certFile === etcdFiles.cert && store.keyFile === etcdFiles.key;
  }

  #due(wallMs: number): boolean {
    const { validFromDate, validToDate } = new X509Certificate(this.#now.cert);
    const lifeMs = validToDate.getTime() - validFromDate.getTime();
    return wallMs >= validFromDate.getTime() + lifeMs * (dueFrom + dueJitter * this.#jitter);
  }

  async #renew(renew: (request: string) => Promise<string>): Promise<void> {
    const { config, store, log } = this.#o;
    const { request, key } = await newEtcdRequest();
    const renewed = { cert: Buffer.from(await renew(request)), key: Buffer.from(key) };
    if (!usable(renewed, config.member) || endOf(renewed) <= endOf(this.#now)) {
      throw new IsthmusError(
        'trust/invalid',
        'the certificate for etcd that the store gateway issued is none for us, or ends sooner',
        {
          hint: 'see which CA and which time that store gateway is configured with',
        },
      );
    }
    await store({ [etcdFiles.cert]: renewed.cert, [etcdFiles.key]: renewed.key });
    log('info', 'the client certificate for etcd was renewed', { until: new Date(endOf(renewed)).toISOString() });
  }
}
