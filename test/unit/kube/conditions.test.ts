/** What conditions say: of exports, policies and Services. */
import { describe, expect, test } from 'vitest';
import { orderSteps } from '../../../src/failover/order.ts';
import type { PolicyOutcome } from '../../../src/failover/policy_set.ts';
import { compilePolicies } from '../../../src/failover/policy_set.ts';
import type { KubeRequest } from '../../../src/kube/api.ts';
import { type ConditionKind, type DesiredCondition, openConditionWriter } from '../../../src/kube/condition_writer.ts';
import { exportConditions, exportKind } from '../../../src/kube/conditions.ts';
import type { KubeEvent } from '../../../src/kube/events.ts';
import type { Condition } from '../../../src/kube/objects.ts';
import { policyConditions, policyKind } from '../../../src/kube/policy_conditions.ts';
import { serviceConditions, serviceKind } from '../../../src/kube/service_conditions.ts';
import { SimClock } from '../../sim/clock.ts';

const outcomeOf = (spec: unknown, older: unknown[] = [], before?: unknown): PolicyOutcome => {
  const object = (name: string, createdMs: number, of: unknown) =>
    ({ namespace: 'shop', name, uid: name, generation: 1, createdMs, spec: of }) as const;
  const all = (own: unknown) =>
    new Map(
      [...older.map((each, i) => object(`old${i}`, i, each)), object('new', 99, own)].map((o) => [`shop/${o.name}`, o]),
    );
  const sources = { setSpec: undefined, order: orderSteps([]), capabilities: { partialSpill: true } };
  const first = before === undefined ? undefined : compilePolicies({ ...sources, objects: all(before) });
  return compilePolicies({ ...sources, objects: all(spec) }, first).outcomes.get('shop/new')!;
};
const told = (outcome: PolicyOutcome, programmed = true, missing: string[] = []) =>
  policyConditions({ outcome, programmed, missing }).map(({ type, status, reason }) => `${type}=${status} ${reason}`);
const targets = (...names: string[]) => ({ targetRefs: names.map((name) => ({ name })) });

describe('a policy', () => {
  test('that decides', () => {
    expect(told(outcomeOf(targets('a')))).toEqual([
      'Accepted=True Accepted',
      'Conflicted=False NoConflicts',
      'Programmed=True Programmed',
      'Ready=True Programmed',
    ]);
    expect(told(outcomeOf({}), false)).toContain('Ready=False Pending');
    expect(told(outcomeOf({ ...targets('a'), mode: 'observe' }))).toContain('Ready=True Observing');
  });
  test('that cannot be read, with and without a last good version', () => {
    expect(told(outcomeOf({ mode: 'no' }))).toEqual([
      'Accepted=False InvalidPolicy',
      'Conflicted=False NoConflicts',
      'Programmed=False InvalidPolicy',
      'Ready=False InvalidPolicy',
    ]);
    const kept = outcomeOf({ mode: 'no' }, [], {});
    expect(told(kept)).toContain('Programmed=True Programmed');
    expect(told(kept)).toContain('Ready=False InvalidPolicy');
    const [accepted] = policyConditions({ outcome: kept, programmed: true, missing: [] });
    expect(accepted?.message).toMatch(/spec\.mode: "no".*last good version stays in use/);
  });
  test('that lost all of its targets, or some', () => {
    expect(told(outcomeOf(targets('a'), [targets('a')]))).toEqual([
      'Accepted=True Accepted',
      'Conflicted=True OlderPolicyDecides',
      'Programmed=False OlderPolicyDecides',
      'Ready=False OlderPolicyDecides',
    ]);
    expect(told(outcomeOf(targets('a', 'b'), [targets('a')]))).toContain('Ready=True PartlyConflicted');
    expect(told(outcomeOf({}, [{}]))).toContain('Ready=False OlderPolicyDecides');
  });
  test('whose targets nobody has', () => {
    expect(told(outcomeOf(targets('a')), true, ['shop/a'])).toContain('Ready=False TargetNotFound');
    const some = policyConditions({ outcome: outcomeOf(targets('a', 'b')), programmed: true, missing: ['shop/b'] });
    expect(some.at(-1)).toMatchObject({ status: 'True', message: expect.stringContaining('no Service shop/b') });
  });
  test('speaks in bounded words', () => {
    const many = targets(...Array.from({ length: 64 }, (_, i) => `${'x'.repeat(55)}${i}`));
    for (const { message } of policyConditions({ outcome: outcomeOf(many), programmed: true, missing: [] })) {
      expect(message.length).toBeLessThan(2_100);
    }
  });
});

