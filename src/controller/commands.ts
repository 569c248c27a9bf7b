/**
 * What people ask for, as it comes in over the admin API: checked field by field, so that an error names the field, the value and the
 * next step, and turned into the commands that the decisions take.
 */
import { z } from 'zod';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isDnsLabel, parseServiceKey } from '../core/names.ts';
import type { View } from '../federation/view.ts';
import type { Command, DrainTarget } from '../health/signals.ts';
import type { DrainCommand } from './dry_run.ts';
import { listed } from './wording.ts';

const rampMaxMs = 3_600_000;
const graceMaxMs = 86_400_000;

// What cannot be printed would hide in a terminal what the journal shows to whoever reads it.
const printable = (text: string): boolean => !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text);

const name = z.string().refine(isDnsLabel, 'must be a DNS label (a-z, 0-9, -; 63 at most)');
const region = z.string().regex(/^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/, 'must be a region’s name');
const service = z.string().refine((key) => parseServiceKey(key).ok, 'must be <namespace>/<service>');
/** In the journal they are not people: what a person asks for must not pass for the controller's own. */
const reserved = ['controller', 'envoy'];
const said = {
  author: z
    .string()
    .trim()
    .min(1, 'must say who asks')
    .max(limits.authorLengthMax)
    .refine(printable, 'must be printable')
    .refine((author) => !reserved.includes(author), 'is not a person'),
  reason: z.string().max(limits.commandReasonLengthMax).refine(printable, 'must be printable').default(''),
};

const target = z.discriminatedUnion('scope', [
  z.strictObject({ scope: z.literal('cluster'), member: name }),
  z.strictObject({ scope: z.literal('region'), region }),
  z.strictObject({
    scope: z.literal('gateway'),
    member: name.optional(),
    gateway: z.string().min(1).max(limits.hostnameLengthMax).refine(printable, 'must be printable'),
  }),
  z.strictObject({ scope: z.literal('service'), member: name.optional(), service }),
]);

const drain = z.strictObject({
  kind: z.enum(['drain', 'undrain']),
  target,
  ...said,
  overMs: z.number().int().min(0).max(rampMaxMs).optional(),
  graceMs: z.number().int().min(0).max(graceMaxMs).optional(),
});

const word = { member: name.optional(), service: service.optional(), ...said };

const command = z.discriminatedUnion('kind', [
  drain,
  z.strictObject({ kind: z.literal('freeze'), ...said }),
  z.strictObject({ kind: z.literal('thaw'), ...said }),
  z.strictObject({ kind: z.literal('failback'), ...word }),
  z.strictObject({ kind: z.literal('confirm-withdrawal'), ...word }),
]);

const at = (value: unknown, path: readonly PropertyKey[]): unknown =>
  path.reduce<unknown>((inner, key) => (inner as Record<PropertyKey, unknown> | null | undefined)?.[key], value);

const shown = (value: unknown): string => {
  const text = JSON.stringify(value);
  if (text === undefined) return 'is missing';
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
};

/** The first thing that is wrong, with its field. */
const wrong = (error: z.ZodError, body: unknown): IsthmusError => {
  const issue = error.issues[0]!;
  const field = issue.path.join('.');
  const value = at(body, issue.path);
  const what = field === '' ? 'the command' : field;
  return new IsthmusError('usage/invalid', `${what} ${shown(value)}: ${issue.message}`, {
    hint: 'isthmus drain --help, freeze --help and failback --help show what can be asked for',
    subject: { field },
  });
};

/** A member that is not named is the one that is asked. */
const plain = ({ target: aim, overMs, graceMs, ...rest }: z.infer<typeof drain>, self: string): DrainCommand => {
  const where: DrainTarget =
    aim.scope === 'gateway' || aim.scope === 'service' ? { ...aim, member: aim.member ?? self } : aim;
  return { ...rest, target: where, overMs, graceMs };
};

/** @throws IsthmusError usage/invalid, naming the field and the value */
export const parseCommand = (body: unknown, self: string): Command => {
  const parsed = command.safeParse(body);
  if (!parsed.success) throw wrong(parsed.error, body);
  const { data } = parsed;
  if ('target' in data) return plain(data, self);
  if (data.kind === 'freeze' || data.kind === 'thaw') return data;
  return { ...data, member: data.member ?? self, service: data.service };
};

/** A drain or its end: what a dry run can be made of. */
export const parseDrain = (body: unknown, self: string): DrainCommand => {
  const parsed = drain.safeParse(body);
  if (!parsed.success) throw wrong(parsed.error, body);
  return plain(parsed.data, self);
};

const unknown = (field: string, value: string, known: readonly string[], what: string): IsthmusError =>
  new IsthmusError('usage/invalid', `${field} "${value}" is no ${what}`, {
    hint: known.length === 0 ? `there is no ${what} at all` : `choose one of ${listed([...known].sort().slice(0, 20))}`,
    subject: { field, value },
  });

const checkMember = (field: string, member: string, view: View): void => {
  const known = [...view.members.keys()];
  if (!view.members.has(member)) throw unknown(field, member, known, 'cluster of the set');
};

const checkTarget = (aim: DrainTarget, view: View): void => {
  if (aim.scope === 'region') {
    const regions = [...new Set([...view.members.values()].map((m) => m.member.region))];
    if (!regions.includes(aim.region)) throw unknown('target.region', aim.region, regions, 'region of the set');
    return;
  }
  checkMember('target.member', aim.member, view);
  if (aim.scope === 'gateway') {
    const ids = (view.members.get(aim.member)?.gateways?.gateways ?? []).map((g) => g.id);
    if (!ids.includes(aim.gateway)) throw unknown('target.gateway', aim.gateway, ids, `gateway of ${aim.member}`);
  }
  if (aim.scope === 'service') checkService('target.service', aim.service, aim.member, view);
};

const checkService = (field: string, key: string, member: string, view: View): void => {
  const found = view.services.get(key);
  const there = member === view.self ? found?.local !== undefined : found?.remotes.has(member) === true;
  if (there) return;
  const known = [...view.services.values()]
    .filter((s) => (member === view.self ? s.local?.exported !== undefined : s.remotes.has(member)))
    .map((s) => s.key);
  throw unknown(field, key, known, `service of ${member}`);
};

/** That what is named exists, as far as this cluster knows. */
export const checkCommand = (command: Command, view: View): void => {
  if ('target' in command) {
    // An end must work also for what has gone meanwhile.
    if (command.kind === 'drain') checkTarget(command.target, view);
  } else if (command.kind === 'failback' || command.kind === 'confirm-withdrawal') {
    checkMember('member', command.member, view);
    if (command.kind === 'failback' && command.service !== undefined) {
      checkService('service', command.service, command.member, view);
    }
  }
};
