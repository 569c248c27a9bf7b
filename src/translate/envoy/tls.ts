/**
 * Transport sockets. TLS 1.3 and HTTP/2 only, a client certificate always, keys and roots from the secret discovery.
 *
 * Names are never checked against a pool of roots: towards a member, and from one, the roots are that member's CA alone and
 * the name is its exact SPIFFE id, so the right name under another member's CA is refused. No session is resumed: a
 * resumed one would skip the check of a certificate whose CA may have been withdrawn since.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { TransportSocketSchema } from '../../gen/envoy/config/core/v3/base_pb.ts';
import {
  type CertificateValidationContextSchema,
  SubjectAltNameMatcher_SanType,
  TlsParameters_TlsProtocol,
} from '../../gen/envoy/extensions/transport_sockets/tls/v3/common_pb.ts';
import {
  type CommonTlsContextSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '../../gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.ts';
import { memberId, memberServerName } from '../../trust/spiffe.ts';
import { extension, fromAds } from './encoded.ts';
import { secretNames } from './resource_names.ts';

type SocketInit = MessageInitShape<typeof TransportSocketSchema>;

/** What a peer's certificate must be: issued under the roots of that secret, with this URI as a name. */
export interface PeerCheck {
  readonly roots: string;
  readonly uri: { readonly exact: string } | { readonly prefix: string };
}

const secret = (name: string) => ({ name, sdsConfig: fromAds() });

const validation = (uri: PeerCheck['uri']): MessageInitShape<typeof CertificateValidationContextSchema> => ({
  matchTypedSubjectAltNames: [
    {
      sanType: SubjectAltNameMatcher_SanType.URI,
      matcher: {
        matchPattern: 'exact' in uri ? { case: 'exact', value: uri.exact } : { case: 'prefix', value: uri.prefix },
      },
    },
  ],
});

const common = (certificate: string, peer: PeerCheck): MessageInitShape<typeof CommonTlsContextSchema> => ({
  tlsParams: {
    tlsMinimumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
    tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
  },
  alpnProtocols: ['h2'],
  tlsCertificateSdsSecretConfigs: [secret(certificate)],
  validationContextType: {
    case: 'combinedValidationContext',
    value: {
      defaultValidationContext: validation(peer.uri),
      validationContextSdsSecretConfig: secret(peer.roots),
    },
  },
});

/** Server side: our certificate from the secret `certificate`, the client checked by `peer`. */
export const downstreamTls = (certificate: string, peer: PeerCheck): SocketInit =>
  extension('envoy.transport_sockets.tls', DownstreamTlsContextSchema, {
    commonTlsContext: common(certificate, peer),
    requireClientCertificate: true,
    sessionTicketKeysType: { case: 'disableStatelessSessionResumption', value: true },
    disableStatefulSessionResumption: true,
  });

/** How a member's gateways are recognised, whichever side of the connection they are on. */
export const memberCheck = (clusterset: string, member: string): PeerCheck => ({
  roots: secretNames.member(member),
  uri: { exact: memberId(clusterset, member) },
});

/** Client side, from `self` to a member's federation listener. */
export const upstreamTls = (clusterset: string, self: string, member: string): SocketInit =>
  extension('envoy.transport_sockets.tls', UpstreamTlsContextSchema, {
    commonTlsContext: common(secretNames.federation, memberCheck(clusterset, member)),
    sni: memberServerName(clusterset, self),
    maxSessionKeys: 0,
  });
