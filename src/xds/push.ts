/**
 * A response ready to be written, and the memory of what was in it until the proxy answers.
 *
 * Streams whose clients hold the same and want everything get the same bytes: pushes of a delta are made once, with a
 * nonce that follows from the delta. A nonce has to be unique within a stream only, and a stream sees each delta once.
 */
import { limits } from '../core/limits.ts';
import { encodeResponse } from './encode.ts';
import type { Resource } from './resource.ts';
import type { Delta } from './table.ts';

export interface PushItem {
  readonly name: string;
  /** What the client holds once it has applied this; undefined for a removal. */
  readonly version: string | undefined;
  /** What it held before. */
  readonly before: string | undefined;
}

export interface Push {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly systemVersion: string;
  readonly items: readonly PushItem[];
  readonly bytes: Buffer;
}

interface Draft {
  readonly items: PushItem[];
  readonly frames: Uint8Array[];
  readonly removed: string[];
  bytes: number;
}

/** Collects items for one response until `limits.responseBytesMax` of frames is reached (a single larger one still fits). */
export class PushDraft {
  readonly #draft: Draft = { items: [], frames: [], removed: [], bytes: 0 };

  get empty(): boolean {
    return this.#draft.items.length === 0;
  }
  fits(bytes: number): boolean {
    return this.empty || this.#draft.bytes + bytes <= limits.responseBytesMax;
  }
  add(name: string, resource: Resource, frame: Uint8Array, before: string | undefined): void {
    this.#draft.items.push({ name, version: resource.version, before });
    this.#draft.frames.push(frame);
    this.#draft.bytes += frame.length;
  }
  remove(name: string, before: string | undefined): void {
    this.#draft.items.push({ name, version: undefined, before });
    this.#draft.removed.push(name);
    this.#draft.bytes += name.length + 8;
  }
  done(typeUrl: string, nonce: string, systemVersion: string): Push {
    const { items, frames, removed } = this.#draft;
    return {
      typeUrl,
      nonce,
      systemVersion,
      items,
      bytes: encodeResponse({ typeUrl, nonce, systemVersion, frames, removed }),
    };
  }
}

const shared = new WeakMap<Delta, readonly Push[]>();

/** The pushes of a whole delta, removals first, made once for all streams. */
export const sharedPushes = (delta: Delta, typeUrl: string, systemVersion: string): readonly Push[] => {
  const known = shared.get(delta);
  if (known !== undefined) return known;
  const pushes: Push[] = [];
  let draft = new PushDraft();
  const next = (bytes: number): void => {
    if (draft.fits(bytes)) return;
    pushes.push(draft.done(typeUrl, `${delta.id}-${pushes.length}`, systemVersion));
    draft = new PushDraft();
  };
  for (const { name, before } of delta.removed) {
    next(name.length + 8);
    draft.remove(name, before);
  }
  for (const { name, before, now } of delta.upserted) {
    next(now!.frame.length);
    draft.add(name, now!, now!.frame, before);
  }
  if (!draft.empty) pushes.push(draft.done(typeUrl, `${delta.id}-${pushes.length}`, systemVersion));
  shared.set(delta, pushes);
  return pushes;
};
