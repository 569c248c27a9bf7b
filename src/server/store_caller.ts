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

export interface Caller {
  readonly member: string;
  /** One certificate of that member: what is not proven by its record key yet is at this one's cost, not the member's. */
  readonly certificate: string;
  /** A handler is at work: the place is its own now, also when the caller goes, until it is left. */
  hold(): void;
  leave(): void;
}

const callers = new WeakMap<Metadata, Caller>();

/** Who calls; a call without one cannot reach a handler. */
export const callerOf = (metadata: Metadata): Caller => {
  const caller = callers.get(metadata);
  if (caller === undefined) throw new Error('store gateway: a call came past authentication');
  return caller;
};

/** Undefined: the certificate is for nobody, or for more than one. */
const commonName = ({ subject }: X509Certificate): string | undefined => {
  const names = subject.split('\n').filter((line) => line.startsWith('CN='));
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
    let placed: string | undefined;
    let held = false;
    const leave = (): void => {
      if (placed !== undefined) places.leave(placed);
      placed = undefined;
    };
    const settle = (metadata: Metadata): void => {
      const raw = call.getAuthContext().sslPeerCertificate?.raw;
      const presented = raw === undefined ? undefined : new X509Certificate(raw);
      member = presented === undefined ? undefined : commonName(presented);
      if (presented === undefined || member === undefined) {
        throw new IsthmusError('auth/denied', 'the client certificate names no member', {
          hint: 'its common name must be the member’s name, as for etcd',
        });
      }
      // One that was stolen must not use up what the good one needs.
      const certificate = `${member} ${presented.fingerprint256}`;
      if (!calls.take(certificate)) throw tooMany(member, `more than ${limits.writeCallsPerSecond} calls a second`);
      if (!o.received.left(certificate)) {
        throw tooMany(member, `sent more than ${limits.writeReceivedBytesPerSecond} bytes a second`);
      }
      if (!o.served.has(path)) throw notServed(path);
      o.admit(member);
      if (!places.take(certificate)) throw tooMany(member, `${limits.writesInFlightMax} calls open`);
      placed = certificate;
      const hold = (): void => {
        held = true;
      };
      callers.set(metadata, { member, certificate, hold, leave });
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
            if (!held) leave();
          },
        });
      },
    });
  };
};
