/**
 * `isthmus trust rotate`: exchanges a root in stages, each refused until every proxy of every member that is concerned has what it needs.
 * The CA's files are here, in the trust directory; who has loaded what is asked of a controller, which knows it of all members.
 */

import { randomBytes } from 'node:crypto';
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fullFingerprint } from '../ca/authority.ts';
import { loadMaterial, type MaterialFiles, readMaterial } from '../ca/material.ts';
import {
  addedFiles,
  checkFiles,
  removedFiles,
  switchedBackFiles,
  switchedFiles,
  writeMaterial,
} from '../ca/rotation_files.ts';
import { initTrust } from '../ca/trustfiles.ts';
import { parseDuration } from '../core/duration.ts';
import { IsthmusError } from '../core/errors.ts';
import type { TrustReport } from '../core/trust_report.ts';
import { realClock } from '../ops/clock.ts';
import { shortFingerprint } from '../trust/bundle.ts';
import { type Judgement, judgeRotation, type RotationStep, rotationAfter } from '../trust/rotation.ts';
import type { DeskOptions } from './authority_desk.ts';
import type { PassphraseOptions } from './authority_key.ts';
import { openDesk } from './desk.ts';
import { installSecrets, openCluster } from './install_member.ts';
import { type Format, print, printData, step } from './output.ts';
import { askOne, type ReachOptions } from './reach.ts';
import {
  clustersOf,
  endRotation,
  mustBeUnderWay,
  noteRotation,
  readRotation,
  type SavedRotation,
  saveRotation,
} from './rotation_state.ts';
import { rotationText } from './rotation_text.ts';
import { registerRoots } from './trust_register.ts';

export interface RotateOptions extends ReachOptions {
  readonly trustDir: string;
  /** `cluster=context`, of clusters whose Secret is written, too. */
  readonly install: readonly string[];
}

export interface StartOptions extends RotateOptions, Partial<DeskOptions>, PassphraseOptions {
  readonly cluster: readonly string[];
  readonly material?: string;
  readonly trustDomain: string;
}

export interface ContinueOptions extends RotateOptions {
  readonly force: readonly string[];
  /** How long to wait for the proof; true: as long as it takes. */
  readonly wait?: string | boolean;
}

const askTimeoutMs = 10_000;
const pollMs = 1_000;
const pause = (ms: number): Promise<void> => new Promise((resolve) => realClock.after(ms, resolve));
const usage = (message: string, hint: string): IsthmusError => new IsthmusError('usage/invalid', message, { hint });

const installs = (options: RotateOptions): ReadonlyMap<string, string> =>
  new Map(
    options.install.map((text) => {
      const at = text.indexOf('=');
      if (at < 1 || at === text.length - 1) throw usage(`--install "${text}" is not <cluster>=<context>`, 'name both');
      return [text.slice(0, at), text.slice(at + 1)];
    }),
  );

const report = async (options: ReachOptions): Promise<TrustReport> =>
  (await askOne(options, '/v1/trust', askTimeoutMs)) as TrustReport;

/** The files into the cluster's Secret `cacerts`, from where its controllers take them up by themselves. */
const install = async (cluster: string, context: string, files: MaterialFiles, options: RotateOptions) => {
  const { namespace, kubeconfig } = options;
  const api = await openCluster({ namespace, context, ...(kubeconfig === undefined ? {} : { kubeconfig }) });
  try {
    const cacerts = Object.fromEntries(Object.entries(files).map(([file, text]) => [file, Buffer.from(text)]));
    await installSecrets(api, namespace, cluster, { cacerts }, false);
  } finally {
    api.close();
  }
};

/** All of them are checked before the first is written. */
const write = async (made: ReadonlyMap<string, MaterialFiles>, options: RotateOptions): Promise<void> => {
  const contexts = installs(options);
  for (const [cluster, files] of made) checkFiles(files, cluster, realClock.wallMs());
  for (const [cluster, files] of made) {
    const dir = join(options.trustDir, cluster);
    await step(`cacerts of ${cluster}`, async () => writeMaterial(dir, files));
    const context = contexts.get(cluster);
    if (context !== undefined) await install(cluster, context, files, options);
  }
  const left = [...made.keys()].filter((cluster) => !contexts.has(cluster));
  if (left.length === 0) return;
  const lines = left.map(
    (cluster) => `  isthmus trust import --from ${join(options.trustDir, cluster)} --context <${cluster}>`,
  );
  process.stderr.write(`controllers take them up when they are in the Secret cacerts:\n${lines.join('\n')}\n`);
};

