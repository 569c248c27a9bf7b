/**
 * One probe through the real path: a CONNECT through a local gateway, pinned to one member and one of its gateways, and for a service
 * the TLS handshake with the workload behind it. No byte of an application is sent, and nothing is tried again.
 */
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { gatewayAuthority, probeGatewayHeader, probeHeader } from '../core/probing.ts';
import type { Tunnel, TunnelConnection } from '../core/tunnel.ts';
import type { PathTime, ProbeResult, ProbeStage } from '../health/signals.ts';
import { headOf, judge, revocationsOf } from './judge.ts';
import type { ServiceTarget } from './rotation.ts';
import { lingerMs, probeTimeoutMs } from './timing.ts';

/** A remote gateway's federation listener. */
export interface RemoteGateway {
  readonly id: string;
  readonly address: string;
  readonly port: number;
}

export interface SingleProbe {
  readonly member: string;
  readonly gateway: RemoteGateway;
  /** Undefined: of the gateway itself. */
  readonly service: ServiceTarget | undefined;
  readonly path: PathTime | undefined;
}

/** `result` undefined: our own side failed, which says nothing about the peer. */
export interface SingleResult {
  readonly result: ProbeResult | undefined;
  readonly detail: string;
  /** What the far gateway told of who was put out; nothing of it is believed yet. */
  readonly revocations?: string | undefined;
}

const pingTimeoutMs = 300;

export const hostPort = ({ address, port }: RemoteGateway): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

/** The headers that pin a CONNECT to one gateway of one member. */
export const pinned = (member: string, gateway: RemoteGateway): Record<string, string> => ({
  [probeHeader]: member,
  [probeGatewayHeader]: hostPort(gateway),
});

const innerStage = (error: IsthmusError): ProbeStage => (error.code === 'path/identity' ? 'identity' : 'inner-tls');

export const probeOnce = async (
  connection: TunnelConnection,
  probe: SingleProbe,
  clock: Clock,
): Promise<SingleResult> => {
  const { member, gateway, service, path } = probe;
  const startMs = clock.monotonicMs();
  const timeoutMs = probeTimeoutMs(path);
  const leftMs = () => Math.max(1, timeoutMs - (clock.monotonicMs() - startMs));
  const result = (rest: Partial<ProbeResult>): ProbeResult => ({
    member,
    service: service?.service,
    atMs: clock.monotonicMs(),
    ok: false,
    denied: false,
    failedAt: undefined,
    status: undefined,
    ms: undefined,
    head: undefined,
    ...rest,
  });
  const failed = (at: ProbeStage, detail: string, status?: number): SingleResult => ({
    result: result({ failedAt: at, status }),
    detail,
  });
  let tunnel: Tunnel | undefined;
  try {
    const authority = service?.authority ?? gatewayAuthority;
    tunnel = await connection.connect({ authority, headers: pinned(member, gateway), timeoutMs });
    const verdict = judge(tunnel);
    if (verdict.kind === 'local') return { result: undefined, detail: verdict.detail };
    if (verdict.kind === 'failed') return failed(verdict.at, verdict.detail, verdict.status);
    const { status, denied } = verdict;
    const ms = () => clock.monotonicMs() - startMs;
    if (service === undefined) {
      const answered = result({ ok: true, status, ms: ms(), head: headOf(tunnel) });
      return { result: answered, detail: '', revocations: revocationsOf(tunnel) };
    }
    if (denied) return { result: result({ ok: true, denied, status, ms: ms() }), detail: `denied with ${status}` };
    if (!verdict.open) return failed('connect', `answered ${status}`, status);
    const hop = `workload of ${service.service} at ${member}`;
    try {
      await tunnel.handshake({ hop, accept: service.accept, timeoutMs: leftMs(), lingerMs: lingerMs(path) });
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      return failed(innerStage(error), error.message, status);
    }
    return { result: result({ ok: true, status, ms: ms() }), detail: '' };
  } catch (error) {
    if (!(error instanceof IsthmusError)) throw error;
    // No answer at all: is it the peer that is silent, or our own gateway?
    const ours = !connection.usable || !(await connection.ping(pingTimeoutMs));
    return ours ? { result: undefined, detail: error.message } : failed('connect', error.message);
  } finally {
    tunnel?.end();
  }
};
