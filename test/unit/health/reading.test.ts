import { describe, expect, it } from 'vitest';
import { canaryAnswer, readProbe, readTraffic } from '../../../src/health/reading.ts';
import { badProbe, probe, traffic } from './scene.ts';

const cart = { service: 'shop/cart' };
const says = (...args: Parameters<typeof probe>) => {
  const { peer, service } = readProbe(probe(...args));
  return `${peer} ${service}`;
};

describe('a probe', () => {
  it('of a gateway is about the peer alone, wherever it broke', () => {
    expect(says('eu', 1)).toBe('good nothing');
    for (const failedAt of ['tcp', 'tls', 'connect'] as const) {
      expect(says('eu', 1, { ok: false, failedAt })).toBe('bad nothing');
    }
  });

  it('of a service is about whose part of the path broke', () => {
    const broken = (change: object) => says('eu', 1, { ...cart, ok: false, ...change });
    expect(says('eu', 1, cart)).toBe('good good');
    expect(broken({ failedAt: 'tcp' })).toBe('bad nothing');
    expect(broken({ failedAt: 'tls' })).toBe('bad nothing');
    expect(broken({ failedAt: 'connect' })).toBe('nothing bad');
    expect(broken({ failedAt: 'connect', status: 503 })).toBe('nothing bad');
    expect(broken({ failedAt: 'connect', status: 503, reached: true })).toBe('good bad');
    expect(broken({ failedAt: 'inner-tls' })).toBe('good bad');
    expect(broken({ failedAt: 'identity' })).toBe('good bad');
    expect(broken({ failedAt: 'connect', status: 429 })).toBe('good nothing');
    expect(broken({ failedAt: 'connect', status: 403, denied: true })).toBe('good good');
  });
});

describe('a canary', () => {
  const asked = (change: object) => canaryAnswer(badProbe('eu', 1, { ...cart, failedAt: 'connect', ...change }));
  it('is refused by the peer, gets through, or does not say', () => {
    for (const status of [404, 503]) {
      expect(asked({ status })).toBe('gone');
      expect(asked({ status, reached: true })).toBe('gone');
      expect(asked({ status, reached: false })).toBeUndefined();
    }
    expect(asked({ status: 429 })).toBeUndefined();
    expect(asked({ status: undefined })).toBeUndefined();
    expect(asked({ failedAt: 'tcp', status: 503 })).toBeUndefined();
    expect(asked({ ok: true, denied: true, status: 403 })).toBeUndefined();
    expect(asked({ failedAt: 'inner-tls', status: 200 })).toBe('answers');
    expect(canaryAnswer(probe('eu', 1, cart))).toBe('answers');
    expect(canaryAnswer(probe('eu', 1))).toBeUndefined();
  });
});

describe('windows of traffic', () => {
  const read = (...windows: ReturnType<typeof traffic>[]) => readTraffic(windows, (atMs) => atMs);
  it('add up, and the same one counts once', () => {
    const one = traffic('eu', 1_000, { ...cart, established: 3 });
    const other = traffic('eu', 1_500, { ...cart, established: 4, windowMs: 500 });
    expect(read(one, one, other)?.services.get('shop/cart')).toMatchObject({
      atMs: 1_500,
      windowMs: 1_500,
      established: 7,
    });
    expect(read(one, other)?.total.established).toBe(7);
    expect(read(one, traffic('eu', 1_000, { established: 9 }))?.total.established).toBe(9);
  });
  it('share errors to reach the peer when most of at least two services have them', () => {
    const failing = (name: string) => traffic('eu', 1_000, { service: name, localErrors: 5 });
    const fine = (name: string) => traffic('eu', 1_000, { service: name, established: 5 });
    expect(read(failing('a/a'))?.sharedErrors).toBe(false);
    expect(read(failing('a/a'), fine('a/b'))?.sharedErrors).toBe(false);
    expect(read(failing('a/a'), failing('a/b'), fine('a/c'))?.sharedErrors).toBe(true);
    expect(read(traffic('eu', 1_000, { localErrors: 5 }))?.sharedErrors).toBe(true);
  });
});
