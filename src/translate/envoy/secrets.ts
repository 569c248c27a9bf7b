/** Secrets: our two certificates, and the roots under which callers and peers are checked, each set on its own. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { MemberView } from '../../federation/view.ts';
import { SecretSchema } from '../../gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.ts';
import { type Encoded, encode, typeUrls } from './encoded.ts';
import type { CertificatePem, GatewaySecrets } from './input.ts';
import { secretNames } from './resource_names.ts';

const inline = (text: string) => ({ specifier: { case: 'inlineString' as const, value: text } });

const secret = (name: string, type: MessageInitShape<typeof SecretSchema>['type']): Encoded =>
  encode(typeUrls.secret, name, SecretSchema, create(SecretSchema, type === undefined ? { name } : { name, type }));

const certificate = (name: string, pem: CertificatePem): Encoded =>
  secret(name, {
    case: 'tlsCertificate',
    value: { certificateChain: inline(pem.chain), privateKey: inline(pem.key) },
  });

/** @param lists - of every CA of a chain: Envoy refuses a chain of which it has not all */
const roots = (name: string, pem: string, lists?: string): Encoded =>
  secret(name, {
    case: 'validationContext',
    value: { trustedCa: inline(pem), ...(lists === undefined ? {} : { crl: inline(lists) }) },
  });

/** A DER certificate as PEM. */
export const pemOf = (der: Uint8Array): string => {
  const base64 = Buffer.from(der).toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${base64.replace(/(.{64})(?=.)/g, '$1\n')}\n-----END CERTIFICATE-----\n`;
};

export const ownSecrets = (secrets: GatewaySecrets): Encoded[] => [
  certificate(secretNames.mesh, secrets.mesh),
  certificate(secretNames.federation, secrets.federation),
  roots(secretNames.meshRoots, secrets.meshRoots, secrets.meshLists),
  roots(secretNames.tradedRoots, secrets.tradedRoots, secrets.tradedLists),
];

/** While one federation CA follows another both are accepted: its gateways change over one by one. */
export const memberSecret = ({ member, succession }: Pick<MemberView, 'member' | 'succession'>): Encoded =>
  roots(secretNames.member(member.name), (succession?.federationCas ?? [member.federationCa]).map(pemOf).join(''));
