/** While one federation CA of a member follows another, a running gateway takes both, and nobody else's. */
import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, it } from 'vitest';
import { gatewayAuthority } from '../../../src/core/probing.ts';
import { secretNames } from '../../../src/translate/envoy/resource_names.ts';
import { memberSecret } from '../../../src/translate/envoy/secrets.ts';
import { member } from '../../unit/translate-envoy/fixture.ts';
import { newTestCa, type TestCa } from '../pki.ts';
import { until } from './processes.ts';
import { Rig } from './rig.ts';
import { serving, sites } from './three.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await Rig.start();
  rig.issuers.federation.set('next', await newTestCa('federation us-east 1'));
  await rig.configure({ ...sites['us-west'], services: serving('west', ['checkout']) });
  await rig.launch('us-west');
});
afterAll(async () => rig?.stop());

const derOf = ({ cert }: TestCa): Uint8Array => new Uint8Array(new X509Certificate(cert).raw);
/** By the CA of which us-east's gateway is let in by us-west. */
const letIn = async (expected: Readonly<Record<string, boolean>>): Promise<void> => {
  let seen: Record<string, boolean> = {};
  await until(JSON.stringify(expected), async () => {
    seen = {};
    for (const issuer of Object.keys(expected)) {
      const tls = await rig.peer('us-east', issuer);
      const answer = await rig.callers.call({ address: '127.0.2.1', port: 15_028, tls, authority: gatewayAuthority });
      seen[issuer] = answer.status === 200;
    }
    return JSON.stringify(seen) === JSON.stringify(expected);
  }).catch((error: Error) => {
    throw new Error(`${error.message}: ${JSON.stringify(seen)}`);
  });
};
const accept = async (...issuers: readonly string[]): Promise<void> => {
  const federationCas = issuers.map((issuer) => derOf(rig.issuers.federation.get(issuer)!));
  const succession = { number: 1, federationCas, madeMs: 1, overlapUntilMs: 2 };
  const east = memberSecret({ member: member('us-east', { federationCa: federationCas[0]! }), succession });
  await rig.configure({ ...sites['us-west'], services: serving('west', ['checkout']) }, (resources) =>
    resources.map((one) => (one.name === secretNames.member('us-east') && one.typeUrl === east.typeUrl ? east : one)),
  );
};

it('the one before, then both, then the new one alone', async () => {
  await letIn({ 'us-east': true, next: false, 'eu-central': false });
  await accept('next', 'us-east');
  await letIn({ 'us-east': true, next: true, 'eu-central': false });
  await accept('next');
  await letIn({ 'us-east': false, next: true, 'eu-central': false });
});