describe('an export with a malformed capacity', () => {
  test('is ready, and says so in the reason', () => {
    const problem = { key: 'shop/a', code: 'service/capacity', message: 'annotation … is not a rate' } as const;
    const conditions = exportConditions({ problem, conflicts: [], published: true });
    expect(conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`)).toEqual([
      'Valid=True Valid',
      'Ready=True InvalidCapacity',
      'Conflict=False NoConflicts',
    ]);
    expect(conditions[1]?.message).toContain('is not a rate');
    expect(exportKind.announce(conditions[1]!, undefined)).toMatchObject({
      type: 'Warning',
      reason: 'InvalidCapacity',
    });
    const pending = exportConditions({ problem, conflicts: [], published: false })[1];
    expect(pending).toMatchObject({ status: 'False', reason: 'Pending' });
  });
});

describe('events', () => {
  const condition = (status: string, reason: string): Condition => ({
    type: 'Ready',
    status,
    reason,
    message: '',
    observedGeneration: 1,
    lastTransitionTime: '',
  });
  const ready = (status: DesiredCondition['status'], reason: string) => ({
    type: 'Ready',
    status,
    reason,
    message: 'm',
  });
  test('of a policy follow its summary, and the first good news is none', () => {
    expect(policyKind.announce(ready('True', 'Programmed'), undefined)).toBeUndefined();
    expect(policyKind.announce(ready('False', 'Pending'), undefined)).toBeUndefined();
    expect(policyKind.announce(ready('False', 'InvalidPolicy'), undefined)).toMatchObject({ type: 'Warning' });
    const back = policyKind.announce(ready('True', 'Programmed'), condition('False', 'InvalidPolicy'));
    expect(back).toMatchObject({ type: 'Normal' });
    expect(policyKind.announce({ ...ready('False', 'InvalidPolicy'), type: 'Accepted' }, undefined)).toBeUndefined();
  });
  test('of a Service say when traffic leaves, when the cause is another, and when it is back', () => {
    const to = (away: boolean, reason: string) => serviceConditions({ away, reason, message: 'm' })[0]!;
    expect(serviceKind.announce(to(true, 'NotReady'), undefined)).toMatchObject({
      type: 'Warning',
      reason: 'FailedOver',
    });
    expect(serviceKind.announce(to(true, 'Latched'), condition('True', 'NotReady'))).toMatchObject({
      reason: 'FailoverChanged',
    });
    expect(serviceKind.announce(to(false, ''), condition('True', 'Latched'))).toMatchObject({ reason: 'FailedBack' });
    expect(serviceKind.announce(to(false, ''), condition('False', 'InPlace'))).toBeUndefined();
  });
});

describe('the writer of conditions', () => {
  const setUp = (kind: ConditionKind, conditions: readonly Condition[] = []) => {
    const requests: KubeRequest[] = [];
    const events: KubeEvent[] = [];
    let failure: Error | undefined;
    const clock = new SimClock();
    const object = { namespace: 'shop', name: 'a', uid: 'u', apiVersion: 'v1', generation: 3, conditions };
    const writer = openConditionWriter({
      api: {
        request: async (request) => {
          requests.push(request);
          if (failure !== undefined) throw failure;
          return {};
        },
      },
      clock,
      log: () => {},
      kind,
      objects: new Map([['shop/a', object]]),
      isWriter: () => true,
      events: { tell: (event) => events.push(event) > 0 },
    });
    const settle = () => new Promise((resolve) => setImmediate(resolve));
    return { requests, events, writer, clock, settle, fail: (error: Error | undefined) => (failure = error) };
  };
  const away = serviceConditions({ away: true, reason: 'NotReady', message: 'm' });

  test('writes to the core API under its own name, once, with an event', async () => {
    const { requests, events, writer, settle } = setUp(serviceKind);
    writer.set('shop/a', away);
    writer.set('shop/a', away);
    await settle();
    expect(requests.length).toBe(1);
    expect(requests[0]).toMatchObject({
      method: 'PATCH',
      path: '/api/v1/namespaces/shop/services/a/status',
      query: { fieldManager: 'isthmus-failover', force: 'true' },
    });
    expect(events.map(({ reason, regarding }) => `${reason} ${regarding.uid}`)).toEqual(['FailedOver u']);
    writer.close();
  });
  test('says nothing of an object that never had anything to say, and takes back what stands', async () => {
    const home = serviceConditions({ away: false, reason: '', message: 'home' });
    const fresh = setUp(serviceKind);
    fresh.writer.set('shop/a', home);
    await fresh.settle();
    expect(fresh.requests).toEqual([]);
    fresh.writer.close();
    const before = { ...away[0]!, observedGeneration: 3, lastTransitionTime: '2026-01-01T00:00:00Z' };
    const stood = setUp(serviceKind, [before]);
    stood.writer.set('shop/a', home);
    await stood.settle();
    expect(stood.requests.length).toBe(1);
    expect(stood.events.map(({ reason }) => reason)).toEqual(['FailedBack']);
    stood.writer.close();
  });
  test('another wording of the same waits, another status or reason does not', async () => {
    const stood = { ...away[0]!, observedGeneration: 3, lastTransitionTime: '2026-01-01T00:00:00Z' };
    const { requests, writer, clock, settle } = setUp(serviceKind, [stood]);
    const worded = (message: string, reason = 'NotReady') => serviceConditions({ away: true, reason, message });
    const messages = () => requests.map(({ body }) => JSON.stringify(body).match(/"message":"([^"]*)"/)?.[1]);
    const said = async (...conditions: (readonly DesiredCondition[])[]) => {
      for (const each of conditions) {
        writer.set('shop/a', each);
        await settle();
      }
    };
    await said(worded('2 of 3'), worded('3 of 3'), worded('1 of 3'));
    expect(messages()).toEqual(['2 of 3']);
    await clock.advance(9_000);
    await said(worded('2 of 3'), worded('3 of 3'));
    expect(messages()).toEqual(['2 of 3']);
    await clock.advance(2_000);
    await settle();
    expect(messages()).toEqual(['2 of 3', '3 of 3']);
    await said(worded('0 of 3'), worded('latched', 'Latched'));
    expect(messages()).toEqual(['2 of 3', '3 of 3', 'latched']);
    // What waited is as it stands by now: nothing is left to write.
    await said(worded('unlatched', 'Latched'), worded('latched', 'Latched'));
    await clock.advance(20_000);
    await settle();
    expect(messages()).toEqual(['2 of 3', '3 of 3', 'latched']);
    writer.close();
  });
  test('what the watch has not brought back yet counts as written: nothing waits for what no longer stands', async () => {
    const stood = { ...away[0]!, observedGeneration: 3, lastTransitionTime: '2026-01-01T00:00:00Z' };
    const home = serviceConditions({ away: false, reason: '', message: 'home' });
    for (const message of ['m', 'in other words']) {
      const { requests, events, writer, settle } = setUp(serviceKind, [stood]);
      for (const conditions of [home, serviceConditions({ away: true, reason: 'NotReady', message })]) {
        writer.set('shop/a', conditions);
        await settle();
      }
      expect(requests.map(({ body }) => JSON.stringify(body).match(/"status":"(\w+)"/)?.[1])).toEqual([
        'False',
        'True',
      ]);
      expect(events.map(({ reason }) => reason)).toEqual(['FailedBack', 'FailedOver']);
      writer.close();
    }
  });
  test('tells no event of what was not written, and tries again', async () => {
    const { requests, events, writer, clock, settle, fail } = setUp(serviceKind);
    fail(new Error('dark'));
    writer.set('shop/a', away);
    await settle();
    expect(requests.length).toBe(1);
    expect(events).toEqual([]);
    fail(undefined);
    await clock.advance(40_000);
    await settle();
    expect(requests.length).toBe(2);
    expect(events.length).toBe(1);
    writer.close();
  });
});
