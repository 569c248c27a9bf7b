import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { isSealed, openState, sealBytes, sealState, stateSecret } from '../../../src/records/sealed_state.ts';

const made = () => stateSecret(generateKeyPairSync('ed25519').privateKey);

describe('a sealed state', () => {
  const key = made();
  const state = Buffer.from('{"services":["shop/secret"]}');

  it('is opened by whoever has the record key, and by nobody else', () => {
    const sealed = sealState(key, state);
    expect(isSealed(sealed)).toBe(true);
    expect(sealed.length).toBe(state.length + sealBytes);
    expect(Buffer.from(sealed).includes('secret')).toBe(false);
    const opened = openState([key], sealed);
    expect(opened.ok && Buffer.from(opened.value).equals(state)).toBe(true);
    expect(openState([made()], sealed).ok).toBe(false);
    expect(openState([], sealed).ok).toBe(false);
    for (const at of [0, 20, 40, sealed.length - 1]) {
      const changed = Uint8Array.from(sealed);
      changed[at]! ^= 1;
      const read = openState([key], changed);
      expect(read.ok && Buffer.from(read.value).equals(state)).toBe(false);
    }
    expect(openState([key], sealed.slice(0, 20)).ok).toBe(false);
  });

  it('is opened by the right one of several keys', () => {
    const sealed = sealState(key, state);
    for (const keys of [
      [key, made()],
      [made(), key],
      [made(), made(), key],
    ]) {
      const opened = openState(keys, sealed);
      expect(opened.ok && Buffer.from(opened.value).equals(state)).toBe(true);
    }
  });

  it('is the same bytes for the same content, and one that is not sealed passes', () => {
    expect(sealState(key, state)).toEqual(sealState(key, state));
    const opened = openState([key], state);
    expect(opened.ok && opened.value).toBe(state);
    expect([new Uint8Array(), state].map(isSealed)).toEqual([false, false]);
  });
});
