/** A line of an access log as a connection over the border. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import type { Connection } from '../../../src/audit/connection.ts';
import type { AddressSchema } from '../../../src/gen/envoy/config/core/v3/address_pb.ts';
import { AccessLogType, HTTPAccessLogEntrySchema } from '../../../src/gen/envoy/data/accesslog/v3/accesslog_pb.ts';
import { connectionOf } from '../../../src/telemetry/connections.ts';

type Init = Extract<MessageInitShape<typeof HTTPAccessLogEntrySchema>, { $typeName?: never }>;
type Common = Extract<Init['commonProperties'], { $typeName?: never }>;

const socket = (address: string, port: number): MessageInitShape<typeof AddressSchema> => ({
  address: { case: 'socketAddress', value: { address, portSpecifier: { case: 'portValue', value: port } } },
});

const entry = (over: { common?: Common; request?: Init['request']; response?: Init['response'] } = {}) =>
  create(HTTPAccessLogEntrySchema, {
    commonProperties: {
      accessLogType: AccessLogType.DownstreamEnd,
      downstreamRemoteAddress: socket('10.1.0.7', 41_000),
      upstreamRemoteAddress: socket('192.0.2.1', 15_028),
      startTime: { seconds: 1_700_000_000n, nanos: 123_456_789 },
      duration: { seconds: 61n, nanos: 500_000_000 },
      upstreamRequestAttemptCount: 1,
      tlsProperties: {
        peerCertificateProperties: {
          subjectAltName: [{ san: { case: 'uri', value: 'spiffe://cluster.local/ns/shop/sa/client' } }],
        },
      },
      ...over.common,
    },
    request: { authority: 'checkout.shop.svc.cluster.local:80', requestBodyBytes: 100n, ...over.request },
    response: { responseCode: 200, responseBodyBytes: 2_000n, responseCodeDetails: 'via_upstream', ...over.response },
  } as Init);

const known = {
  memberOf: (identity: string) => /^spiffe:\/\/demo\/cluster\/(.+)$/.exec(identity)?.[1],
  serviceOf: (authority: string) => (authority.startsWith('checkout.') ? 'shop/checkout' : undefined),
};
const read = (log: string, of: ReturnType<typeof entry>, member = '') =>
  connectionOf(log, of, 'isthmus-gateway-0~1', member, known)!;

describe('an entry of the egress', () => {
  it('says who, to what, by which member, when, for how long, how many bytes', () => {
    const { begins, connection } = read('tunnels', entry(), 'us-west');
    expect(begins).toBe(false);
    expect(connection).toEqual({
      side: 'egress',
      result: 'closed',
      source: 'spiffe://cluster.local/ns/shop/sa/client',
      from: '10.1.0.7:41000',
      authority: 'checkout.shop.svc.cluster.local:80',
      service: 'shop/checkout',
      member: 'us-west',
      to: '192.0.2.1:15028',
      status: 200,
      startMs: 1_700_000_000_123,
      durationMs: 61_500,
      sent: 100,
      received: 2_000,
      gateway: 'isthmus-gateway-0',
    } satisfies Connection);
  });

  it('is known again by its end', () => {
    const common = { accessLogType: AccessLogType.DownstreamTunnelSuccessfullyEstablished };
    const start = read('tunnels', entry({ common }), 'us-west');
    expect(start).toMatchObject({ begins: true, connection: { result: 'open' } });
    expect(read('tunnels', entry(), 'us-west').key).toBe(start.key);
    const later = { startTime: { seconds: 1_700_000_000n, nanos: 123_456_790 } } as Common;
    expect(read('tunnels', entry({ common: later })).key).not.toBe(start.key);
  });

  it('says why there was no tunnel', () => {
    const flags = { responseFlags: { noRouteFound: true } } as Common;
    const response = { responseCode: 404, responseCodeDetails: 'route_not_found' } as Init['response'];
    expect(read('tunnels', entry({ common: flags, response })).connection).toMatchObject({
      result: 'denied',
      reason: 'not-exported',
      detail: 'route_not_found',
      status: 404,
    });
    const grant = { responseCode: 429, responseHeaders: { 'x-isthmus-refused': 'grant' } } as Init['response'];
    expect(read('tunnels', entry({ response: grant })).connection).toMatchObject({ result: 'denied', reason: 'grant' });
    const tls = {
      upstreamTransportFailureReason: 'TLS_error: CERTIFICATE_VERIFY_FAILED',
      responseFlags: { upstreamConnectionFailure: true },
      upstreamRequestAttemptCount: 4,
    } as Common;
    const failed = { responseCode: 503, responseCodeDetails: 'upstream_reset' } as Init['response'];
    expect(read('tunnels', entry({ common: tls, response: failed })).connection).toMatchObject({
      result: 'failed',
      reason: 'tls',
      detail: 'TLS_error: CERTIFICATE_VERIFY_FAILED',
      attempts: 4,
    });
  });
});

describe('an entry of the federation listener', () => {
  const identity = (uri: string): Common =>
    ({
      tlsProperties: { peerCertificateProperties: { subjectAltName: [{ san: { case: 'uri', value: uri } }] } },
    }) as Common;

  it('is by the member, and its workload is a claim', () => {
    const requestHeaders = { 'x-isthmus-source': 'spiffe://cluster.local/ns/shop/sa/client', 'x-isthmus-probe': 'x' };
    const request = { requestHeaders } as unknown as Init['request'];
    const { connection } = read('border', entry({ common: identity('spiffe://demo/cluster/us-east'), request }));
    expect(connection).toMatchObject({
      side: 'ingress',
      source: 'us-east',
      claim: 'spiffe://cluster.local/ns/shop/sa/client',
      probe: true,
    });
    expect(connection.member).toBeUndefined();
  });

  it('is by the name in the certificate when that is no member’s, or by nobody', () => {
    expect(read('border', entry({ common: identity('spiffe://other/x') })).connection.source).toBe('spiffe://other/x');
    expect(read('border', entry({ common: { tlsProperties: undefined } as Common })).connection.source).toBe('');
  });

  it('takes claims of the federation listener alone, and no text of any length', () => {
    const requestHeaders = { 'x-isthmus-source': 'x'.repeat(10_000) };
    const request = { authority: 'y'.repeat(10_000), requestHeaders } as unknown as Init['request'];
    expect(read('direct', entry({ request })).connection).not.toHaveProperty('claim');
    const { connection } = read('border', entry({ request }));
    expect(JSON.stringify(connection).length).toBeLessThan(1_500);
  });
});

describe('other entries', () => {
  it('of tries are no connections', () => expect(connectionOf('attempts', entry(), 'x~0', '', known)).toBeUndefined());
  it('that say nothing at all are read all the same', () => {
    const empty = create(HTTPAccessLogEntrySchema, {});
    expect(read('tunnels', empty).connection).toMatchObject({ result: 'left', source: '', status: 0, startMs: 0 });
  });
});
