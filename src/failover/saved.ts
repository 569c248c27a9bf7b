/**
 * The state as bytes: for the last good state on disk, for the other replicas, and for the journal's replays.
 *
 * JSON, for it is read by people at night as well, and by the version after this one: a reader takes what it knows of the version
 * before its own, and refuses what is newer than it can know. Members' names are written once and then by number, for a placement of a
 * thousand services is the same hundred names over and over.
 */
import { fail, type IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { HealthState } from '../health/assess.ts';
import { readHealth } from '../health/saved.ts';
import { type CellState, cellStates } from '../health/verdict.ts';
import type { Placement } from './decision.ts';
import {
  type CellMemory,
  type Drain,
  type FailoverState,
  type GrantMemory,
  initialState,
  type Rate,
  type ServiceMemory,
} from './state.ts';

const version = 1;

type SavedTiers = readonly (readonly (readonly [member: number, weight: number, percent: number])[])[];
type SavedPlacement = readonly [localPercent: number, tiers: SavedTiers];

interface SavedService {
  readonly at: SavedPlacement;
  readonly wished?: SavedPlacement;
  readonly cells?: readonly (readonly [member: number, memory: CellMemory])[];
  readonly lastGood?: readonly number[];
  readonly failFast?: true;
  readonly moves?: readonly number[];
  readonly held?: readonly string[];
  readonly demand?: readonly (readonly [member: number, rate: Rate])[];
  readonly policy: string;
}

interface Saved {
  readonly version: number;
  readonly names: readonly string[];
  readonly health: HealthState;
  readonly services: readonly (readonly [string, SavedService])[];
  readonly drains: readonly Drain[];
  readonly frozen: FailoverState['frozen'] | null;
  readonly told: Record<'members' | 'cells' | 'regions', readonly (readonly [string, CellState])[]>;
  readonly ejected: readonly (readonly [string, number])[];
  readonly grants: readonly (readonly [string, number, readonly number[]])[];
}

class Names {
  readonly list: string[] = [];
  readonly #numbers = new Map<string, number>();
  of(name: string): number {
    const known = this.#numbers.get(name);
    if (known !== undefined) return known;
    this.#numbers.set(name, this.list.length);
    return this.list.push(name) - 1;
  }
}

const packPlacement = ({ localPercent, tiers }: Placement, names: Names): SavedPlacement => [
  localPercent,
  tiers.map((cells) => cells.map(({ member, weight, percent }) => [names.of(member), weight, percent] as const)),
];

const packService = (memory: ServiceMemory, names: Names): SavedService => ({
  at: packPlacement(memory.placement, names),
  ...(memory.wished === undefined ? {} : { wished: packPlacement(memory.wished, names) }),
  ...(memory.cells.size === 0
    ? {}
    : { cells: [...memory.cells].map(([name, cell]) => [names.of(name), cell] as const) }),
  ...(memory.lastGood === undefined ? {} : { lastGood: memory.lastGood.map((name) => names.of(name)) }),
  ...(memory.failFast ? { failFast: true as const } : {}),
  ...(memory.moves.length === 0 ? {} : { moves: memory.moves }),
  ...(memory.held.length === 0 ? {} : { held: memory.held }),
  ...(memory.demand.size === 0
    ? {}
    : { demand: [...memory.demand].map(([name, rate]) => [names.of(name), rate] as const) }),
  policy: memory.policy,
});

export const encodeState = (state: FailoverState): Uint8Array => {
  const names = new Names();
  const services = [...state.services].map(([key, memory]) => [key, packService(memory, names)] as const);
  const grants = [...state.grants].map(
    ([service, { perSecond, readers }]) => [service, perSecond, readers.map((name) => names.of(name))] as const,
  );
  const saved: Saved = {
    version,
    names: names.list,
    health: state.health,
    services,
    drains: state.drains,
    frozen: state.frozen ?? null,
    told: { members: [...state.told.members], cells: [...state.told.cells], regions: [...state.told.regions] },
    ejected: [...state.ejected],
    grants,
  };
  return Buffer.from(JSON.stringify(saved));
};

/** What is not as it should be, while reading. */
class Malformed extends Error {}

type Json = unknown;

const bad = (where: string, what: string): never => {
  throw new Malformed(`${where} is not ${what}`);
};
const asObject = (value: Json, where: string): Record<string, Json> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, Json>)
    : bad(where, 'an object');
