/** The controller's own serving certificate, from the cluster's intermediate: proxies check it with the mesh's roots. */
import type { Authority } from './authority.ts';
import type { CertificateAndKey } from './federation.ts';
import { mint, newP256, type RandomBytes, validity } from './mint.ts';
import { pemOf } from './pem.ts';

export interface ServingInput {
  /** Names under which proxies reach the controller. */
  readonly dns: readonly string[];
  readonly ips?: readonly string[];
  /** The controller's own identity, when it also acts as a client. */
  readonly uris?: readonly string[];
  readonly ttlS: number;
  readonly nowMs: number;
}

export interface Serving extends CertificateAndKey {
  /** PEM: the mesh roots, which clients of the mTLS port must chain to. */
  readonly roots: string;
}

/** Both names that ztunnels are configured with: ours, and istiod's, which stock installations use. */
export const servingNames = (namespace: string, clusterDomain: string): readonly string[] =>
  [`isthmus-controller.${namespace}.svc`, 'istiod.istio-system.svc'].flatMap((name) => [
    name,
    `${name}.${clusterDomain}`,
  ]);

/** `cert` holds the leaf and the intermediates, as TLS servers send them. @throws IsthmusError 'trust/invalid'. */
export const issueServing = async (
  authority: Authority,
  input: ServingInput,
  random: RandomBytes,
): Promise<Serving> => {
  const pair = newP256();
  const leaf = await mint(
    { certificate: authority.certificate, signing: authority.signing },
    {
      commonName: input.dns[0] ?? 'isthmus-controller',
      dns: input.dns,
      ips: input.ips ?? [],
      uris: input.uris ?? [],
      publicKey: pair.publicKey,
      ...validity(input.nowMs, input.ttlS, authority),
    },
    random,
  );
  return {
    cert: [leaf, ...authority.intermediates].map(pemOf).join(''),
    key: pair.keyPem,
    roots: authority.roots.map(pemOf).join(''),
    notAfterMs: leaf.validToDate.getTime(),
  };
};
