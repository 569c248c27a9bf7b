/**
 * Two byte streams made one. Each direction ends on its own (half-close), an abnormal end on one side ends the other.
 *
 * `stream.pipeline` was passed over: it destroys both streams as soon as one direction ends, which cuts answers that
 * follow a half-close.
 */
import type { Duplex } from 'node:stream';

export interface SpliceResult {
  /** Bytes from a to b, and from b to a. */
  readonly sent: number;
  readonly received: number;
  /** How the side that failed did so; undefined when both ended in order. */
  readonly error: Error | undefined;
}

/** Calls `done` once, when both directions are over. Does not destroy what ended in order. */
export const splice = (a: Duplex, b: Duplex, done: (result: SpliceResult) => void): void => {
  let sent = 0;
  let received = 0;
  let open = 2;
  let error: Error | undefined;
  const finish = (): void => {
    open -= 1;
    if (open === 0) done({ sent, received, error });
  };
  const direction = (from: Duplex, to: Duplex, count: (bytes: number) => void): void => {
    let over = false;
    const end = (): void => {
      if (over) return;
      over = true;
      if (!to.destroyed && !to.writableEnded) to.end();
      finish();
    };
    from.on('data', (chunk: Buffer) => {
      count(chunk.length);
      if (to.destroyed || to.writableEnded) return;
      if (!to.write(chunk)) from.pause();
    });
    to.on('drain', () => from.resume());
    // A receiver that is gone leaves nothing to do but to let the sender run dry.
    to.on('close', () => from.resume());
    from.on('end', end);
    from.on('error', (cause: Error) => {
      error ??= cause;
    });
    from.on('close', end);
  };
  direction(a, b, (bytes) => {
    sent += bytes;
  });
  direction(b, a, (bytes) => {
    received += bytes;
  });
};
