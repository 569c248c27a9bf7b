/**
 * What a step was told, as one value that the journal keeps, and the step run again from it.
 *
 * A small set is kept whole. Of a large one only the services that the step decided about are: services do not see each other in a
 * step but for what stands in the state, and writing down a hundred thousand records would hold the failover back. The value says how
 * many were left out, and a replay compares only what it has.
 */
import { isDeepStrictEqual } from 'node:util';
import { fail, IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import { seededRng } from '../core/rng.ts';
import type { Decision } from '../failover/decision.ts';
import type { Role } from '../failover/guards.ts';
import type { Policies } from '../failover/policy.ts';
import { decodeState, encodeState } from '../failover/saved.ts';
import { type FailoverState, step } from '../failover/step.ts';
import type { LocalService } from '../federation/local.ts';
import type { MemberView, ServiceView, View } from '../federation/view.ts';
import type { ServiceRecord } from '../gen/isthmus/v1/records_pb.ts';
import type { Signals } from '../health/signals.ts';
import type { CellHealth } from '../health/state.ts';
import { type CellKey, cellOf } from '../health/verdict.ts';

/** Everything that `step` is a function of. */
export interface StepInputs {
  /** Before the step. */
  readonly state: FailoverState;
  readonly view: View;
  readonly signals: Signals;
  readonly policies: Policies;
  readonly nowMs: number;
  /** `step` drew from `seededRng(seed)`. */
  readonly seed: number;
  readonly role: Role;
}

const format = 1;
const noBytes = new Uint8Array();

interface Captured extends Omit<StepInputs, 'view' | 'state'> {
  readonly format: typeof format;
  readonly program: string;
  /** Services that are not in here. */
  readonly leftOut: number;
  /** As `encodeState` writes it: the next version reads it too. */
  readonly state: string;
  readonly self: string;
  readonly members: ReadonlyMap<string, MemberView>;
  /** A remote that is `true` is the member's own record of the service. */
  readonly services: ReadonlyMap<
    ServiceKey,
    Omit<ServiceView, 'remotes'> & { readonly remotes: ReadonlyMap<string, ServiceRecord | true> }
  >;
}

/** Endpoints count by what they are ready for; addresses and labels tell a decision nothing. */
const slimLocal = (local: LocalService | undefined): LocalService | undefined =>
  local === undefined
    ? undefined
    : {
        ...local,
        clusterIPs: [],
        labels: {},
        annotations: {},
        endpoints: local.endpoints.map((endpoint) => ({ ...endpoint, address: '', pod: undefined, ports: new Map() })),
      };

/** Whom it runs as and what it is called in DNS moves no traffic. */
const slimRecord = (record: ServiceRecord): ServiceRecord => ({ ...record, hostname: '', accounts: [] });

/** Without keys, roots and what only people read. */
const slimMember = (view: MemberView, kept: ReadonlySet<ServiceKey> | undefined): MemberView => {
  const { member, head, freshAtMs, shuttingDown, gateways, vantage, grants, votes, services } = view;
  return {
    member: { ...member, federationCa: noBytes, recordKey: noBytes, addressRanges: [], serviceAccounts: [] },
    head,
    freshAtMs,
    shuttingDown,
    gateways,
    trust: undefined,
    vantage,
    grants,
    votes,
    services: new Map([...services].filter(([key]) => kept?.has(key) ?? true).map(([key, r]) => [key, slimRecord(r)])),
    problems: [],
  };
};

const onlyServices = <T>(map: ReadonlyMap<ServiceKey, T>, kept: ReadonlySet<ServiceKey>): ReadonlyMap<ServiceKey, T> =>
  new Map([...map].filter(([key]) => kept.has(key)));

/** The cells of these services. */
const onlyCells = <T>(cells: Iterable<readonly [CellKey, T]>, kept: ReadonlySet<ServiceKey>): Map<CellKey, T> =>
  new Map([...cells].filter(([key]) => kept.has(cellOf(key).service)));

const slimState = (state: FailoverState, kept: ReadonlySet<ServiceKey>): FailoverState => ({
  ...state,
  services: onlyServices(state.services, kept),
  grants: onlyServices(state.grants, kept),
  told: { ...state.told, cells: onlyCells(state.told.cells, kept) },
  health: {
    ...state.health,
    cells: Object.fromEntries(
      onlyCells(Object.entries(state.health.cells) as [CellKey, CellHealth][], kept),
    ) as FailoverState['health']['cells'],
  },
});

const slimSignals = (signals: Signals, kept: ReadonlySet<ServiceKey>): Signals => {
  const of = <T extends { readonly service: ServiceKey | undefined }>(items: readonly T[]): readonly T[] =>
    items.filter(({ service }) => service === undefined || kept.has(service));
  return { ...signals, probes: of(signals.probes), traffic: of(signals.traffic), gray: of(signals.gray) };
};

/** Undefined: all of them. */
const keptServices = (view: View, decisions: readonly Decision[]): ReadonlySet<ServiceKey> | undefined => {
  let records = 0;
  for (const { remotes } of view.services.values()) records += 1 + remotes.size;
  if (records <= limits.journalRecordsWholeMax) return undefined;
  const kept = new Set<ServiceKey>();
  let room = limits.journalRecordsMax;
  for (const { service } of decisions) {
    if (service === undefined || kept.has(service)) continue;
    room -= 1 + (view.services.get(service)?.remotes.size ?? 0);
    if (room < 0) break;
    kept.add(service);
  }
  return kept;
};

/** What the journal is given as the inputs of a step. @param decisions - that the step made */
export const captureStep = (inputs: StepInputs, decisions: readonly Decision[], program: string): unknown => {
  const { view, state, signals, policies, nowMs, seed, role } = inputs;
  const kept = keptServices(view, decisions);
  const services = new Map<ServiceKey, unknown>();
  for (const [key, service] of view.services) {
    if (kept !== undefined && !kept.has(key)) continue;
    const remotes = new Map<string, ServiceRecord | true>();
    for (const [name, record] of service.remotes) {
      remotes.set(name, view.members.get(name)?.services.get(key) === record ? true : slimRecord(record));
    }
    services.set(key, { ...service, local: slimLocal(service.local), remotes, conflicts: [] });
  }
  const members = new Map([...view.members].map(([name, member]) => [name, slimMember(member, kept)]));
  return {
    format,
    program,
    leftOut: view.services.size - services.size,
    self: view.self,
    members,
    services,
    state: Buffer.from(encodeState(kept === undefined ? state : slimState(state, kept))).toString('utf8'),
    signals: kept === undefined ? signals : slimSignals(signals, kept),
    policies: kept === undefined ? policies : { ...policies, services: onlyServices(policies.services, kept) },
    nowMs,
    seed,
    role,
  };
};

export interface RestoredStep {
  readonly inputs: StepInputs;
  readonly program: string;
  readonly leftOut: number;
}

/** From what the journal gives back. Errors: `journal/malformed`. */
export const restoreStep = (value: unknown): Result<RestoredStep> => {
  const captured = value as Captured | null;
  if (typeof captured !== 'object' || captured?.format !== format) {
    return fail(
      'journal/malformed',
      `these inputs have format ${String(captured?.format)}, this program knows ${format}`,
      {
        hint: 'replay it with the version that wrote it: the entry’s export names it',
      },
    );
  }
  try {
    const state = decodeState(Buffer.from(captured.state));
    if (!state.ok)
      return fail('journal/malformed', `the inputs hold no state: ${state.error.message}`, { cause: state.error });
    const { self, members, signals, policies, nowMs, seed, role, program, leftOut } = captured;
    const services = new Map<ServiceKey, ServiceView>();
    for (const [key, service] of captured.services) {
      const remotes = new Map<string, ServiceRecord>();
      for (const [name, record] of service.remotes) {
        const found = record === true ? members.get(name)?.services.get(key) : record;
        if (found !== undefined) remotes.set(name, found);
      }
      // Fields that were undefined are not there; the types want them.
      services.set(key, { ...service, local: service.local, unsupported: service.unsupported, remotes });
    }
    return ok({
      inputs: { state: state.value, view: { self, members, services }, signals, policies, nowMs, seed, role },
      program,
      leftOut,
    });
  } catch (cause) {
    return fail('journal/malformed', `the inputs are not those of a step: ${(cause as Error).message}`, { cause });
  }
};

export interface ReplayDifference {
  /** Of the step's decisions, from 0. */
  readonly index: number;
  /** `detail`, or `decision` when one of the two is missing. */
  readonly field: string;
  readonly recorded: unknown;
  readonly replayed: unknown;
}

export interface Replay {
  readonly same: boolean;
  readonly decisions: readonly Decision[];
  readonly differences: readonly ReplayDifference[];
  readonly leftOut: number;
  /** Whether a decision about this service can be told from these inputs. */
  covers(service: ServiceKey | undefined): boolean;
  /** Version that recorded it. */
  readonly program: string;
}

/** As it would be in the journal. */
const written = (decision: Decision): Record<string, unknown> =>
  JSON.parse(JSON.stringify(decision)) as Record<string, unknown>;

const differ = (
  index: number,
  recorded: Record<string, unknown>,
  replayed: Record<string, unknown>,
): ReplayDifference[] =>
  [...new Set([...Object.keys(recorded), ...Object.keys(replayed)])]
    .filter((field) => !isDeepStrictEqual(recorded[field], replayed[field]))
    .map((field) => ({ index, field, recorded: recorded[field], replayed: replayed[field] }));

/**
 * Runs the step again.
 * @param recorded - the bodies of all entries of the step, in order
 */
export const replayStep = (value: unknown, recorded: readonly unknown[]): Result<Replay> => {
  const restored = restoreStep(value);
  if (!restored.ok) return restored;
  const { inputs, program, leftOut } = restored.value;
  const { state, view, signals, policies, nowMs, seed, role } = inputs;
  let decisions: readonly Decision[];
  try {
    decisions = step(state, view, signals, policies, nowMs, seededRng(seed), role).journal;
  } catch (cause) {
    if (cause instanceof IsthmusError) return { ok: false, error: cause };
    return fail('journal/malformed', `the step cannot be run from these inputs: ${(cause as Error).message}`, {
      cause,
    });
  }
  const covers = (service: ServiceKey | undefined): boolean =>
    leftOut === 0 || service === undefined || view.services.has(service);
  const known = (body: unknown): boolean => covers(((body ?? {}) as { service?: ServiceKey }).service);
  const before = recorded.filter(known) as Record<string, unknown>[];
  const after = decisions.map(written);
  const differences: ReplayDifference[] = [];
  for (let i = 0; i < Math.max(before.length, after.length); i++) {
    const [was, is] = [before[i], after[i]];
    if (was === undefined || is === undefined)
      differences.push({ index: i, field: 'decision', recorded: was, replayed: is });
    else differences.push(...differ(i, was, is));
  }
  return ok({ same: differences.length === 0, decisions, differences, leftOut, covers, program });
};
