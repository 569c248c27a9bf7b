/**
 * The other side of the certificate service: makes a key and a request for one identity, asks with the pod's token, checks
 * what comes back, and renews it at half its life, earlier by up to a tenth so that a fleet does not renew at once. While renewing fails
 * the old certificate stays in use and it is tried again with growing pauses.
 */
import 'reflect-metadata';
import { webcrypto as webCrypto, type webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } from '@peculiar/x509';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { type ErrorCode, IsthmusError } from '../core/errors.ts';
import { IstioCertificateRequestSchema, IstioCertificateResponseSchema } from '../gen/istio/ca/citadel_pb.ts';
import { newP256 } from './mint.ts';
import { certificatesOf, privateKeyOf } from './pem.ts';

/** A key and a request that names one URI, PEM. Made as ztunnel makes it: P-256, empty subject. */
export const makeRequest = async (identity: string): Promise<{ readonly keyPem: string; readonly csr: string }> => {
  const pair = newP256();
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
  const crypto = webCrypto as webcrypto.Crypto;
  const keys = {
    privateKey: pair.key.toCryptoKey(algorithm, false, ['sign']),
    publicKey: await crypto.subtle.importKey('spki', pair.publicKey, algorithm, true, ['verify']),
  };
  const request = await Pkcs10CertificateRequestGenerator.create(
    {
      keys,
      signingAlgorithm: algorithm,
      extensions: [new SubjectAlternativeNameExtension([{ type: 'url', value: identity }], true)],
    },
    crypto,
  );
  return { keyPem: pair.keyPem, csr: request.toString('pem') };
};

export interface WorkloadCertificate {
  readonly identity: string;
  /** PEM: the leaf, then intermediates. */
  readonly cert: string;
  /** PEM, PKCS#8. */
  readonly key: string;
  /** PEM: all roots. */
  readonly roots: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface CertificateClientOptions {
  /** `host:port` of the certificate service. */
  readonly address: string;
  /** Name that its certificate must have; default: the host of `address`. */
  readonly serverName?: string;
  /** PEM file of the roots that it is checked with; read for each call. */
  readonly rootsFile: string;
  /** File of the service account token; read for each call, for it is rotated. */
  readonly tokenFile: string;
  readonly identity: string;
  /** Seconds; 0: as long as the service gives. */
  readonly ttlS: number;
  readonly clock: Clock;
  readonly rng: Rng;
  /** A certificate, the first or a renewed one. */
  onCertificate(certificate: WorkloadCertificate): void;
  /** Asking failed; it goes on. */
  onError(error: IsthmusError): void;
}

const deadlineMs = 10_000;
const retryMinMs = 500;
const retryMaxMs = 60_000;
/** Timers of the platform end at 2^31 ms. */
const timerMaxMs = 86_400_000;

const codes: Partial<Record<number, ErrorCode>> = {
  [status.UNAUTHENTICATED]: 'auth/unauthenticated',
  [status.PERMISSION_DENIED]: 'csr/denied',
  [status.INVALID_ARGUMENT]: 'csr/malformed',
  [status.RESOURCE_EXHAUSTED]: 'csr/rate',
};

const readText = (path: string, what: string): string => {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (cause) {
    throw new IsthmusError('files/invalid', `${what} ${path} cannot be read`, { cause });
  }
};

const call = (options: CertificateClientOptions, csr: string): Promise<readonly string[]> => {
  const roots = Buffer.from(readText(options.rootsFile, 'root certificates'));
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${readText(options.tokenFile, 'token')}`);
  const name = options.serverName;
  const client = new Client(options.address, credentials.createSsl(roots), {
    'grpc.use_local_subchannel_pool': 1,
    ...(name === undefined ? {} : { 'grpc.ssl_target_name_override': name, 'grpc.default_authority': name }),
  });
  const request = create(IstioCertificateRequestSchema, { csr, validityDuration: BigInt(options.ttlS) });
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      '/istio.v1.auth.IstioCertificateService/CreateCertificate',
      (value: typeof request) => Buffer.from(toBinary(IstioCertificateRequestSchema, value)),
      (bytes: Buffer) => fromBinary(IstioCertificateResponseSchema, bytes),
      request,
      metadata,
      { deadline: new Date(options.clock.wallMs() + deadlineMs) },
      (error: ServiceError | null, response) => {
        client.close();
        if (error === null && response !== undefined) resolve(response.certChain);
        else {
          const code = codes[error?.code ?? -1] ?? 'controller/unreachable';
          reject(
            new IsthmusError(code, `certificate service at ${options.address}: ${error?.details}`, { cause: error }),
          );
        }
      },
    );
  });
};

/** Asks once. @throws IsthmusError: what the service said, or 'trust/invalid' when the answer is not what was asked for. */
export const fetchCertificate = async (options: CertificateClientOptions): Promise<WorkloadCertificate> => {
  const { identity } = options;
  const { keyPem, csr } = await makeRequest(identity);
  const chain = await call(options, csr);
  const wrong = (why: string): IsthmusError =>
    new IsthmusError('trust/invalid', `certificate service at ${options.address} answered for ${identity}: ${why}`);
  if (chain.length < 2) throw wrong(`${chain.length} elements, at least a leaf and the roots are needed`);
  const leaf = certificatesOf(chain[0]!, 'leaf')[0]!;
  if (leaf.subjectAltName !== `URI:${identity}`) throw wrong(`a certificate for ${leaf.subjectAltName}`);
  if (!leaf.checkPrivateKey(privateKeyOf(keyPem, 'key'))) throw wrong('a certificate for another key');
  certificatesOf(chain.at(-1)!, 'roots');
  return {
    identity,
    cert: chain
      .slice(0, -1)
      .map((pem) => `${pem.trimEnd()}\n`)
      .join(''),
    key: keyPem,
    roots: chain.at(-1)!,
    notBeforeMs: leaf.validFromDate.getTime(),
    notAfterMs: leaf.validToDate.getTime(),
  };
};

export interface CertificateClient {
  /** The newest certificate; undefined before the first. */
  readonly current: WorkloadCertificate | undefined;
  close(): void;
}

/** Asks at once, and then for as long as it is not closed. */
export const keepCertificate = (options: CertificateClientOptions): CertificateClient => {
  const { clock, rng } = options;
  let current: WorkloadCertificate | undefined;
  let timer: Timer | undefined;
  let closed = false;
  let failures = 0;
  const again = (ms: number): void => {
    if (!closed) timer = clock.after(Math.min(ms, timerMaxMs), ask);
  };
  const ask = (): void => {
    fetchCertificate(options).then(
      (certificate) => {
        if (closed) return;
        failures = 0;
        current = certificate;
        const halfLifeMs = (certificate.notAfterMs - clock.wallMs()) / 2;
        again(Math.max(retryMinMs, halfLifeMs * (1 - 0.1 * rng())));
        options.onCertificate(certificate);
      },
      (error: unknown) => {
        if (closed) return;
        if (!(error instanceof IsthmusError)) throw error;
        const waitMs = Math.min(retryMaxMs, retryMinMs * 2 ** failures++);
        again(waitMs * (0.5 + 0.5 * rng()));
        options.onError(error);
      },
    );
  };
  ask();
  return {
    get current() {
      return current;
    },
    close: () => {
      closed = true;
      timer?.cancel();
    },
  };
};
