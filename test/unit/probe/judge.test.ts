/** What answers mean: who failed, how far the probe came, and what is no evidence at all. */
import { describe, expect, it } from 'vitest';
import { hopHeader } from '../../../src/core/hop.ts';
import { judge } from '../../../src/probe/judge.ts';
import { lingerMs, probeTimeoutMs } from '../../../src/probe/timing.ts';

const of = (status: number, hops?: string) => judge({ status, headers: { [hopHeader]: hops } });
const near = (flags: string, details: string) => `egress;member=us-east;flags=${flags};details=${details}`;
const both = (far: string) => `federation;member=us-west;${far},${near('-', 'via_upstream')}`;

describe('an answer with the far gateway’s mark', () => {
  it.each([
    [200, { kind: 'reached', open: true, denied: false }],
    [403, { kind: 'reached', open: false, denied: true }],
    [401, { kind: 'reached', open: false, denied: true }],
    [429, { kind: 'reached', open: false, denied: true }],
    [404, { kind: 'reached', open: false, denied: false }],
    [503, { kind: 'reached', open: false, denied: false }],
  ])('%i has reached it', (status, expected) => {
    expect(of(status, both('flags=UH;details=no_healthy_upstream'))).toMatchObject({ ...expected, status });
  });
});

describe('an answer of our own gateway', () => {
  it.each([
    [
      'refused',
      'UF',
      'upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}',
      'tcp',
    ],
    ['late', 'UF', 'upstream_reset_before_response_started{connection_timeout}', 'tcp'],
    ['cut', 'UC', 'upstream_reset_before_response_started{connection_termination}', 'tcp'],
    [
      'wrong CA',
      'UF',
      'upstream_reset_before_response_started{remote_connection_failure|TLS_error:|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED}',
      'tls',
    ],
    ['reset', 'UR', 'upstream_reset_before_response_started{remote_reset}', 'connect'],
  ])('%s: how far it came', (_, flags, details, at) => {
    expect(of(503, near(flags, details))).toMatchObject({ kind: 'failed', at, status: 503 });
  });

  it.each([
    ['no route yet', 'NR', 'route_not_found'],
    ['no cluster yet', 'NC', 'cluster_not_found'],
    ['no address', 'UH', 'no_healthy_upstream'],
    ['its own limits', 'UO', 'upstream_overflow'],
  ])('%s: says nothing about the peer', (_, flags, details) => {
    expect(of(503, near(flags, details)).kind).toBe('local');
  });

  it('without any mark says nothing either', () => {
    expect(of(500).kind).toBe('local');
    expect(of(200, 'nonsense;flags=UF').kind).toBe('local');
  });
});

describe('times', () => {
  it('follow the path, and never fall below 600 ms', () => {
    expect(probeTimeoutMs({ rttMs: 1, varMs: 1 })).toBe(603);
    expect(probeTimeoutMs({ rttMs: 80, varMs: 10 })).toBe(840);
    expect(probeTimeoutMs({ rttMs: 200, varMs: 100 })).toBe(1_800);
    expect(probeTimeoutMs(undefined)).toBe(900);
    expect(lingerMs({ rttMs: 1, varMs: 0 })).toBe(21);
    expect(lingerMs({ rttMs: 900, varMs: 100 })).toBe(500);
  });
});
