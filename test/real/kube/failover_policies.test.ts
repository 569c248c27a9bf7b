/** FailoverPolicies against a real API server: what it accepts, what is seen of them, what is written on them. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { formatDuration } from '../../../src/core/duration.ts';
import { orderSteps } from '../../../src/failover/order.ts';
import { defaultPolicy } from '../../../src/failover/policy.ts';
import { policyFields } from '../../../src/failover/policy_fields.ts';
import { parsePolicySpec } from '../../../src/failover/policy_object.ts';
import { compilePolicies } from '../../../src/failover/policy_set.ts';
import { policyConditions, policyKind } from '../../../src/kube/policy_conditions.ts';
import { exampleObject } from '../../../tools/policy_files.ts';
import { type Installed, policiesPath as policies, startInstalled } from './installed.ts';
import { eventually } from './objects.ts';

const crd = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/failoverpolicies.isthmus.dev';
let world: Installed;

const object = (name: string, spec: unknown) => ({
  apiVersion: 'isthmus.dev/v1alpha1',
  kind: 'FailoverPolicy',
  metadata: { name, namespace: 'shop' },
  spec,
});
/** '' when the server takes it, else what it says. */
const refusal = (spec: unknown): Promise<string> =>
  world.server.call('POST', `${policies}?dryRun=All&fieldValidation=Strict`, object('tried', spec)).then(
    () => '',
    (error) => String(error.message),
  );

beforeAll(async () => {
  world = await startInstalled();
});
afterEach(() => world.closeOpened());
afterAll(() => world?.stop());

describe('the definition', () => {
  test('takes the example of the documentation, and what the parser takes, and nothing else', async () => {
    expect(await refusal((exampleObject() as { spec: unknown }).spec)).toBe('');
    expect(await refusal({})).toBe('');
    const tried: [string, unknown][] = policyFields.flatMap(({ path, type }): [string, unknown][] => {
      const values: unknown[] =
        type.kind === 'integer'
          ? [type.min, type.max, type.min - 1, type.max + 1, 'x']
          : type.kind === 'duration'
            ? [formatDuration(type.minMs), formatDuration(type.maxMs), formatDuration(type.maxMs + 1_000), '1.5s', 'x']
            : type.kind === 'rate'
              ? ['1/s', '1000000/s', '1000001/s', '0/s', '5']
              : type.kind === 'word'
                ? [...type.words, 'x', '']
                : type.kind === 'steps'
                  ? [[100], [1, 100], [100, 1], [50], [10, 10, 100], [], [0, 100], [50, 101]]
                  : [];
      return values.map((value) => [path, value]);
    });
    for (const path of policyFields.filter(({ type }) => type.kind === 'order').map((field) => field.path)) {
      for (const value of [
        [{ type: 'any' }],
        [{ type: 'local' }, { type: 'same-region' }, { type: 'cluster', name: 'a' }, { type: 'region', name: 'A.b' }],
        [],
        [{ type: 'any' }, { type: 'local' }],
        [{ type: 'local' }, { type: 'local' }],
        [{ type: 'cluster' }],
        [{ type: 'any', name: 'x' }],
        [{ type: 'here' }],
        [{ type: 'local', weight: 3 }],
      ]) {
        tried.push([path, value]);
      }
    }
    const wrong: string[] = [];
    for (const [path, value] of tried) {
      const [first = '', second] = path.split('.');
      const spec = second === undefined ? { [first]: value } : { [first]: { [second]: value } };
      const said = await refusal(spec);
      const parsed = parsePolicySpec(spec, defaultPolicy, 'shop/tried');
      // A relation to a default is the controller's to see: the server knows only what the object says.
      const relation = !parsed.ok && /is below/.test(parsed.error.message);
      if ((said === '') !== (parsed.ok || relation)) wrong.push(`${path} = ${JSON.stringify(value)}: ${said}`);
    }
    expect(wrong).toEqual([]);
    expect(tried.length).toBeGreaterThan(150);
  });

  test('says what is wrong in words', async () => {
    const said: [unknown, RegExp][] = [
      [{ thresholds: { silentAfter: '0s' } }, /spec\.thresholds\.silentAfter.*must be from 1s to 1h/],
      [{ thresholds: { silentAftr: '5s' } }, /unknown field .*spec\.thresholds\.silentAftr/],
      [{ order: [{ type: 'any' }, { type: 'local' }] }, /any takes in every cluster: put it last/],
      [{ order: [{ type: 'region' }] }, /cluster and region need a name/],
      [{ failback: { steps: [50] } }, /the last step must be 100/],
      [
        { outlierDetection: { baseEjectionTime: '1m', maxEjectionTime: '30s' } },
        /maxEjectionTime must not be below baseEjectionTime/,
      ],
      [{ thresholds: { flapPenalty: 9, flapLimit: 3 } }, /flapLimit must not be below flapPenalty/],
      [{ targetRefs: [{ name: 'a' }, { name: 'a' }] }, /Duplicate value/],
    ];
    for (const [spec, message] of said) expect(await refusal(spec)).toMatch(message);
  });
});

