/**
 * The gateways' certificates. The writer issues them and keeps them in a Secret; every replica reads them from there, so that all
 * serve the same bytes. They are renewed by the writer before two thirds of their life.
 *
 * Each replica issuing its own was passed over: a gateway that moves from one replica to the other would get other certificates
 * for nothing. Except at the very end: when nobody could renew them for most of their life (the API server is dark), each replica
 * issues its own and keeps them to itself, for certificates that differ are better than none.
 */
import { createHash, createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
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
  readonly federationCa: () => FederationCa;
  readonly isWriter: () => boolean;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: Log;
  /** From the last good state. */
  readonly saved: GatewayCertificates | undefined;
  readonly onCertificates: (certificates: GatewayCertificates) => void;
}

const secretName = 'isthmus-gateway-certs';
const files = ['mesh.pem', 'mesh-key.pem', 'federation.pem', 'federation-key.pem'] as const;
/** Shares of a certificate’s life: when the writer renews it, and when every replica helps itself. */
const renewAt = 2 / 3;
const renewJitter = 0.1;
const lastResortAt = 5 / 6;
const checkMaxMs = 60_000;
/** Often enough for certificates that live for a minute. */
const checksPerLife = 20;
const retryMs = 1_000;
const random = (bytes: number): Uint8Array => new Uint8Array(randomBytes(bytes));

/** What the certificates were issued by: another CA means that they must be issued anew. */
const issuersOf = (authority: Authority, ca: FederationCa): string =>
  createHash('sha256').update(authority.certificate.raw).update(ca.certificate.raw).digest('hex').slice(0, 32);

export class CertificateKeeper {
  readonly #o: CertificateKeeperOptions;
  readonly #watch: SecretWatch;
  #timer: Timer | undefined;
  #served: GatewayCertificates | undefined;
  #busy = false;
  #closed = false;
  readonly #checkMs: number;
  readonly #renewAt: number;

  constructor(options: CertificateKeeperOptions) {
    this.#o = options;
    this.#served = options.saved;
    const { api, clock, rng, log, config } = options;
    this.#checkMs = Math.min(checkMaxMs, (config.mesh.certificateTtlS * 1_000) / checksPerLife);
    this.#renewAt = renewAt - renewJitter * rng();
    this.#watch = watchSecret({
      api,
      clock,
      rng,
      log,
      at: { namespace: config.namespace, name: secretName },
      onChange: (secret) => {
        const found = secret === undefined ? undefined : read(secret);
        if (found !== undefined) this.#serve(found, 'read');
        else if (secret !== undefined)
          log('error', 'the Secret of the gateway certificates is unusable', { secret: secretName });
        this.check();
      },
      onProblem: (error) => log('warn', 'gateway certificates cannot be read', { error }),
    });
    this.#again(this.#checkMs);
  }

  get synced(): boolean {
    return this.#watch.synced;
  }

  /** Issues when this replica writes and the certificates are missing, old or by another CA. */
  check(): void {
    if (this.#busy || this.#closed) return;
    this.#again(this.#checkMs);
    const due = this.#o.isWriter() && this.#watch.synced && this.#due(this.#watch.current);
    const ending = this.#served !== undefined && this.#usedUp(this.#served) > lastResortAt;
    if (!due && !ending) return;
    this.#busy = true;
    const renewed = due ? this.#issue(this.#watch.current) : Promise.reject(new Error('not the writer'));
    renewed
      .catch(async (error: unknown) => {
        this.#o.log('warn', 'gateway certificates not written', { error: error as Error });
        this.#again(ending ? this.#checkMs : retryMs);
        if (ending) this.#serve(await this.#make(), 'kept to this replica');
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

  #again(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.#o.clock.after(ms, () => this.check());
  }

  #due(secret: Secret | undefined): boolean {
    const { authority, federationCa } = this.#o;
    const found = secret === undefined ? undefined : read(secret);
    if (secret === undefined || found === undefined) return true;
    if (secret.labels['isthmus.dev/issuers'] !== issuersOf(authority(), federationCa())) return true;
    return this.#usedUp(found) > this.#renewAt;
  }

  /** The larger share of their life that has passed, of the two certificates. */
  #usedUp({ mesh, federation }: GatewayCertificates): number {
    const now = this.#o.clock.wallMs();
    return Math.max(
      ...[mesh, federation].map(({ chain }) => {
        const certificate = new X509Certificate(chain);
        const from = certificate.validFromDate.getTime();
        return (now - from) / (certificate.validToDate.getTime() - from);
      }),
    );
  }

  async #make(): Promise<GatewayCertificates> {
    const { config, clock, federationCa } = this.#o;
    const authority = this.#o.authority();
    const ttlS = config.mesh.certificateTtlS;
    const nowMs = clock.wallMs();
    const pair = newP256();
    const identity = workloadId(config.trustDomain, config.namespace, config.gateway.serviceAccount);
    const request = { identity, publicKey: pair.publicKey, ttlS, ttlMaxS: ttlS, nowMs };
    const leaf = await issueLeaf(authority, request, random);
    const input = { clusterset: config.clusterset, member: config.member, ttlS, nowMs };
    const federation = await issueFederationCertificate(federationCa(), input, random);
    return {
      mesh: { chain: [leaf, ...authority.intermediates].map(pemOf).join(''), key: pair.keyPem },
      federation: { chain: federation.cert, key: federation.key },
    };
  }

  async #issue(before: Secret | undefined): Promise<void> {
    const { config, api, federationCa } = this.#o;
    const made = await this.#make();
    const text = (value: string): Uint8Array => new Uint8Array(Buffer.from(value));
    await writeSecret(
      api,
      { namespace: config.namespace, name: secretName },
      {
        data: {
          'mesh.pem': text(made.mesh.chain),
          'mesh-key.pem': text(made.mesh.key),
          'federation.pem': text(made.federation.chain),
          'federation-key.pem': text(made.federation.key),
        },
        replaces: before?.resourceVersion,
        labels: { 'isthmus.dev/issuers': issuersOf(this.#o.authority(), federationCa()) },
      },
    );
    this.#serve(made, 'issued');
  }

  #serve(found: GatewayCertificates, how: string): void {
    const until = new X509Certificate(found.federation.chain).validToDate.toISOString();
    this.#o.log('info', 'gateway certificates', { how, until });
    this.#served = found;
    this.#o.onCertificates(found);
  }
}

/** Undefined when something is missing or does not fit together: what was served before stays. */
const read = (secret: Secret): GatewayCertificates | undefined => {
  const at = (file: (typeof files)[number]): string => Buffer.from(secret.data[file] ?? []).toString('utf8');
  const pair = (chain: string, key: string): CertificatePem | undefined => {
    try {
      return new X509Certificate(chain).checkPrivateKey(createPrivateKey(key)) ? { chain, key } : undefined;
    } catch {
      return undefined;
    }
  };
  const mesh = pair(at('mesh.pem'), at('mesh-key.pem'));
  const federation = pair(at('federation.pem'), at('federation-key.pem'));
  return mesh === undefined || federation === undefined ? undefined : { mesh, federation };
};
