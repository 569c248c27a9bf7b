import { describe, expect, it } from 'vitest';
import type { IsthmusError } from '../../../src/core/errors.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { connectStore } from '../../../src/store/etcd.ts';
import { storeError } from '../../../src/store/failure.ts';
import { keyAfter, prefixRange } from '../../../src/store/keyspace.ts';

const at = { what: 'list /x/', endpoint: 'https://etcd:2379' };
const grpc = (code: number, details: string): Error => Object.assign(new Error(details), { code, details });

describe('ranges', () => {
  it('end where the prefix does', () => {
    expect(Buffer.from(prefixRange('/a/').rangeEnd).toString()).toBe('/a0');
    expect(() => prefixRange('')).toThrow('empty');
    expect(Buffer.from(keyAfter(Buffer.from('ab')))).toEqual(Buffer.from('ab\0'));
  });
});

describe('failures of etcd', () => {
  it.each([
    [7, 'etcdserver: permission denied', 'store/denied'],
    [16, 'etcdserver: invalid auth token', 'store/denied'],
    [3, 'etcdserver: user name is empty', 'store/denied'],
    [3, 'etcdserver: request is too large', 'store/too-large'],
    [3, 'etcdserver: too many operations in txn request', 'store/too-large'],
    [3, 'etcdserver: revision of auth store is old', 'store/unavailable'],
    [8, 'etcdserver: mvcc: database space exceeded', 'store/no-space'],
    [8, 'etcdserver: too many requests', 'store/unavailable'],
    [14, 'etcdserver: leader changed', 'store/unavailable'],
    [4, 'Deadline exceeded after 5.0s', 'store/unavailable'],
    [
      14,
      'No connection established. Last error: Error: unable to verify the first certificate. Resolution note: ',
      'store/tls',
    ],
    [
      14,
      'No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:1. Resolution note: ',
      'store/unavailable',
    ],
    [13, 'something never seen', 'store/unavailable'],
  ])('%i "%s" is %s', (code, details, expected) => {
    const error = storeError(grpc(code, details), at);
    expect(error.code).toBe(expected);
    expect(error.message).toContain('https://etcd:2379');
    expect(error.hint).toBeTruthy();
  });

  it('are shown without what the transport adds', () => {
    const details =
      'No connection established. Last error: 40BD61D3CA7F0000:error:0A000418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca:../deps/openssl/openssl/ssl/record/rec_layer_s3.c:918:SSL alert number 48\n (2026-11-21T12:10:42.967Z). Resolution note: ';
    const { message } = storeError(grpc(14, details), at);
    expect(message).not.toMatch(/2026|deps|Resolution|\n/);
    expect(message).toContain('alert unknown ca');
  });
});

describe('endpoints', () => {
  const options = { ca: Buffer.from(''), cert: Buffer.from(''), key: Buffer.from(''), clock: realClock, log: () => {} };
  it.each([
    [[], 'store.endpoints is empty'],
    [['http://etcd:2379'], 'http://etcd:2379'],
    [['etcd:2379'], 'etcd:2379'],
    [['https://etcd:2379/path'], '/path'],
    [['https://user@etcd:2379'], 'user@'],
    [['nonsense'], 'nonsense'],
  ])('%j are refused by name', (endpoints, named) => {
    let error: IsthmusError | undefined;
    try {
      connectStore({ ...options, endpoints });
    } catch (e) {
      error = e as IsthmusError;
    }
    expect(error?.code).toBe('config/invalid');
    expect(error?.message).toContain(named);
  });
});
