/**
 * The workload's own certificate: asked from an IstioCertificateService with a key of our own, renewed at half its life.
 * A renewal that fails is tried again with growing pauses, and the old certificate serves on.
 */
import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { type ChannelOptions, Client, credentials, Metadata } from '@grpc/grpc-js';
import type { Clock } from '../../../src/core/clock.ts';
import {
  IstioCertificateRequestSchema,
  type IstioCertificateResponse,
  IstioCertificateResponseSchema,
} from '../../../src/gen/istio/ca/citadel_pb.ts';
import type { Credentials } from '../../../src/hbone/credentials.ts';
import { identityOf } from '../../../src/hbone/identity.ts';
import type { Endpoint, StandinConfig } from './config.ts';
import { certificateRequest } from './csr.ts';

const path = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
const backoffMaxMs = 15_000;

/** A client for one attempt: its own channel, so that no back-off of the library's comes on top of ours. */
export const grpcClient = (to: Endpoint, more: ChannelOptions = {}): Client =>
  new Client(`${to.host}:${to.port}`, credentials.createSsl(to.rootPem), {
    'grpc.keepalive_time_ms': 30_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.use_local_subchannel_pool': 1,
    ...(to.serverName === undefined
      ? {}
      : { 'grpc.ssl_target_name_override': to.serverName, 'grpc.default_authority': to.serverName }),
    ...more,
  });

export const callMetadata = (config: StandinConfig): Metadata => {
  const metadata = new Metadata();
  const token = config.token();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  metadata.set('clusterid', config.clusterId);
  return metadata;
};

const ask = (config: StandinConfig, csr: string): Promise<IstioCertificateResponse> =>
  new Promise((resolve, reject) => {
    const client = grpcClient(config.ca);
    const request = create(IstioCertificateRequestSchema, { csr, validityDuration: BigInt(config.secretTtlSeconds) });
    client.makeUnaryRequest(
      path,
      (value: typeof request) => Buffer.from(toBinary(IstioCertificateRequestSchema, value)),
      (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes),
      request,
      callMetadata(config),
      { deadline: Date.now() + 10_000 },
      (error, response) => {
        client.close();
        if (error !== null || response === undefined) reject(error ?? new Error('no response'));
        else resolve(response);
      },
    );
  });

/** One certificate for `identity`. Rejects when the answer is for somebody else. */
export const requestCertificate = async (config: StandinConfig, identity: string): Promise<Credentials> => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { certChain } = await ask(config, certificateRequest(privateKey, identity));
  const roots = certChain.at(-1);
  if (certChain.length < 2 || roots === undefined) throw new Error('the CA answered without roots');
  const leaf = new X509Certificate(certChain[0] as string);
  const got = identityOf(leaf);
  if (!got.ok || got.value !== identity) {
    throw new Error(`the CA answered with a certificate for ${got.ok ? got.value : 'nobody'}, asked for ${identity}`);
  }
  return {
    certificatePem: certChain.slice(0, -1).join('\n'),
    keyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    rootsPem: roots,
  };
};

/** Keeps a certificate at hand for as long as the process lives. */
export class OwnCertificate {
  readonly #config: StandinConfig;
  readonly #clock: Clock;
  readonly #log: (line: string) => void;
  #identity: string | undefined;
  #current: Credentials | undefined;

  constructor(config: StandinConfig, clock: Clock, log: (line: string) => void) {
    this.#config = config;
    this.#clock = clock;
    this.#log = log;
  }

  get current(): Credentials | undefined {
    return this.#current;
  }

  /** Starts to fetch. Called again with the same identity it does nothing. */
  want(identity: string): void {
    if (this.#identity === identity) return;
    this.#identity = identity;
    this.#current = undefined;
    void this.#fetch(identity, 100);
  }

  async #fetch(identity: string, backoffMs: number): Promise<void> {
    if (identity !== this.#identity) return;
    try {
      const got = await requestCertificate(this.#config, identity);
      if (identity !== this.#identity) return;
      this.#current = got;
      const leaf = new X509Certificate(got.certificatePem);
      const lifeMs = leaf.validToDate.getTime() - this.#clock.wallMs();
      this.#log(`info certificate fetched identity="${identity}" serial="${leaf.serialNumber}" valid_ms=${lifeMs}`);
      // Timers above 2^31 ms fire at once.
      this.#clock.after(Math.min(Math.max(lifeMs / 2, 500), 2 ** 31 - 1), () => void this.#fetch(identity, 100));
    } catch (cause) {
      this.#log(`warn certificate request failed error="${(cause as Error).message}" retry_ms=${backoffMs}`);
      this.#clock.after(backoffMs, () => void this.#fetch(identity, Math.min(backoffMs * 2, backoffMaxMs)));
    }
  }
}