const freshMaterial = async (options: StartOptions, clusters: readonly string[], shared: boolean): Promise<string> => {
  if (options.material !== undefined) return options.material;
  const outDir = join(options.trustDir, 'next');
  if (existsSync(outDir)) throw usage(`${outDir} exists already`, 'move it away, or name it with --material');
  await step('a new root, and a CA under it for each cluster', () =>
    initTrust(
      {
        ...{ outDir, clusters, trustDomain: options.trustDomain, rootPerCluster: !shared },
        // The name tells roots apart where fingerprints are not shown.
        rootCommonName: `Isthmus root CA ${new Date(realClock.wallMs()).toISOString().slice(0, 10)}`,
        nowMs: realClock.wallMs(),
      },
      (bytes) => new Uint8Array(randomBytes(bytes)),
    ),
  );
  return outDir;
};

const register = async (options: StartOptions, roots: ReadonlyMap<string, readonly string[]>): Promise<void> => {
  const { authorityDir } = options;
  if (authorityDir === undefined) {
    process.stderr.write(
      'where roots are registered, the authority has to register the new ones: isthmus trust register\n',
    );
    return;
  }
  const desk = await openDesk({ ...options, authorityDir });
  try {
    for (const [cluster, all] of roots) {
      // A member without a list gets its old roots on it, too: else they would be refused.
      await step(`roots of ${cluster}, registered`, () =>
        registerRoots(desk, cluster, (before) => [...before, ...all]),
      );
    }
  } finally {
    await desk.close();
  }
};

export const rotateStart = async (options: StartOptions): Promise<void> => {
  const { trustDir } = options;
  const before = readRotation(trustDir);
  if (before !== undefined) {
    throw usage(`a rotation is under way in ${trustDir}, stage ${before.stage}`, 'isthmus trust rotate status');
  }
  const all = clustersOf(trustDir);
  const clusters = options.cluster.length === 0 ? all : [...new Set(options.cluster)].sort();
  const unknown = clusters.filter((cluster) => !all.includes(cluster));
  if (clusters.length === 0 || unknown.length > 0) {
    throw usage(
      `${trustDir} holds no cacerts of ${unknown.join(', ') || 'any cluster'}`,
      `it has ${all.join(', ') || 'none'}`,
    );
  }
  const nowMs = realClock.wallMs();
  const dirOf = (cluster: string): string => join(trustDir, cluster);
  const old = new Map(clusters.map((cluster) => [cluster, loadMaterial(dirOf(cluster), nowMs).authority]));
  const oldRoots = new Set([...old.values()].map(({ root }) => fullFingerprint(root)));
  const shared = clusters.length > 1 && oldRoots.size === 1;
  const material = await freshMaterial(options, clusters, shared);
  const made = new Map<string, MaterialFiles>();
  const to = new Set<string>();
  const registered = new Map<string, string[]>();
  for (const cluster of clusters) {
    const fresh = join(material, cluster);
    const root = fullFingerprint(loadMaterial(fresh, nowMs).authority.root);
    if (oldRoots.has(root))
      throw usage(`${fresh} has the root ${shortFingerprint(root)} that is to go`, 'give a CA under another root');
    made.set(cluster, addedFiles(readMaterial(dirOf(cluster)), readMaterial(fresh)));
    to.add(root);
    registered.set(cluster, [...old.get(cluster)!.roots.map(fullFingerprint), root]);
  }
  await register(options, registered);
  const rotation: SavedRotation = {
    ...{ stage: 'added', back: false, clusters, startedMs: nowMs },
    from: [...oldRoots].sort(),
    to: [...to].sort(),
  };
  for (const [cluster, files] of made) checkFiles(files, cluster, nowMs);
  saveRotation(trustDir, rotation);
  noteRotation(trustDir, { did: 'start', clusters, from: rotation.from, to: rotation.to });
  await write(made, options);
  process.stderr.write(
    'added: the old root issues, the new one is trusted beside it. See: isthmus trust rotate status\n',
  );
};

export const rotateStatus = async (options: RotateOptions & { readonly output: Format }): Promise<void> => {
  const rotation = mustBeUnderWay(options.trustDir);
  const seen = await report(options);
  const judged = judgeRotation(rotation, seen.members);
  if (options.output === 'json' || options.output === 'yaml') {
    printData(options.output, { rotation, ...judged, members: seen.members });
  } else print(rotationText(rotation, judged, seen, realClock.wallMs()));
  process.exitCode = judged.waiting.length > 0 ? 79 : 0;
};

const filesAfter = (stepTaken: RotationStep, files: MaterialFiles, rotation: SavedRotation): MaterialFiles => {
  if (stepTaken === 'switch') return switchedFiles(files);
  if (stepTaken === 'switch-back') return switchedBackFiles(files);
  return removedFiles(files, stepTaken === 'remove' ? rotation.from : rotation.to);
};

