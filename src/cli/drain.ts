/**
 * `isthmus drain` and `undrain`: shows what would move, asks for the name to be typed, then does it, and with --wait follows the ramp.
 */

import { IsthmusError } from '../core/errors.ts';
import type { CommandReport, DryRunReport } from '../core/failover_report.ts';
import type { StatusReport } from '../core/report.ts';
import { authorOf } from './author.ts';
import { confirm, realTerminal, type Terminal } from './confirm.ts';
import { renderDryRun } from './dry_run.ts';
import { decisionRow } from './explain.ts';
import { age, aligned, type Format, mark, print, printData } from './output.ts';
import { askOneWith, type ReachOptions, reachControllers, sendOne } from './reach.ts';
import { lengthOf } from './times.ts';

export interface DrainOptions extends ReachOptions {
  readonly region?: string;
  readonly cluster?: string;
  readonly over?: string;
  readonly grace?: string;
  readonly reason?: string;
  readonly dryRun: boolean;
  readonly yes: boolean;
  readonly wait?: string | boolean;
  readonly output: Format;
}

type Verb = 'drain' | 'undrain';

/** As the controller takes it; the member that is left out is the controller's own. */
export type Target =
  | { readonly scope: 'cluster'; readonly member: string }
  | { readonly scope: 'region'; readonly region: string }
  | { readonly scope: 'gateway'; readonly member?: string; readonly gateway: string }
  | { readonly scope: 'service'; readonly member?: string; readonly service: string };

const scopes = ['cluster', 'gateway', 'service'] as const;
const rampMaxMs = 3_600_000;
const graceMaxMs = 86_400_000;
const waitMaxMs = 86_400_000;
const waitDefaultMs = 300_000;

const usage = (message: string, hint: string): IsthmusError => new IsthmusError('usage/invalid', message, { hint });

export const parseTarget = (
  verb: Verb,
  scope: string | undefined,
  name: string | undefined,
  options: Pick<DrainOptions, 'region' | 'cluster'>,
): Target => {
  const { region, cluster } = options;
  const forms = `isthmus ${verb} cluster NAME | gateway POD | service NS/NAME [--cluster NAME] | --region NAME`;
  if (region !== undefined) {
    if (name !== undefined || (scope !== undefined && scope !== 'cluster') || cluster !== undefined) {
      throw usage(`--region "${region}" is all clusters of a region, and takes no other name`, forms);
    }
    return { scope: 'region', region };
  }
  if (scope === undefined) throw usage(`nothing to ${verb} is named`, forms);
  if (!(scopes as readonly string[]).includes(scope)) {
    throw usage(`"${scope}" is not something to ${verb}`, `choose one of ${scopes.join(', ')}: ${forms}`);
  }
  if (name === undefined) throw usage(`the name of the ${scope} is missing`, forms);
  if (scope === 'cluster') {
    if (cluster !== undefined && cluster !== name) throw usage(`--cluster "${cluster}" is not "${name}"`, forms);
    return { scope: 'cluster', member: name };
  }
  const at = cluster === undefined ? {} : { member: cluster };
  return scope === 'gateway' ? { scope: 'gateway', ...at, gateway: name } : { scope: 'service', ...at, service: name };
};

/** The word to type. */
export const nameOf = (target: Target): string => {
  if (target.scope === 'cluster') return target.member;
  if (target.scope === 'region') return target.region;
  return target.scope === 'gateway' ? target.gateway : target.service;
};