describe('a policy', () => {
  test('is seen, follows its object, and our own status writes are no change of it', async () => {
    const discovery = await world.discover();
    expect(discovery.cluster.failoverPolicies.size).toBe(0);
    await world.make.create(policies, object('pay', { targetRefs: [{ name: 'pay' }], mode: 'observe' }));
    await eventually('seen', () => discovery.cluster.failoverPolicies.has('shop/pay'));
    const first = discovery.cluster.failoverPolicies.get('shop/pay')!;
    expect(first).toMatchObject({ generation: 1, spec: { targetRefs: [{ name: 'pay' }], mode: 'observe' } });
    const conditions = world.conditions(policyKind, discovery.policyObjects);
    const sources = { setSpec: undefined, order: orderSteps([]), capabilities: { partialSpill: true } };
    const compiled = compilePolicies({ ...sources, objects: discovery.cluster.failoverPolicies });
    const outcome = compiled.outcomes.get('shop/pay')!;
    conditions.set('shop/pay', policyConditions({ outcome, programmed: true, missing: [] }));
    const standing = () => discovery.policyObjects.get('shop/pay')?.conditions ?? [];
    const is = (type: string) => standing().find((condition) => condition.type === type);
    await eventually('conditions', () => standing().length === 4);
    expect(is('Accepted')).toMatchObject({ status: 'True', reason: 'Accepted', observedGeneration: 1 });
    expect(is('Conflicted')).toMatchObject({ status: 'False', reason: 'NoConflicts' });
    expect(is('Programmed')).toMatchObject({ status: 'True', message: 'it decides for shop/pay' });
    expect(is('Ready')).toMatchObject({ status: 'True', reason: 'Observing' });
    expect(discovery.cluster.failoverPolicies.get('shop/pay')).toBe(first);
    await world.make.patch(`${policies}/pay`, { spec: { mode: 'act' } });
    await eventually('followed', () =>
      JSON.stringify(discovery.cluster.failoverPolicies.get('shop/pay')?.spec).includes('"act"'),
    );
    await world.make.remove(`${policies}/pay`);
    await eventually('gone', () => !discovery.cluster.failoverPolicies.has('shop/pay'));
  });

  test('that loses to an older one is told so, by a condition and one event, by the writer alone', async () => {
    const discovery = await world.discover();
    await world.make.create(policies, object('older', { targetRefs: [{ name: 'cart' }] }));
    // Ages have seconds.
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await world.make.create(policies, object('a-newer', { targetRefs: [{ name: 'cart' }] }));
    await eventually('both', () => discovery.cluster.failoverPolicies.size === 2);
    const compiled = compilePolicies({
      objects: discovery.cluster.failoverPolicies,
      setSpec: undefined,
      order: orderSteps([]),
      capabilities: { partialSpill: true },
    });
    expect(compiled.policies.services.get('shop/cart')?.name).toBe('shop/older');
    let writes = false;
    let patches = 0;
    const conditions = world.conditions(policyKind, discovery.policyObjects, {
      isWriter: () => writes,
      onPatch: () => patches++,
    });
    const tell = () => {
      for (const [key, outcome] of compiled.outcomes) {
        conditions.set(key, policyConditions({ outcome, programmed: true, missing: [] }));
      }
    };
    tell();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(patches).toBe(0);
    writes = true;
    conditions.recheck();
    const is = (key: string, type: string) =>
      discovery.policyObjects.get(key)?.conditions.find((condition) => condition.type === type);
    await eventually('told', () => is('shop/a-newer', 'Conflicted')?.status === 'True');
    await eventually('both', () => is('shop/older', 'Ready')?.status === 'True');
    expect(is('shop/a-newer', 'Ready')).toMatchObject({ status: 'False', reason: 'OlderPolicyDecides' });
    expect(is('shop/a-newer', 'Conflicted')?.message).toBe('shop/older is older and decides for shop/cart');
    await eventually('an event', async () => (await world.events('FailoverPolicy', 'a-newer')).length > 0);
    for (let again = 0; again < 5; again++) tell();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(patches).toBe(2);
    expect((await world.events('FailoverPolicy', 'a-newer')).map(({ type, reason }) => `${type} ${reason}`)).toEqual([
      'Warning OlderPolicyDecides',
    ]);
    expect(await world.events('FailoverPolicy', 'older')).toEqual([]);
    await world.make.remove(`${policies}/older`);
    await world.make.remove(`${policies}/a-newer`);
  });

  test('of a cluster without the kind is none, and that is no error; it may come and go', async () => {
    await world.server.call('DELETE', crd);
    await eventually('the kind is gone', async () => !(await world.policiesServed()));
    const discovery = await world.discover();
    expect(discovery.synced().pending).toEqual([]);
    expect(discovery.cluster.failoverPolicies.size).toBe(0);
    await world.install();
    await world.make.create(policies, object('late', {}));
    await eventually('seen', () => discovery.cluster.failoverPolicies.has('shop/late'));
    await world.server.call('DELETE', crd);
    await eventually('gone with the kind', () => discovery.cluster.failoverPolicies.size === 0);
    await world.install();
  });
});