/** A step that was cut short has changed some clusters already. */
const isDone = (stepTaken: RotationStep, files: MaterialFiles): boolean => {
  if (stepTaken === 'switch') return files['next-ca-cert.pem'] === undefined;
  if (stepTaken === 'switch-back') return files['previous-ca-cert.pem'] === undefined;
  return false;
};

/** The new root's key goes where the old one's was, so that the next rotation and `revoke --trust-dir` find it. */
const keepRoots = (trustDir: string, rotation: SavedRotation): void => {
  const next = join(trustDir, 'next');
  if (!existsSync(next)) return;
  if (!rotation.back) {
    for (const dir of ['root', ...rotation.clusters.map((cluster) => `${cluster}-root`)]) {
      if (!existsSync(join(next, dir))) continue;
      if (existsSync(join(trustDir, dir)))
        renameSync(join(trustDir, dir), join(trustDir, `${dir}-until-${rotation.startedMs}`));
      renameSync(join(next, dir), join(trustDir, dir));
    }
  }
  renameSync(next, join(trustDir, `next-of-${rotation.startedMs}`));
};

const timeOf = (text: string | boolean | undefined): number => {
  if (text === undefined || text === false) return 0;
  if (text === true) return Number.POSITIVE_INFINITY;
  const ms = parseDuration(text);
  if (ms === undefined) throw usage(`--wait "${text}" is not a time`, 'write it as 30s or 48h');
  return ms;
};

/** @throws IsthmusError trust/not-proven, with everything that is missing */
const proven = async (rotation: SavedRotation, options: ContinueOptions): Promise<Judgement> => {
  const untilMs = realClock.monotonicMs() + timeOf(options.wait);
  let told = '';
  for (;;) {
    const judged = judgeRotation(rotation, (await report(options)).members);
    const unknown = options.force.filter((name) => !judged.concerned.includes(name));
    if (unknown.length > 0) {
      throw usage(
        `--force ${unknown.join(', ')}: not concerned by this rotation`,
        `concerned: ${judged.concerned.join(', ')}`,
      );
    }
    const waiting = judged.waiting.filter(({ member }) => !options.force.includes(member));
    if (waiting.length === 0) return judged;
    const lines = waiting.map(({ member, what }) => `${member}: ${what}`);
    if (realClock.monotonicMs() >= untilMs) {
      throw new IsthmusError('trust/not-proven', `not yet: ${lines.join('; ')}`, {
        hint: 'see "isthmus trust rotate status"; for a cluster that is gone for good: --force <cluster>',
      });
    }
    const text = `waiting: ${lines.join('; ')}\n`;
    if (text !== told) process.stderr.write(text);
    told = text;
    await pause(pollMs);
  }
};

const goOn = async (rotation: SavedRotation, options: ContinueOptions): Promise<void> => {
  const { trustDir } = options;
  const { step: next, waiting } = await proven(rotation, options);
  if (next === undefined) throw usage('this rotation is over', 'isthmus trust rotate start begins another');
  const made = new Map<string, MaterialFiles>();
  for (const cluster of rotation.clusters) {
    const files = readMaterial(join(trustDir, cluster));
    made.set(cluster, isDone(next, files) ? files : filesAfter(next, files, rotation));
  }
  const forced = options.force.filter((name) => waiting.some(({ member }) => member === name));
  const skipped = waiting.map(({ member, what }) => `${member}: ${what}`);
  noteRotation(trustDir, { did: next, ...(forced.length > 0 && { forced, skipped }) });
  await write(made, options);
  const after = { ...rotation, ...rotationAfter(rotation, next) };
  saveRotation(trustDir, after);
  if (after.stage !== 'removed') {
    process.stderr.write(
      next === 'switch'
        ? 'switched: the CA under the new root issues. Next: isthmus trust rotate continue, when no old certificate is in use\n'
        : 'switched back: the CA under the old root issues again. Next: isthmus trust rotate continue removes the new root\n',
    );
    return;
  }
  keepRoots(trustDir, after);
  endRotation(trustDir, after);
  const gone = (next === 'remove' ? rotation.from : rotation.to).map(shortFingerprint).join(' ');
  process.stderr.write(
    `removed: ${gone} is trusted no more. At the authority's desk: isthmus trust register --remove --cluster <each> --root <it>\n`,
  );
};

export const rotateContinue = (options: ContinueOptions): Promise<void> =>
  goOn(mustBeUnderWay(options.trustDir), options);

/** It goes back by the same stages, each proven: nothing is taken away from under a proxy that needs it. */
export const rotateAbort = async (options: ContinueOptions): Promise<void> => {
  const rotation = mustBeUnderWay(options.trustDir);
  if (rotation.stage === 'removed') throw usage('this rotation is over', 'rotate again to exchange the root');
  const back = { ...rotation, back: true };
  saveRotation(options.trustDir, back);
  noteRotation(options.trustDir, { did: 'abort' });
  await goOn(back, options);
};
