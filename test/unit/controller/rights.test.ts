import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { rightsProblem } from '../../../src/controller/rights.ts';
import { openState, sealState } from '../../../src/records/sealed_state.ts';

const range = (from: string, to: string) => ({ read: true, write: false, from, to });
const shared = [
  range('/isthmus/v1/demo/set/', '/isthmus/v1/demo/set0'),
  range('/isthmus/v1/demo/public/', '/isthmus/v1/demo/public0'),
];
const problem = (...more: ReturnType<typeof range>[]) => rightsProblem([...shared, ...more], 'demo', 'us-west');

describe('the role of a member', () => {
  it('is as it should be, reads too much, or too little', () => {
    expect(problem(range('/isthmus/v1/demo/to/us-west/', '/isthmus/v1/demo/to/us-west0'))).toBeUndefined();
    expect(problem(range('/isthmus/v1/demo/', '/isthmus/v1/demo0'))?.message).toContain('for others alone');
    expect(problem(range('/isthmus/v1/demo/to/', '/isthmus/v1/demo/to0'))?.message).toContain('for others alone');
    expect(problem()?.message).toContain('for it alone');
    expect(problem(range('/isthmus/v1/demo/to/us/', '/isthmus/v1/demo/to/us0'))?.message).toContain('for it alone');
    expect(problem()?.hint).toContain('isthmus authority roles');
  });
});

describe('a sealed state', () => {
  const key = generateKeyPairSync('ed25519').privateKey;
  const state = Buffer.from('{"services":["shop/secret"]}');

  it('is opened by whoever has the record key, and by nobody else', () => {
    const sealed = sealState(key, state);
    expect(Buffer.from(sealed).includes('secret')).toBe(false);
    const opened = openState(key, sealed);
    expect(opened.ok && Buffer.from(opened.value).equals(state)).toBe(true);
    expect(openState(generateKeyPairSync('ed25519').privateKey, sealed).ok).toBe(false);
    for (const at of [0, 20, 40, sealed.length - 1]) {
      const changed = Uint8Array.from(sealed);
      changed[at]! ^= 1;
      const read = openState(key, changed);
      expect(read.ok && Buffer.from(read.value).equals(state)).toBe(false);
    }
    expect(openState(key, sealed.slice(0, 20)).ok).toBe(false);
  });

  it('is the same bytes for the same content, and one that is not sealed passes', () => {
    expect(sealState(key, state)).toEqual(sealState(key, state));
    const opened = openState(key, state);
    expect(opened.ok && opened.value).toBe(state);
  });
});
