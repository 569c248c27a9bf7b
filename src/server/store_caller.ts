/**
 * Who calls the store gateway, settled before a byte of the call is read: the common name of the client certificate, as in etcd itself,
 * must be a member that may write now, the method one that is served, and its places and calls not used up.
 */
import { X509Certificate } from 'node:crypto';
import { type Metadata, ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';
import { Shares } from '../core/shares.ts';
import { tokenOfUser } from '../trust/tokens.ts';
import { Buckets } from './buckets.ts';
import { grpcStatus } from './grpc_status.ts';

export interface CallersOptions {
  readonly clock: Clock;
  readonly served: ReadonlySet<string>;
  /** Bytes of each member's requests, charged when they were read. */
  readonly received: Buckets;
  /** @throws IsthmusError: the member may not write now */
  admit(member: string): void;
  refused(member: string, error: unknown): void;
}

const callers = new WeakMap<Metadata, string>();

/** The member that calls; a call without one cannot reach a handler. */
export const callerOf = (metadata: Metadata): string => {
  const member = callers.get(metadata);
  if (member === undefined) throw new Error('store gateway: a call came past authentication');
  return member;
};

/** Undefined: the certificate is for nobody, or for more than one. */
const commonName = (raw: Buffer | undefined): string | undefined => {
  if (raw === undefined) return undefined;
  const names = new X509Certificate(raw).subject.split('\n').filter((line) => line.startsWith('CN='));
  const name = names[0]?.slice(3) ?? '';
  return names.length === 1 && (isDnsLabel(name) || tokenOfUser(name) !== undefined) ? name : undefined;
};

const notServed = (path: string): IsthmusError =>
  new IsthmusError('store/denied', `${path.slice(0, 120)} is not served by the store gateway`, {
    hint: 'it takes transactions of records alone; read straight from etcd (store.endpoints)',
  });

const tooMany = (member: string, what: string): IsthmusError =>
  new IsthmusError('store/rate', `${member} has ${what}`, { hint: 'it is tried again', subject: { member } });

export const callerInterceptor = (o: CallersOptions): ServerInterceptor => {
  const places = new Shares(limits.writesInFlightMax);
  const calls = new Buckets(limits.writeCallsPerSecond, limits.writeCallsBurst, o.clock);
  return ({ path }, call) => {
    let member: string | undefined;
    let placed = false;
    const settle = (metadata: Metadata): void => {
      member = commonName(call.getAuthContext().sslPeerCertificate?.raw);
      if (member === undefined) {
        throw new IsthmusError('auth/denied', 'the client certificate names no member', {
          hint: 'its common name must be the member’s name, as for etcd',
        });
      }
      if (!calls.take(member)) throw tooMany(member, `more than ${limits.writeCallsPerSecond} calls a second`);
      if (!o.received.left(member)) {
        throw tooMany(member, `sent more than ${limits.writeReceivedBytesPerSecond} bytes a second`);
      }
      if (!o.served.has(path)) throw notServed(path);
      o.admit(member);
      if (!places.take(member)) throw tooMany(member, `${limits.writesInFlightMax} calls open`);
      placed = true;
      callers.set(metadata, member);
    };
    return new ServerInterceptingCall(call, {
      start: (next) => {
        next({
          onReceiveMetadata: (metadata, forward) => {
            try {
              settle(metadata);
            } catch (error) {
              o.refused(member ?? '', error);
              call.sendStatus(grpcStatus(error));
              return;
            }
            forward(metadata);
          },
          // Comes once for each call, however it ended.
          onCancel: () => {
            if (placed && member !== undefined) places.leave(member);
            placed = false;
          },
        });
      },
    });
  };
};
