/**
 * What the answer to a probe's CONNECT means: by its status, and by the marks that the gateways on the way left on it.
 *
 * The far gateway's mark is the proof that it was reached, whatever it answered: a refusal is an answer. Without it the near gateway
 * says how far it came. What is wrong with the near one itself says nothing about the peer.
 */
import { type HopMark, hopHeader, parseHops } from '../core/hop.ts';
import { headHeader, parseHead, revocationsHeader } from '../core/probing.ts';
import type { Tunnel } from '../core/tunnel.ts';
import type { ProbeResult, ProbeStage } from '../health/signals.ts';

export type Judgement =
  /** The far gateway answered; `open`: with a tunnel. */
  | { readonly kind: 'reached'; readonly open: boolean; readonly denied: boolean; readonly status: number }
  | { readonly kind: 'failed'; readonly at: ProbeStage; readonly status: number | undefined; readonly detail: string }
  /** Our own gateway could not carry the probe: no evidence about the peer. */
  | { readonly kind: 'local'; readonly detail: string };

const text = (value: string | readonly string[] | undefined): string | undefined =>
  typeof value === 'string' || value === undefined ? value : value.join(',');

/** Refusals of policy, grant or limit: there is nothing wrong with the path. */
const denials = new Set([401, 403, 429]);

/** Flags of a gateway that had no way to try: no route or cluster yet, a limit of its own, overload. */
const ownFlags = ['NR', 'NC', 'UO', 'OM', 'RL', 'UH'];

const stageOf = ({ flags = '', details = '' }: HopMark): ProbeStage => {
  if (/TLS_error|CERTIFICATE|certificate/.test(details)) return 'tls';
  // The connection did not come about, or ended under the request.
  return /\b(UF|UC)\b/.test(flags) ? 'tcp' : 'connect';
};

export const judge = ({ status, headers }: Pick<Tunnel, 'status' | 'headers'>): Judgement => {
  const marks = parseHops(text(headers[hopHeader]));
  const near = marks.find(({ role }) => role === 'egress');
  const far = marks.find(({ role }) => role === 'federation');
  if (far !== undefined) return { kind: 'reached', open: status === 200, denied: denials.has(status), status };
  const said = [near?.flags, near?.details].filter((part) => part !== undefined).join(' ');
  const detail = `answered ${status}${said === '' ? '' : ` (${said})`}`;
  if (near === undefined || (near.flags ?? '').split(',').some((flag) => ownFlags.includes(flag))) {
    return { kind: 'local', detail };
  }
  return { kind: 'failed', at: stageOf(near), status, detail };
};

export const headOf = ({ headers }: Pick<Tunnel, 'headers'>): ProbeResult['head'] =>
  parseHead(text(headers[headHeader]));

export const revocationsOf = ({ headers }: Pick<Tunnel, 'headers'>): string | undefined =>
  text(headers[revocationsHeader]);
