/** A bug ends the process with its reason; nothing limps on in an unknown state. The supervisor restarts it from the last good state. */
import type { Log } from './log.ts';

export const crashOnBugs = (log: Log): void => {
  const crash = (kind: string) => (reason: unknown) => {
    const error = reason instanceof Error ? reason : new Error(String(reason));
    log('error', 'ending: a bug', { kind, reason: error.message, stack: error.stack ?? '' });
    process.exit(70);
  };
  process.on('uncaughtException', crash('uncaught exception'));
  process.on('unhandledRejection', crash('unhandled rejection'));
};
