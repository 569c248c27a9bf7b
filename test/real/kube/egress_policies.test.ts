/** EgressPolicies against a real API server: what it accepts, who may write them, what is seen of them, what is written on them. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { egressConditions, egressKind } from '../../../src/kube/egress_conditions.ts';
import { parseEgressPolicy } from '../../../src/trust/egress_policy.ts';
import { type CompiledEgress, compileEgress } from '../../../src/trust/egress_rules.ts';
import { type Installed, startInstalled } from './installed.ts';
import { eventually } from './objects.ts';

const policies = '/apis/isthmus.dev/v1alpha1/egresspolicies';
let world: Installed;

const object = (name: string, spec: unknown) => ({
  apiVersion: 'isthmus.dev/v1alpha1',
  kind: 'EgressPolicy',
  metadata: { name },
  spec,
});
const from = [{ source: { namespaces: ['shop'] } }];
const to = [{ services: ['pay/ledger'] }];
const good = { action: 'DENY', rules: [{ from, to }] };

/** '' when the server takes it, else what it says. */
const refusal = (spec: unknown): Promise<string> =>
  world.server.call('POST', `${policies}?dryRun=All`, object('tried', spec)).then(
    () => '',
    (error) => String(error.message),
  );

beforeAll(async () => {
  world = await startInstalled();
  await eventually('the kind is served', () =>
    world.server.call('GET', policies).then(
      () => true,
      () => false,
    ),
  );
});
afterEach(() => world.closeOpened());
afterAll(() => world?.stop());

describe('the definition', () => {
  test('takes what the parser takes, and refuses much of what it refuses', async () => {
    for (const spec of [
      good,
      { action: 'ALLOW' },
      { action: 'ALLOW', rules: [] },
      { action: 'ALLOW', rules: [{ from, to, members: ['us-west'] }] },
      { action: 'LIMIT', rules: [{ from, connectsPerSecond: 2.5 }] },
      {
        action: 'ALLOW',
        rules: [{ from: [{ source: { principals: ['cluster.local/ns/a/sa/b*'] } }], to: [{ services: ['*'] }] }],
      },
    ]) {
      expect(await refusal(spec), JSON.stringify(spec)).toBe('');
      expect(parseEgressPolicy('tried', spec, 'cluster.local').ok).toBe(true);
    }
    for (const spec of [
      {},
      { action: 'deny' },
      { action: 'DENY', rules: [{ to }] },
      { action: 'DENY', rules: [{ from: [], to }] },
      { action: 'DENY', rules: [{ from: [{}], to }] },
      { action: 'DENY', rules: [{ from: [{ source: {} }], to }] },
      { action: 'DENY', rules: [{ from: [{ source: { namespaces: ['a'], principals: ['b'] } }], to }] },
      { action: 'DENY', rules: [{ from, to: [{}] }] },
      { action: 'LIMIT', rules: [{ from, connectsPerSecond: -1 }] },
    ]) {
      expect(await refusal(spec), JSON.stringify(spec)).not.toBe('');
      expect(parseEgressPolicy('tried', spec, 'cluster.local').ok).toBe(false);
    }
  });

  test('keeps what it does not know, so that a misspelt field is refused and not dropped', async () => {
    const spec = { action: 'ALLOW', rules: [{ from, to, member: ['us-west'] }] };
    const made = await world.server.call<{ spec: unknown }>('POST', `${policies}?dryRun=All`, object('tried', spec));
    expect(made.spec).toEqual(spec);
    expect(parseEgressPolicy('tried', made.spec, 'cluster.local').ok).toBe(false);
  });

  test('is out of reach for whoever owns a namespace', async () => {
    await world.server.call('POST', '/api/v1/namespaces/shop/serviceaccounts', {
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name: 'owner' },
    });
    await world.server.call('POST', '/apis/rbac.authorization.k8s.io/v1/namespaces/shop/rolebindings', {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'RoleBinding',
      metadata: { name: 'owner' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'admin' },
      subjects: [{ kind: 'ServiceAccount', name: 'owner', namespace: 'shop' }],
    });
    for (const verb of ['create', 'update', 'patch', 'delete', 'list'])
      for (const namespace of ['', 'shop']) {
        const { status } = await world.server.call<{ status: { allowed: boolean } }>(
          'POST',
          '/apis/authorization.k8s.io/v1/subjectaccessreviews',
          {
            apiVersion: 'authorization.k8s.io/v1',
            kind: 'SubjectAccessReview',
            spec: {
              user: 'system:serviceaccount:shop:owner',
              groups: ['system:serviceaccounts', 'system:serviceaccounts:shop', 'system:authenticated'],
              resourceAttributes: { group: 'isthmus.dev', resource: 'egresspolicies', verb, namespace },
            },
          },
        );
        expect(status.allowed, `${verb} ${namespace}`).toBe(false);
      }
  });
});

describe('a policy', () => {
  test('is seen, gets its conditions and its last good version, and keeps it when it turns bad', async () => {
    const discovery = await world.discover();
    expect(discovery.cluster.egressPolicies?.size).toBe(0);
    const conditions = world.conditions(egressKind, discovery.egressObjects);
    let compiled: CompiledEgress | undefined;
    const tell = (): void => {
      compiled = compileEgress(new Map(discovery.cluster.egressPolicies), 'cluster.local', compiled);
      for (const [name, outcome] of compiled.outcomes)
        conditions.set(name, egressConditions(outcome), outcome.accepted && { accepted: outcome.accepted });
    };
    await world.server.call('POST', policies, object('ledger', good));
    await eventually('seen', () => discovery.cluster.egressPolicies?.has('ledger') === true);
    tell();
    const standing = (type: string) =>
      discovery.egressObjects.get('ledger')?.conditions.find((condition) => condition.type === type);
    await eventually('written', () => standing('Ready')?.status === 'True');
    expect(discovery.egressObjects.get('ledger')?.accepted).toEqual({ generation: 1, spec: good });
    expect(standing('Accepted')).toMatchObject({ status: 'True', observedGeneration: 1 });

    const bad = {
      ...object('ledger', { action: 'DENY', rules: [{ from: [{ source: { namespaces: ['NO'] } }], to }] }),
    };
    await world.make.patch(`${policies}/ledger`, { spec: bad.spec });
    await eventually('seen', () => discovery.cluster.egressPolicies?.get('ledger')?.generation === 2);
    tell();
    await eventually('written', () => standing('Ready')?.reason === 'LastGoodInForce');
    expect(standing('Accepted')).toMatchObject({
      status: 'False',
      reason: 'InvalidPolicy',
      message: expect.stringContaining('"NO"'),
    });
    expect(discovery.egressObjects.get('ledger')?.accepted).toEqual({ generation: 1, spec: good });
    // A controller that starts now.
    const fresh = compileEgress(new Map(discovery.cluster.egressPolicies), 'cluster.local');
    expect(fresh.rules).toEqual(compiled!.rules);
    expect(fresh.rules.deny).toHaveLength(1);
    await world.server.call('DELETE', `${policies}/ledger`);
    await eventually('gone', () => discovery.cluster.egressPolicies?.size === 0);
  });
});
