/**
 * One watch, from its start to its end: events are taken in as their lines come, within the same callback that brought the
 * bytes. It ends itself when nothing has come for longer than a bookmark takes: a connection that only looks open.
 */
import type { Clock, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { KubeApi } from './api.ts';
import { statusOf } from './api_errors.ts';
import { isRecord, type Json, record, text } from './json.ts';

export interface WatchOptions {
  readonly api: KubeApi;
  readonly clock: Clock;
  readonly path: string;
  /** resourceVersion to start after. */
  readonly from: string;
  readonly query: Readonly<Record<string, string>>;
  /** The server said anything at all. */
  heard(): void;
  put(object: Json): void;
  remove(object: Json): void;
}

export interface WatchEnd {
  /** Events may have been missed: list again. */
  readonly lost: boolean;
  /** Undefined when it ended in order. */
  readonly error: IsthmusError | undefined;
}

export interface Watch {
  /** The server accepted it (true also after its end). */
  readonly connected: boolean;
  /** Up to here all is known. */
  readonly version: string;
  readonly ended: Promise<WatchEnd>;
  close(): void;
}

const lostBy = (message: string): WatchEnd => ({ lost: true, error: new IsthmusError('kube/unavailable', message) });

/** Takes one line in. Returns the version it brings us to, or why the watch cannot go on. */
const takeLine = (line: string, options: WatchOptions): string | WatchEnd => {
  let event: unknown;
  try {
    event = JSON.parse(line);
  } catch {
    return lostBy(`the watch of ${options.path} sent malformed JSON`);
  }
  const object = isRecord(event) ? record(event, 'object') : {};
  switch (isRecord(event) ? event['type'] : undefined) {
    case 'ADDED':
    case 'MODIFIED':
      options.put(object);
      break;
    case 'DELETED':
      options.remove(object);
      break;
    case 'BOOKMARK':
      break;
    case 'ERROR': {
      const message = `the watch of ${options.path} reported ${text(object, 'reason')}: ${text(object, 'message')}`;
      // 410: our version is too old to continue from. That is ordinary, and no error.
      if (object['code'] === 410) return { lost: true, error: undefined };
      return { lost: false, error: new IsthmusError('kube/unavailable', message) };
    }
    default:
      return lostBy(`the watch of ${options.path} sent an unknown event`);
  }
  return text(record(object, 'metadata'), 'resourceVersion');
};

export const openWatch = (options: WatchOptions): Watch => {
  const { clock } = options;
  let version = options.from;
  let connected = false;
  let silence: Timer | undefined;
  let deadline = 0;
  let finish: (end: WatchEnd) => void = () => {};
  const ended = new Promise<WatchEnd>((resolve) => {
    finish = resolve;
  });

  // The timer is moved only when it fires: bytes come far more often than that.
  const expire = (): void => {
    const leftMs = deadline - clock.monotonicMs();
    if (leftMs > 0) silence = clock.after(leftMs, expire);
    // No error: an API server sends no bookmarks for a kind that has not changed since it started. Opening again asks it.
    else end({ lost: false, error: undefined });
  };
  const heard = (): void => {
    options.heard();
    deadline = clock.monotonicMs() + limits.kubeWatchSilenceMaxMs;
    silence ??= clock.after(limits.kubeWatchSilenceMaxMs, expire);
  };

  const stream = options.api.stream(
    options.path,
    { ...options.query, watch: 'true', allowWatchBookmarks: 'true', resourceVersion: options.from },
    {
      open: () => {
        connected = true;
        heard();
      },
      bytes: heard,
      line: (line) => {
        const taken = takeLine(line, options);
        if (typeof taken !== 'string') end(taken);
        else if (taken !== '') version = taken;
      },
      end: (error) => {
        const status = statusOf(error);
        end({ lost: status === 410 || status === 404, error });
      },
    },
  );
  const end = (how: WatchEnd): void => {
    silence?.cancel();
    stream.close();
    finish(how);
  };
  return {
    get connected() {
      return connected;
    },
    get version() {
      return version;
    },
    ended,
    close: () => end({ lost: false, error: undefined }),
  };
};
