/**
 * Revocation marks as one header's text, for the answer of a gateway to a probe: so a mark reaches peers by a way that the store is no part
 * of. Each is signed, so the way need not be trusted.
 *
 * A header has its limits. In front stands a digest of all marks, by which a reader that has the same knows that there is nothing to read.
 * Behind it the newest, always, and the others in turns: who listens for a while has heard all. Only the newest was passed over: a
 * cluster that was cut off for a month would never have heard of the rest.
 */
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';

export type SignedMark = readonly [name: string, bytes: Uint8Array];

/** Half of the room is for the newest, the other half for one after the other of the rest. */
const newestMax = limits.revocationsToldMax / 2;

/** @param digest - of all marks. @param marks - the newest first. @param turn - one more each time that something is told */
export const revocationsText = (digest: string, marks: readonly SignedMark[], turn = 0): string => {
  const rest = Math.max(0, marks.length - newestMax);
  const start = rest <= newestMax ? 0 : turn % rest;
  const parts = [`=${digest}`];
  let length = digest.length + 1;
  for (let i = 0; i < Math.min(marks.length, limits.revocationsToldMax); i++) {
    const [name, bytes] = marks[i < newestMax ? i : newestMax + ((start + i - newestMax) % rest)]!;
    const part = `${name}:${Buffer.from(bytes).toString('base64url')}`;
    if (length + part.length + 1 > limits.revocationsTextMax) continue;
    parts.push(part);
    length += part.length + 1;
  }
  return parts.join(',');
};

const mark = /^([a-z0-9-]{1,63}):([A-Za-z0-9_-]+)$/;

export interface ToldRevocations {
  readonly digest: string;
  readonly marks: readonly SignedMark[];
}

/** What a peer told, nothing of it believed yet; what is no mark is passed over. */
export const parseRevocations = (text: string): ToldRevocations => {
  if (text.length > limits.revocationsTextMax * 2) return { digest: '', marks: [] };
  const marks: SignedMark[] = [];
  const [first = '', ...parts] = text.split(',', limits.revocationsToldMax + 1);
  for (const part of parts) {
    const [, name = '', bytes = ''] = mark.exec(part.trim()) ?? [];
    if (isDnsLabel(name)) marks.push([name, new Uint8Array(Buffer.from(bytes, 'base64url'))]);
  }
  return { digest: first.startsWith('=') ? first.slice(1) : '', marks };
};
