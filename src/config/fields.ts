/** Kinds of values that several keys share, each with an error that names the value. */
import { z } from 'zod';
import { isDnsLabel } from '../core/names.ts';

export const label = (what: string) =>
  z
    .string()
    .refine(isDnsLabel, { error: (i) => `${what} "${String(i.input)}" must be a DNS label (a-z, 0-9, -; 63 at most)` });

/** `<ip>:<port>`. */
export const address = z.string().regex(/^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:]+\]):\d{1,5}$/, 'must be <ip>:<port>');

/** A whole number of milliseconds between two bounds. */
export const ms = (min: number, max: number) => z.number().int().min(min).max(max);

/** What each of our processes says of itself. */
export const logging = () =>
  z
    .strictObject({
      level: z
        .enum(['trace', 'debug', 'info', 'warn', 'error'])
        .default('info')
        .describe('Least severe level written.'),
    })
    .prefault({})
    .describe('Logging.');
