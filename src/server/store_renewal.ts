/**
 * A new client certificate for etcd, for whoever calls with one that is still good and signs with the member's record key. The name is
 * the caller's, whatever the request says; what was issued is noted in the store before it is given, so that it can be revoked.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { CertificateAnswerSchema } from '../gen/isthmus/v1/store_gateway_pb.ts';
import { decoding } from '../records/fields.ts';
import { malformed, WireReader } from '../records/wire.ts';
import { tokenOfUser } from '../trust/tokens.ts';
import { Buckets } from './buckets.ts';
import type { StoreWrites, Write } from './store_writes.ts';

export interface IssuedCertificate {
  /** PEM. */
  readonly cert: string;
  /** Hexadecimal. */
  readonly serial: string;
  readonly notAfterMs: number;
}

/** @throws IsthmusError csr/…, trust/invalid */
export type IssueCertificate = (member: string, request: string) => Promise<IssuedCertificate>;

const requestOf = (bytes: Uint8Array): string => {
  const decoded = decoding('request', bytes, limits.csrBytesMax + 64, () => {
    let request: string | undefined;
    const reader = new WireReader(bytes, 'request');
    for (let field = reader.next(); field !== 0; field = reader.next()) {
      if (field !== 1) throw malformed(`request: field ${field} is not served here`);
      request = Buffer.from(reader.once('request').bytes('request', limits.csrBytesMax)).toString('latin1');
    }
    return request;
  });
  if (!decoded.ok || decoded.value === undefined) {
    throw new IsthmusError('csr/malformed', decoded.ok ? 'the request is empty' : decoded.error.message, {
      hint: 'send a PKCS#10 request, PEM',
    });
  }
  return decoded.value;
};

export class Renewals {
  readonly #writes: StoreWrites;
  readonly #issue: IssueCertificate | undefined;
  readonly #calls: Buckets;

  constructor(writes: StoreWrites, issue: IssueCertificate | undefined, clock: Clock) {
    this.#writes = writes;
    this.#issue = issue;
    this.#calls = new Buckets(limits.renewalsPerHour / 3_600, limits.renewalsPerHour, clock);
  }

  /** @throws IsthmusError store/…, csr/…, member/… */
  async renew(write: Write): Promise<{ readonly answer: Buffer; readonly issued: IssuedCertificate }> {
    const { member } = write;
    this.#writes.proven(write);
    if (this.#issue === undefined || tokenOfUser(member) !== undefined) {
      throw new IsthmusError('store/denied', 'this store gateway issues no certificates to this caller', {
        hint: 'it does where it has issue.caKeyFile; otherwise: isthmus keys renew-etcd, at the authority’s desk',
        subject: { member },
      });
    }
    const request = requestOf(write.request);
    if (!this.#calls.take(member)) {
      throw new IsthmusError(
        'csr/rate',
        `${member} asked for more than ${limits.renewalsPerHour} certificates in an hour`,
        {
          hint: 'it is tried again',
          subject: { member },
        },
      );
    }
    const issued = await this.#issue(member, request);
    await this.#writes.issued(member, issued.serial, issued.notAfterMs);
    const answer = create(CertificateAnswerSchema, { certificate: Buffer.from(issued.cert) });
    return { answer: Buffer.from(toBinary(CertificateAnswerSchema, answer)), issued };
  }
}
