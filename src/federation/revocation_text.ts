/**
 * Revocation marks as one header's text, for the answer of a gateway to a probe: so a mark reaches peers by a way that the store is no part
 * of. Only the newest few: the older ones have had their time, and a header has its limits. Each is signed, so the way need not be trusted.
 */
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';

export const revocationsHeader = 'x-isthmus-revocations';

/** Names with marks as they were signed. @param marks - the newest first */
export const revocationsText = (marks: Iterable<readonly [string, Uint8Array]>): string => {
  const parts: string[] = [];
  let length = 0;
  for (const [name, bytes] of marks) {
    const part = `${name}:${Buffer.from(bytes).toString('base64url')}`;
    if (parts.length >= limits.revocationsToldMax || length + part.length > limits.revocationsTextMax) break;
    parts.push(part);
    length += part.length + 1;
  }
  return parts.join(',');
};

const mark = /^([a-z0-9-]{1,63}):([A-Za-z0-9_-]+)$/;

/** What a peer told, nothing of it believed yet; what is no mark is passed over. */
export const parseRevocations = (text: string): readonly (readonly [string, Uint8Array])[] => {
  if (text.length > limits.revocationsTextMax * 2) return [];
  const found: (readonly [string, Uint8Array])[] = [];
  for (const part of text.split(',', limits.revocationsToldMax)) {
    const [, name = '', bytes = ''] = mark.exec(part.trim()) ?? [];
    if (isDnsLabel(name)) found.push([name, new Uint8Array(Buffer.from(bytes, 'base64url'))]);
  }
  return found;
};
