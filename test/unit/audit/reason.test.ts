import { describe, expect, it } from 'vitest';
import { type Answer, outcomeOf, reasons } from '../../../src/audit/reason.ts';

const answer = (over: Partial<Answer>): Answer => ({
  status: 0,
  established: false,
  refused: undefined,
  transportFailure: false,
  flags: {},
  details: '',
  ...over,
});

describe('the outcome of a connection', () => {
  const cases: readonly (readonly [string, Partial<Answer>, string, string | undefined])[] = [
    ['a tunnel that ended', { status: 200, established: true }, 'closed', undefined],
    [
      'a tunnel that its caller ended',
      { status: 200, established: true, flags: { downstreamRemoteReset: true } },
      'closed',
      undefined,
    ],
    [
      'a tunnel that broke',
      { status: 200, established: true, flags: { upstreamConnectionTermination: true } },
      'cut',
      'broken',
    ],
    [
      'a tunnel that grew old',
      { status: 200, established: true, flags: { upstreamMaxStreamDurationReached: true } },
      'closed',
      'age',
    ],
    ['404', { status: 404, flags: { noRouteFound: true }, details: 'route_not_found' }, 'denied', 'not-exported'],
    ['403 of the loop', { status: 403, details: 'rbac_access_denied_matched_policy[loop]' }, 'denied', 'loop'],
    ['403 of another rule', { status: 403, details: 'rbac_access_denied' }, 'denied', 'forbidden'],
    [
      '403 of a policy whose name is like the loop’s',
      { status: 403, details: 'rbac_access_denied_matched_policy[loop/0]' },
      'denied',
      'policy',
    ],
    [
      '403 that no rule allows',
      { status: 403, details: 'rbac_access_denied_matched_policy[none]' },
      'denied',
      'policy',
    ],
    ['403 of the far side', { status: 403, details: 'via_upstream' }, 'denied', 'forbidden'],
    ['429 of our own', { status: 429, refused: 'source', details: 'local_rate_limited' }, 'denied', 'source'],
    [
      '429 of a far side that says it was ours',
      { status: 429, refused: 'source', details: 'via_upstream' },
      'denied',
      'limit',
    ],
    ['429 of a grant', { status: 429, refused: 'grant' }, 'denied', 'grant'],
    ['429 of the rate', { status: 429, refused: 'rate' }, 'denied', 'rate'],
    ['429 of anybody', { status: 429, refused: 'because' }, 'denied', 'limit'],
    ['429 without a word', { status: 429 }, 'denied', 'limit'],
    ['another 4xx', { status: 405 }, 'denied', 'refused'],
    ['nobody there', { status: 503, flags: { noHealthyUpstream: true } }, 'failed', 'no-endpoint'],
    ['nobody reached', { status: 503, flags: { upstreamConnectionFailure: true } }, 'failed', 'unreachable'],
    [
      'a certificate that was not accepted',
      { status: 503, flags: { upstreamConnectionFailure: true }, transportFailure: true },
      'failed',
      'tls',
    ],
    ['too many', { status: 503, flags: { upstreamOverflow: true } }, 'failed', 'overflow'],
    ['too late', { status: 504, flags: { upstreamRequestTimeout: true } }, 'failed', 'timeout'],
    ['a 503 of the far side', { status: 503, details: 'via_upstream' }, 'failed', 'refused'],
    ['no answer, and the caller left', { flags: { downstreamConnectionTermination: true } }, 'left', 'left'],
    ['no answer, for it broke', { flags: { upstreamRemoteReset: true } }, 'failed', 'broken'],
    ['no HTTP/2', { status: 400, flags: { downstreamProtocolError: true } }, 'denied', 'malformed'],
  ];
  for (const [what, given, result, reason] of cases) {
    it(`of ${what} is ${result}${reason === undefined ? '' : `, ${reason}`}`, () => {
      expect(outcomeOf(answer(given))).toEqual([result, reason]);
      if (reason !== undefined) expect(Object.keys(reasons)).toContain(reason);
    });
  }
});
