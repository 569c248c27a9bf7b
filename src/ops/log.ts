/**
 * Logging: pino, a constant message and fields. Rooms below take a plain function, so that none of them knows the library.
 * Fields that could hold a secret are censored here, in one place, whatever a caller passes.
 */
import { type DestinationStream, pino } from 'pino';
import { IsthmusError } from '../core/errors.ts';

export type Level = 'trace' | 'debug' | 'info' | 'warn' | 'error';
export type Log = (level: Level, message: string, fields?: Record<string, unknown>) => void;

const plain = (fields: Record<string, unknown>): Record<string, unknown> => {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value instanceof IsthmusError) {
      out['code'] = value.code;
      out[key] = value.message;
      if (value.hint !== undefined) out['hint'] = value.hint;
      Object.assign(out, value.subject);
    } else if (value instanceof Error) out[key] = `${value.name}: ${value.message}`;
    else if (typeof value === 'bigint') out[key] = value.toString();
    else out[key] = value;
  }
  return out;
};

/** Writes JSON lines to stderr unless given another destination: stdout belongs to a command's data. */
export const openLog = (level: Level, bindings: Record<string, string>, destination?: DestinationStream): Log => {
  const logger = pino(
    {
      level,
      base: bindings,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: ['token', 'key', 'keyPem', 'authorization', 'secret', 'password', '*.token', '*.key', '*.secret'],
        censor: '[redacted]',
      },
    },
    destination ?? pino.destination({ dest: 2, sync: true }),
  );
  return (at, message, fields) => logger[at](plain(fields ?? {}), message);
};
