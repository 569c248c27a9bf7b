import { describe, expect, it } from 'vitest';
import { isLastController } from '../../../src/controller/farewell.ts';
import type { LocalPod } from '../../../src/federation/local.ts';

const pod = (name: string, over: Partial<LocalPod> = {}): LocalPod =>
  ({
    namespace: 'isthmus-system',
    name,
    serviceAccount: 'isthmus-controller',
    ready: true,
    terminating: false,
    ...over,
  }) as LocalPod;
const last = (pods: readonly LocalPod[], staleMs = 1_000): boolean =>
  isLastController({
    namespace: 'isthmus-system',
    replica: 'a',
    pods: new Map(pods.map((each) => [`${each.namespace}/${each.name}`, each])),
    staleMs,
  });
const leaving = { terminating: true };

describe('a controller that ends', () => {
  it('is the last one when no other stays', () => {
    expect(last([pod('a', leaving), pod('b', leaving)])).toBe(true);
    expect(last([pod('a', leaving), pod('gateway', { serviceAccount: 'isthmus-gateway' })])).toBe(true);
    expect(last([pod('a', leaving), pod('b', { namespace: 'other' })])).toBe(true);
  });

  it('is not when another takes over, be it one that is not ready yet', () => {
    expect(last([pod('a', leaving), pod('b')])).toBe(false);
    expect(last([pod('a', leaving), pod('b', { ready: false })])).toBe(false);
  });

  it('does not claim to be where it cannot know', () => {
    expect(last([])).toBe(false);
    expect(last([pod('a', leaving)], 600_000)).toBe(false);
  });
});