const quoted = (text: string): string => (/^[\w./:@-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** The same command, to be run again. */
const again = (verb: Verb, target: Target, options: DrainOptions): string => {
  const { controller = [], kubeconfig, context, namespace, over, grace, reason } = options;
  const flag = (name: string, value: string | undefined): string[] =>
    value === undefined ? [] : [name, quoted(value)];
  const aim = target.scope === 'region' ? ['--region', target.region] : [target.scope, nameOf(target)];
  const at = 'member' in target && target.scope !== 'cluster' ? flag('--cluster', target.member) : [];
  return [
    `isthmus ${verb}`,
    ...aim,
    ...at,
    ...flag('--over', over),
    ...flag('--grace', grace),
    ...flag('--reason', reason),
    ...controller.flatMap((url) => flag('--controller', url)),
    ...flag('--kubeconfig', kubeconfig),
    ...flag('--context', context),
    ...(namespace === 'isthmus-system' ? [] : flag('--namespace', namespace)),
  ].join(' ');
};

const held = (report: CommandReport): boolean =>
  report.decisions.some((d) => d.kind === 'hold') &&
  !report.decisions.some((d) => typeof d.after === 'object' && d.after !== null);

export const renderCommand = (what: string, report: CommandReport): string => {
  const head = `${what}: asked of ${report.member} by ${report.author}.`;
  if (report.decisions.length === 0) return `${head} Nothing had to be decided at once.`;
  return `${head}\n${aligned(report.decisions.map((d) => decisionRow(d, report.member, report.at)))}`;
};

const describe = (verb: Verb, target: Target): string => {
  const at =
    'member' in target && target.scope !== 'cluster' && target.member !== undefined ? ` at ${target.member}` : '';
  return `${verb} ${target.scope} ${nameOf(target)}${at}`;
};

/** What the status says of a ramp: how far it is, and what holds it. */
export interface Progress {
  readonly done: boolean;
  readonly text: string;
  readonly held: readonly string[];
}

export const progressOf = (verb: Verb, target: Target, status: StatusReport): Progress => {
  const name = nameOf(target);
  const drains = status.failover?.drains ?? [];
  const drain = drains.find((d) => d.target.startsWith(`${target.scope} ${name}`));
  const holds = (drain?.held ?? []).map((hold) => `${hold.guard}: ${hold.detail}`);
  if (verb === 'drain') {
    if (drain === undefined) return { done: false, text: 'not begun', held: [] };
    return { done: drain.percent >= 100, text: `${drain.percent} % moved`, held: holds };
  }
  const returning = status.services.flatMap((service) =>
    (service.cells ?? [])
      .filter((cell) => ['Draining', 'Ramping', 'HoldDown'].includes(cell.reason))
      .filter((cell) => target.scope === 'region' || target.scope === 'service' || cell.member === name)
      .filter(() => target.scope !== 'service' || service.service === target.service),
  );
  const still = returning.length;
  return {
    done: drain === undefined && still === 0,
    text: still === 0 ? 'back' : `${still} still on their way back`,
    held: [],
  };
};

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Follows the ramp; progress on stderr, a line for each change. */
const follow = async (verb: Verb, target: Target, options: DrainOptions, waitMs: number): Promise<void> => {
  const controllers = await reachControllers(options);
  const started = performance.now();
  let last: Progress = { done: false, text: '', held: [] };
  try {
    for (;;) {
      let seen: StatusReport | undefined;
      for (const controller of controllers) {
        try {
          seen = (await controller.get('/v1/status', 10_000)) as StatusReport;
          if (seen.failover?.deciding === true) break;
        } catch (error) {
          if (!(error instanceof IsthmusError)) throw error;
        }
      }
      if (seen !== undefined) {
        const now = progressOf(verb, target, seen);
        const passed = age((performance.now() - started) / 1000);
        if (now.text !== last.text)
          process.stderr.write(` ${mark(now.done ? 'ok' : 'warn')} ${now.text} (${passed})\n`);
        for (const hold of now.held.filter((h) => !last.held.includes(h)))
          process.stderr.write(` ${mark('warn')} held: ${hold}\n`);
        last = now;
        if (now.done) return;
      }
      if (performance.now() - started > waitMs) break;
      await pause(1_000);
    }
  } finally {
    for (const controller of controllers) controller.close();
  }
  const code = last.held.length > 0 ? 'command/held' : 'controller/unreachable';
  const why = last.held.length > 0 ? `held by ${last.held.join('; ')}` : last.text || 'no controller answers';
  throw new IsthmusError(code, `${describe(verb, target)} is not over after ${age(waitMs / 1000)}: ${why}`, {
    hint: 'isthmus status shows how far it is; it goes on by itself',
  });
};

const waitMsOf = (wait: string | boolean | undefined): number | undefined => {
  if (wait === undefined || wait === false) return undefined;
  return wait === true ? waitDefaultMs : lengthOf('--wait', wait, 1_000, waitMaxMs);
};

export const drainCommand = async (
  verb: Verb,
  scope: string | undefined,
  name: string | undefined,
  options: DrainOptions,
  terminal: Terminal = realTerminal,
): Promise<void> => {
  const target = parseTarget(verb, scope, name, options);
  const overMs = options.over === undefined ? undefined : lengthOf('--over', options.over, 0, rampMaxMs);
  const graceMs = options.grace === undefined ? undefined : lengthOf('--grace', options.grace, 0, graceMaxMs);
  const waitMs = waitMsOf(options.wait);
  const machine = options.output === 'json' || options.output === 'yaml' ? options.output : undefined;
  const what = describe(verb, target);
  const repeat = again(verb, target, options);
  const author = await authorOf(options);
  const body = { kind: verb, target, author, reason: options.reason ?? '', overMs, graceMs };
  if (options.dryRun || !options.yes) {
    // Nobody is there to read it and to answer.
    if (!options.dryRun && !terminal.interactive) await confirm(what, nameOf(target), `${repeat} --yes`, terminal);
    const rehearsal = (await askOneWith(options, '/v1/dry-run', body, 60_000)) as DryRunReport;
    if (options.dryRun) {
      if (machine === undefined) print(`${renderDryRun(rehearsal, options.output === 'wide')}\n\nTo do it: ${repeat}`);
      else printData(machine, rehearsal);
      if (rehearsal.blocked) process.exitCode = 81;
      return;
    }
    process.stderr.write(`${renderDryRun(rehearsal, options.output === 'wide')}\n\n`);
    await confirm(what, nameOf(target), `${repeat} --yes`, terminal);
  }
  const report = (await sendOne(options, '/v1/commands', body, 30_000)) as CommandReport;
  if (machine === undefined) print(renderCommand(what, report));
  else printData(machine, report);
  if (waitMs !== undefined) await follow(verb, target, options, waitMs);
  else if (held(report)) {
    throw new IsthmusError('command/held', `${what} is held by guards, and goes on when they let it`, {
      hint: 'isthmus status shows what holds it',
    });
  }
};