const asArray = (value: Json, where: string): readonly Json[] => (Array.isArray(value) ? value : bad(where, 'a list'));
const asText = (value: Json, where: string): string => (typeof value === 'string' ? value : bad(where, 'a text'));
const asNumber = (value: Json, where: string): number =>
  typeof value === 'number' && Number.isFinite(value) ? value : bad(where, 'a number');
const asPercent = (value: Json, where: string): number => {
  const number = asNumber(value, where);
  return number >= 0 && number <= 100 ? number : bad(where, 'a number from 0 to 100');
};
const asOneOf = <T extends string>(value: Json, of: readonly T[], where: string): T =>
  of.includes(value as T) ? (value as T) : bad(where, `one of ${of.join(', ')}`);
const optional = <T>(value: Json, read: (value: Json) => T): T | undefined =>
  value === undefined || value === null ? undefined : read(value);

interface Reader {
  readonly names: readonly string[];
}

const asName = (value: Json, { names }: Reader, where: string): string =>
  names[asNumber(value, where)] ?? bad(where, 'the number of a name');

const readPlacement = (value: Json, reader: Reader, where: string): Placement => {
  const [localPercent, tiers] = asArray(value, where);
  return {
    localPercent: asPercent(localPercent, `${where}.localPercent`),
    tiers: asArray(tiers, `${where}.tiers`).map((cells) =>
      asArray(cells, `${where}.tiers`).map((cell) => {
        const [member, weight, percent] = asArray(cell, `${where}.cell`);
        const placed = asNumber(weight, `${where}.weight`);
        return {
          member: asName(member, reader, `${where}.member`),
          weight: placed > 0 ? placed : bad(`${where}.weight`, 'above 0'),
          percent: asPercent(percent, `${where}.percent`),
        };
      }),
    ),
  };
};

const phases = ['new', 'out', 'doubt', 'held', 'latched', 'ramp', 'drain'] as const;

const readCell = (value: Json, where: string): CellMemory => {
  const { phase, percent, sinceMs, cause } = asObject(value, where);
  return {
    phase: asOneOf(phase, phases, `${where}.phase`),
    percent: asPercent(percent, `${where}.percent`),
    sinceMs: asNumber(sinceMs, `${where}.sinceMs`),
    cause: asText(cause, `${where}.cause`) as CellMemory['cause'],
  };
};

const readRate = (value: Json, where: string): Rate => {
  const { mean, perSecond } = asObject(value, where);
  return { mean: asNumber(mean, `${where}.mean`), perSecond: asNumber(perSecond, `${where}.perSecond`) };
};

const readService = (value: Json, reader: Reader, where: string): ServiceMemory => {
  const saved = asObject(value, where);
  const pairs = <T>(list: Json, read: (value: Json, where: string) => T, what: string): ReadonlyMap<string, T> =>
    new Map(
      (optional(list, (v) => asArray(v, `${where}.${what}`)) ?? []).map((entry) => {
        const [name, held] = asArray(entry, `${where}.${what}`);
        return [asName(name, reader, `${where}.${what}`), read(held, `${where}.${what}`)] as const;
      }),
    );
  return {
    placement: readPlacement(saved['at'], reader, `${where}.at`),
    wished: optional(saved['wished'], (v) => readPlacement(v, reader, `${where}.wished`)),
    cells: pairs(saved['cells'], readCell, 'cells'),
    lastGood: optional(saved['lastGood'], (v) =>
      asArray(v, `${where}.lastGood`).map((name) => asName(name, reader, `${where}.lastGood`)),
    ),
    failFast: saved['failFast'] === true,
    moves: (optional(saved['moves'], (v) => asArray(v, `${where}.moves`)) ?? []).map((at) =>
      asNumber(at, `${where}.moves`),
    ),
    held: (optional(saved['held'], (v) => asArray(v, `${where}.held`)) ?? []).map((key) =>
      asText(key, `${where}.held`),
    ),
    demand: pairs(saved['demand'], readRate, 'demand'),
    policy: asText(saved['policy'], `${where}.policy`),
  };
};

