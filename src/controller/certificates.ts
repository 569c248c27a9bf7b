/**
 * The gateways' certificates. The writer issues them and keeps them in a Secret; every replica reads them from there, so that all
 * serve the same bytes. They are renewed by the writer at two thirds of their life.
 *
 * Each replica issuing its own was passed over: a gateway that moves from one replica to the other would get other certificates
 * for nothing.
 */
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import type { Authority } from '../ca/authority.ts';
import { type FederationCa, issueFederationCertificate } from '../ca/federation.ts';
import { issueLeaf } from '../ca/issue.ts';
import { newP256 } from '../ca/mint.ts';
import { pemOf } from '../ca/pem.ts';
import type { Config } from '../config/controller.ts';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import type { KubeApi } from '../kube/api.ts';
import { type Secret, type SecretWatch, watchSecret, writeSecret } from '../kube/secrets.ts';
import type { Log } from '../ops/log.ts';
import type { CertificatePem } from '../translate/envoy/input.ts';
import { workloadId } from '../trust/spiffe.ts';

export interface GatewayCertificates {
  readonly mesh: CertificatePem;
  readonly federation: CertificatePem;
}

export interface CertificateKeeperOptions {
  readonly config: Config;
  readonly api: KubeApi;
  readonly authority: () => Authority;
  readonly federationCa: FederationCa;
  readonly isWriter: () => boolean;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  readonly onCertificates: (certificates: GatewayCertificates) => void;
}

const secretName = 'isthmus-gateway-certs';
const files = ['mesh.pem', 'mesh-key.pem', 'federation.pem', 'federation-key.pem'] as const;
const checkMs = 60_000;
const retryMs = 1_000;
const random = (bytes: number): Uint8Array => new Uint8Array(randomBytes(bytes));

/** What the certificates were issued by: another CA means that they must be issued anew. */
const issuersOf = (authority: Authority, ca: FederationCa): string =>
  createHash('sha256').update(authority.certificate.raw).update(ca.certificate.raw).digest('hex').slice(0, 32);

export class CertificateKeeper {
  readonly #o: CertificateKeeperOptions;
  readonly #watch: SecretWatch;
  #timer: Timer | undefined;
  #busy = false;
  #closed = false;

  constructor(options: CertificateKeeperOptions) {
    this.#o = options;
    const { api, clock, rng, log, config } = options;
    this.#watch = watchSecret({
      api,
      clock,
      rng,
      log,
      at: { namespace: config.namespace, name: secretName },
      onChange: (secret) => {
        this.#serve(secret);
        this.check();
      },
      onProblem: (error) => log('warn', 'gateway certificates cannot be read', { error }),
    });
  }

  get synced(): boolean {
    return this.#watch.synced;
  }

  /** Issues when this replica writes and the certificates are missing, old or by another CA. */
  check(): void {
    if (this.#busy || this.#closed) return;
    this.#timer?.cancel();
    this.#timer = this.#o.clock.after(checkMs, () => this.check());
    if (!this.#o.isWriter() || !this.#watch.synced || !this.#due(this.#watch.current)) return;
    this.#busy = true;
    this.#issue(this.#watch.current)
      .catch((error: unknown) => {
        this.#o.log('warn', 'gateway certificates not written', {
          error: error instanceof Error ? error : String(error),
        });
        this.#timer?.cancel();
        this.#timer = this.#o.clock.after(retryMs, () => this.check());
      })
      .finally(() => {
        this.#busy = false;
      });
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#watch.close();
  }

  #due(secret: Secret | undefined): boolean {
    if (secret === undefined || files.some((f) => secret.data[f] === undefined)) return true;
    if (secret.labels['isthmus.dev/issuers'] !== issuersOf(this.#o.authority(), this.#o.federationCa)) return true;
    return ['mesh.pem', 'federation.pem'].some((file) => {
      const certificate = new X509Certificate(Buffer.from(secret.data[file]!));
      const from = certificate.validFromDate.getTime();
      const until = certificate.validToDate.getTime();
      return this.#o.clock.wallMs() > from + ((until - from) * 2) / 3;
    });
  }

  async #issue(before: Secret | undefined): Promise<void> {
    const { config, clock, api, federationCa } = this.#o;
    const authority = this.#o.authority();
    const ttlS = config.mesh.certificateTtlS;
    const nowMs = clock.wallMs();
    const pair = newP256();
    const identity = workloadId(config.trustDomain, config.namespace, config.gateway.serviceAccount);
    const leaf = await issueLeaf(
      authority,
      { identity, publicKey: pair.publicKey, ttlS, ttlMaxS: ttlS, nowMs },
      random,
    );
    const input = { clusterset: config.clusterset, member: config.member, ttlS, nowMs };
    const federation = await issueFederationCertificate(federationCa, input, random);
    const text = (value: string): Uint8Array => new Uint8Array(Buffer.from(value));
    const written = await writeSecret(
      api,
      { namespace: config.namespace, name: secretName },
      {
        data: {
          'mesh.pem': text([leaf, ...authority.intermediates].map(pemOf).join('')),
          'mesh-key.pem': text(pair.keyPem),
          'federation.pem': text(federation.cert),
          'federation-key.pem': text(federation.key),
        },
        replaces: before?.resourceVersion,
        labels: { 'isthmus.dev/issuers': issuersOf(authority, federationCa) },
      },
    );
    this.#o.log('info', 'gateway certificates issued', { until: new Date(federation.notAfterMs).toISOString() });
    this.#serve(written);
  }

  #serve(secret: Secret | undefined): void {
    const at = (file: (typeof files)[number]): string => Buffer.from(secret?.data[file] ?? []).toString('utf8');
    if (secret === undefined || files.some((f) => secret.data[f] === undefined)) return;
    this.#o.onCertificates({
      mesh: { chain: at('mesh.pem'), key: at('mesh-key.pem') },
      federation: { chain: at('federation.pem'), key: at('federation-key.pem') },
    });
  }
}
