/**
 * Which resources a refused response failed on.
 *
 * A NACK names a response, not a resource; proxies put the names into the text (Envoy for clusters and listeners,
 * ztunnel for all). Where no name is found, the response is halved and each half is sent on its own until the culprit
 * stands alone: bounded by two responses per resource, and the innocent are in use after the first round. Blaming all
 * of them was passed over: one bad route would freeze every other one that changed in the same moment.
 */
import type { PushItem } from './push.ts';

export interface Refusal {
  /** Not sent again until they change. */
  readonly failed: readonly PushItem[];
  /** To be sent again, each group as a response of its own. */
  readonly retry: readonly (readonly PushItem[])[];
}

const partOfName = /[A-Za-z0-9_.\-/|:]/;

/** True when `text` holds `name` as a whole word, not as a part of a longer name. */
const mentions = (text: string, name: string): boolean => {
  if (name === '') return false;
  for (let at = text.indexOf(name); at >= 0; at = text.indexOf(name, at + 1)) {
    const before = text[at - 1];
    const after = text[at + name.length];
    const followed = after !== undefined && partOfName.test(after) && !isPunctuation(text, at + name.length);
    if ((before === undefined || !partOfName.test(before)) && !followed) return true;
  }
  return false;
};

/** A colon or a full stop after a name ends it when nothing of a name follows ("east: unknown field"). */
const isPunctuation = (text: string, at: number): boolean => {
  const mark = text[at];
  const next = text[at + 1];
  return (mark === ':' || mark === '.') && (next === undefined || !partOfName.test(next));
};

export const attribute = (items: readonly PushItem[], reason: string, appliesEach: boolean): Refusal => {
  const upserts = items.filter((item) => item.version !== undefined);
  if (upserts.length <= 1) return { failed: upserts, retry: [] };
  const failed = upserts.filter((item) => mentions(reason, item.name));
  if (failed.length > 0) {
    const others = upserts.filter((item) => !failed.includes(item));
    return { failed, retry: appliesEach || others.length === 0 ? [] : [others] };
  }
  const middle = upserts.length >>> 1;
  return { failed: [], retry: [upserts.slice(0, middle), upserts.slice(middle)] };
};
