/**
 * IP addresses as the 4 or 16 bytes that ztunnel wants. Written out, because node:net belongs to the adapters and says only
 * whether a text is an address, not which one.
 */

const parseV4 = (text: string): number[] | undefined => {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  const bytes = parts.map((p) => (/^(0|[1-9]\d{0,2})$/.test(p) ? Number(p) : 256));
  return bytes.every((b) => b <= 255) ? bytes : undefined;
};

/** `last`: an IPv4 address may stand for the last two groups. */
const groups = (text: string, last: boolean): number[] | undefined => {
  if (text === '') return [];
  const out: number[] = [];
  const parts = text.split(':');
  for (const [i, part] of parts.entries()) {
    if (part.includes('.')) {
      const v4 = last && i === parts.length - 1 ? parseV4(part) : undefined;
      if (v4 === undefined) return undefined;
      out.push(...v4);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      const value = Number.parseInt(part, 16);
      out.push(value >> 8, value & 255);
    } else return undefined;
  }
  return out;
};

const parseV6 = (text: string): number[] | undefined => {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = groups(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? groups(halves[1]!, true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 2 ? missing < 2 : missing !== 0) return undefined;
  return [...head, ...new Array<number>(missing).fill(0), ...tail];
};

/** 4 or 16 bytes, or undefined when the text is not an IP address. */
export const parseAddress = (text: string): Uint8Array | undefined => {
  const bytes = text.includes(':') ? parseV6(text) : parseV4(text);
  return bytes === undefined ? undefined : Uint8Array.from(bytes);
};

const shorten = (words: readonly string[]): string => {
  let best = { at: -1, length: 1 };
  for (let at = 0; at < words.length; ) {
    let end = at;
    while (end < words.length && words[end] === '0') end++;
    if (end - at > best.length) best = { at, length: end - at };
    at = end === at ? at + 1 : end;
  }
  if (best.at < 0) return words.join(':');
  return `${words.slice(0, best.at).join(':')}::${words.slice(best.at + best.length).join(':')}`;
};

/** The canonical text (RFC 5952, without dotted quads) of 4 or 16 bytes: what ztunnel puts into the keys that it asks for. */
export const formatAddress = (bytes: Uint8Array): string => {
  if (bytes.length === 4) return bytes.join('.');
  const words: string[] = [];
  for (let i = 0; i < 16; i += 2) words.push(((bytes[i]! << 8) | bytes[i + 1]!).toString(16));
  return shorten(words);
};