const readTarget = (value: Json, where: string): Drain['target'] => {
  const target = asObject(value, where);
  const text = (field: string) => asText(target[field], `${where}.${field}`);
  switch (asOneOf(target['scope'], ['cluster', 'region', 'gateway', 'service'], `${where}.scope`)) {
    case 'cluster':
      return { scope: 'cluster', member: text('member') };
    case 'region':
      return { scope: 'region', region: text('region') };
    case 'gateway':
      return { scope: 'gateway', member: text('member'), gateway: text('gateway') };
    case 'service':
      return { scope: 'service', member: text('member'), service: text('service') };
  }
};

const readDrain = (value: Json, where: string): Drain => {
  const { target, author, reason, sinceMs, overMs, graceMs } = asObject(value, where);
  return {
    target: readTarget(target, `${where}.target`),
    author: asText(author, `${where}.author`),
    reason: asText(reason, `${where}.reason`),
    sinceMs: asNumber(sinceMs, `${where}.sinceMs`),
    overMs: optional(overMs, (v) => asNumber(v, `${where}.overMs`)),
    graceMs: optional(graceMs, (v) => asNumber(v, `${where}.graceMs`)),
  };
};

const readPairs = <T>(value: Json, where: string, read: (value: Json, where: string) => T): ReadonlyMap<string, T> =>
  new Map(
    asArray(value, where).map((entry) => {
      const [key, held] = asArray(entry, where);
      return [asText(key, where), read(held, where)] as const;
    }),
  );

const readGrants = (value: Json, reader: Reader): ReadonlyMap<string, GrantMemory> =>
  new Map(
    asArray(value, 'grants').map((entry) => {
      const [service, perSecond, readers] = asArray(entry, 'grants');
      const names = asArray(readers, 'grants.readers').map((name) => asName(name, reader, 'grants.readers'));
      return [
        asText(service, 'grants'),
        { perSecond: asNumber(perSecond, 'grants.perSecond'), readers: names },
      ] as const;
    }),
  );

const asState = (value: Json, where: string): CellState => asOneOf(value, cellStates, where);

const read = (value: Json): FailoverState => {
  const saved = asObject(value, 'state');
  const made = asNumber(saved['version'], 'version');
  if (made !== version) bad('version', `${version}, which is what can be read here`);
  const reader: Reader = { names: asArray(saved['names'], 'names').map((name) => asText(name, 'names')) };
  const told = asObject(saved['told'], 'told');
  return {
    health: readHealth(asObject(saved['health'], 'health')),
    services: readPairs(saved['services'], 'services', (service, where) => readService(service, reader, where)),
    drains: asArray(saved['drains'], 'drains').map((drain) => readDrain(drain, 'drains')),
    frozen: optional(saved['frozen'], (v) => {
      const { author, reason, sinceMs } = asObject(v, 'frozen');
      return {
        author: asText(author, 'frozen.author'),
        reason: asText(reason, 'frozen.reason'),
        sinceMs: asNumber(sinceMs, 'frozen.sinceMs'),
      };
    }),
    told: {
      members: readPairs(told['members'], 'told.members', asState),
      cells: readPairs(told['cells'], 'told.cells', asState) as FailoverState['told']['cells'],
      regions: readPairs(told['regions'], 'told.regions', asState),
    },
    ejected: readPairs(saved['ejected'], 'ejected', asNumber),
    grants: readGrants(saved['grants'], reader),
  };
};

const corrupt = (message: string): { ok: false; error: IsthmusError } =>
  fail('state/corrupt', `failover state: ${message}`, {
    hint: 'the file is set aside and decisions begin anew; latches and drains of before have to be said again',
  }) as { ok: false; error: IsthmusError };

/** Errors: `state/corrupt`, naming the field. What a version before this one did not have is as it begins. */
export const decodeState = (bytes: Uint8Array): Result<FailoverState> => {
  if (bytes.length > limits.failoverStateBytesMax)
    return corrupt(`${bytes.length} bytes are more than ${limits.failoverStateBytesMax}`);
  try {
    const value = JSON.parse(Buffer.from(bytes).toString('utf8')) as Json;
    return ok({ ...initialState(), ...read(value) });
  } catch (error) {
    if (error instanceof Malformed || error instanceof SyntaxError) return corrupt(error.message);
    throw error;
  }
};
