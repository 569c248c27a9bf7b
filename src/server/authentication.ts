/**
 * Who calls, settled before a byte of the call is read: the interceptors hold back the call's metadata until the caller
 * is known, and grpc-js reads no message before that. What an unknown caller sent stays in the flow-control window.
 */
import { X509Certificate } from 'node:crypto';
import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
} from '@grpc/grpc-js';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { TokenPeer } from './api.ts';
import { grpcStatus } from './grpc_status.ts';

export type Peer = { readonly kind: 'token'; readonly token: TokenPeer } | { readonly kind: 'gateway' };

const peers = new WeakMap<Metadata, Peer>();

/** The caller, as found by the interceptor; a call without one cannot reach a handler. */
export const peerOf = (metadata: Metadata): Peer => {
  const peer = peers.get(metadata);
  if (peer === undefined) throw new Error('server: a call came past authentication');
  return peer;
};

type Authenticate = (call: ServerInterceptingCallInterface, metadata: Metadata) => Peer | Promise<Peer>;

const interceptor =
  (authenticate: Authenticate, refused: (error: unknown) => void): ServerInterceptor =>
  (_method, call) =>
    new ServerInterceptingCall(call, {
      start: (next) => {
        next({
          onReceiveMetadata: (metadata, forward) => {
            const settle = async (): Promise<void> => {
              try {
                peers.set(metadata, await authenticate(call, metadata));
              } catch (error) {
                refused(error);
                call.sendStatus(grpcStatus(error));
                return;
              }
              forward(metadata);
            };
            void settle();
          },
        });
      },
    });

const bearer = (metadata: Metadata): string => {
  const values = metadata.get('authorization');
  const value = values.length === 1 ? String(values[0]) : '';
  const match = /^Bearer +([A-Za-z0-9._~+/=-]+)$/i.exec(value.length <= limits.tokenBytesMax + 8 ? value : '');
  if (match === null) {
    const what = values.length === 0 ? 'no authorization' : 'an authorization that is not one bearer token';
    throw new IsthmusError('auth/unauthenticated', `the call has ${what}`, {
      hint: 'send "authorization: Bearer <Kubernetes service account token>"',
    });
  }
  return match[1]!;
};

/** Callers with a Kubernetes token. */
export const tokenInterceptor = (
  review: (token: string) => Promise<TokenPeer>,
  refused: (error: unknown) => void,
): ServerInterceptor =>
  interceptor(async (_call, metadata) => ({ kind: 'token', token: await review(bearer(metadata)) }), refused);

/**
 * Callers with a certificate of exactly one name, the gateways' own, from a CA of this very cluster. OpenSSL has verified the
 * chain during the handshake, but up to the mesh's roots, which clusters may share: under those any other cluster's
 * intermediate could issue our gateways' name and be handed their keys. So the signature must be one of `issuers`' own.
 * The name is compared with the whole extension as text: a second name of any kind makes it differ.
 */
export const gatewayInterceptor = (
  identity: string,
  issuers: () => readonly X509Certificate[],
  refused: (error: unknown) => void,
): ServerInterceptor =>
  interceptor((call) => {
    const raw = call.getAuthContext().sslPeerCertificate?.raw;
    const leaf = raw === undefined ? undefined : new X509Certificate(raw);
    const names = leaf?.subjectAltName;
    if (leaf === undefined || names !== `URI:${identity}`) {
      throw new IsthmusError('auth/denied', `the client certificate is for ${names?.slice(0, 200) ?? 'nobody'}`, {
        hint: `this port is for ${identity} alone`,
      });
    }
    if (!issuers().some((issuer) => leaf.checkIssued(issuer) && leaf.verify(issuer.publicKey))) {
      const by = leaf.issuer.replaceAll('\n', ', ').slice(0, 200);
      throw new IsthmusError(
        'auth/denied',
        `the client certificate for ${identity} was issued by another CA, "${by}"`,
        {
          hint: "gateways take their certificate from this cluster's controller; one from an earlier CA is renewed by a restart of the gateway",
        },
      );
    }
    return { kind: 'gateway' };
  }, refused);
