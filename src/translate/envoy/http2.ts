/**
 * HTTP/2 as ztunnel uses it, and the bounds it needs.
 *
 * ztunnel ends every tunnel with RST_STREAM. Envoy takes more than 1,000 of those, then 33 a second on one connection for
 * an attack (rapid reset) and closes the connection with every tunnel in it. So the bucket is made as large as an honest
 * peer can need, and stays a bound: a connection has at most `streamsMax` streams, a peer is known by its certificate,
 * and what it may spend is 5,000 resets a second.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { Http2ProtocolOptionsSchema } from '../../gen/envoy/config/core/v3/protocol_pb.ts';
import { duration } from './encoded.ts';
import type { PeerTimers } from './timers.ts';

type Http2Init = MessageInitShape<typeof Http2ProtocolOptionsSchema>;

export const http2Bounds = {
  /** Streams that a client may have open on one connection to us. ztunnel opens 100. */
  streamsMax: 1_000,
  /** Streams that we open on one connection: what dies together when it dies, and waits together for a lost packet. */
  streamsPerUpstreamConnectionMax: 100,
  resetBurstMax: 20_000,
  resetsPerSecondMax: 5_000,
} as const;

/** Listener side. The slow keepalive frees the streams of a client that is gone; callers' own pings are quicker. */
export const serverHttp2 = (): Http2Init => ({
  allowConnect: true,
  maxConcurrentStreams: http2Bounds.streamsMax,
  streamResetBurst: BigInt(http2Bounds.resetBurstMax),
  streamResetRate: BigInt(http2Bounds.resetsPerSecondMax),
  connectionKeepalive: { interval: duration(10_000), timeout: duration(20_000) },
});

/** Cluster side, towards other members' gateways: pings that notice a silent cut. */
export const clientHttp2 = (timers: PeerTimers): Http2Init => ({
  allowConnect: true,
  maxConcurrentStreams: http2Bounds.streamsPerUpstreamConnectionMax,
  streamResetBurst: BigInt(http2Bounds.resetBurstMax),
  streamResetRate: BigInt(http2Bounds.resetsPerSecondMax),
  connectionKeepalive: {
    interval: duration(timers.pingIntervalMs),
    // Envoy adds up to 15 % otherwise. Connections are not in step anyway: each counts from its own last answer.
    intervalJitter: { value: 0 },
    timeout: duration(timers.pingTimeoutMs),
    connectionIdleInterval: duration(timers.pingIdleMs),
  },
});
