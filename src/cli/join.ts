/**
 * `isthmus join`: makes a cluster a member, in one of three ways. With a token, its keys are made here and the authority approves; with
 * both contexts and the authority's directory at hand, the same in one command; with a bundle that `isthmus init` wrote, it is only installed.
 */
import { parse } from 'yaml';
import { parseDuration } from '../core/duration.ts';
import { IsthmusError } from '../core/errors.ts';
import type { KubeApi } from '../kube/api.ts';
import type { Applied } from '../kube/install.ts';
import { realClock } from '../ops/clock.ts';
import type { Terms } from '../trust/joining.ts';
import type { Token } from '../trust/tokens.ts';
import type { PassphraseOptions } from './authority_key.ts';
import { mustNotExist, writeNew } from './files.ts';
import {
  bundleFiles,
  type ClusterOptions,
  type Files,
  installObjects,
  installSecrets,
  openCluster,
  readCacertsDir,
  readFiles,
  secretFiles,
} from './install_member.ts';
import { checkToken, joinByToken, readTokenFile } from './join_token.ts';
import { sayDataPath, sayTrust, trustStanding } from './join_verify.ts';
import { print, step, table } from './output.ts';
import { proposalOf } from './proposal.ts';
import { type TermsOptions, termsOf } from './token.ts';
import { rootsInPem } from './trust_register.ts';

export interface JoinOptions extends ClusterOptions, PassphraseOptions, TermsOptions {
  readonly bundle?: string;
  readonly tokenFile?: string;
  readonly toContext?: string;
  readonly cacerts?: string;
  readonly dryRun: boolean;
  readonly cluster?: string;
  /** Fingerprint that the token must be by. */
  readonly authority?: string;
  readonly authorityDir: string;
  /** Write the bundle here, and touch no cluster. */
  readonly out?: string;
  readonly timeout: string;
  readonly verifyFor: string;
  readonly allowUnsafeEtcd: boolean;
}

const usage = (message: string, hint: string): IsthmusError => new IsthmusError('usage/invalid', message, { hint });

const timeOf = (option: string, text: string): number => {
  const ms = parseDuration(text);
  if (ms === undefined) throw usage(`${option} "${text}" is not a time`, 'write it as 30s or 10m');
  return ms;
};

const showApplied = (applied: readonly Applied[], dryRun: boolean): void =>
  print(
    table(
      ['KIND', 'NAMESPACE', 'NAME', dryRun ? 'WOULD BE' : 'RESULT'],
      applied.map((a) => [a.kind, a.namespace, a.name, a.action]),
    ),
  );

const joinWithBundle = async (bundle: string, options: JoinOptions): Promise<void> => {
  const { cacerts, namespace, dryRun } = options;
  if (cacerts === undefined) {
    throw usage('--cacerts is not given', 'name the intermediate CA of this cluster (isthmus trust init)');
  }
  const hint = 'name the directory of this member that `isthmus init` wrote';
  const member = readFiles(bundle, bundleFiles, 'member bundle', hint);
  const ca = await readCacertsDir(cacerts);
  const config = parse(member['member.yaml']!.toString('utf8')) as { member?: unknown } | null;
  const api = await openCluster(options);
  try {
    const applied = [...(await installObjects(api, namespace, dryRun))];
    const secrets = { 'isthmus-member': member, cacerts: ca };
    applied.push(...(await installSecrets(api, namespace, String(config?.member ?? ''), secrets, dryRun)));
    showApplied(applied, dryRun);
  } finally {
    api.close();
  }
};

const noProposal: Terms = {
  region: '',
  zone: '',
  network: '',
  addressRanges: [],
  namespaces: [],
  serviceAccounts: [],
};

/** What was given by hand goes before what the cluster says of itself. */
const proposed = async (
  api: KubeApi | undefined,
  cluster: string,
  options: JoinOptions,
  cacerts?: Files,
): Promise<Terms> => {
  const given = termsOf(options);
  const pem = cacerts?.['root-cert.pem']?.toString('utf8');
  const roots = given.trustRoots ?? (pem === undefined ? [] : rootsInPem(pem, 'root-cert.pem'));
  const found = api === undefined ? noProposal : await proposalOf(api, cluster, options.namespace);
  return {
    region: given.region || found.region,
    zone: given.zone || found.zone,
    network: given.network || found.network,
    addressRanges: given.addressRanges.length > 0 ? given.addressRanges : found.addressRanges,
    namespaces: given.namespaces.length > 0 ? given.namespaces : found.namespaces,
    serviceAccounts: given.serviceAccounts,
    ...(roots.length > 0 && { trustRoots: roots }),
  };
};

interface Prepared {
  readonly api: KubeApi;
  readonly cacerts: Files;
  /** Whether the cluster has it already. */
  readonly present: boolean;
}

/** The cluster as it must be before the token is spent: it answers, takes our objects, and has an intermediate CA. */
const prepare = async (options: JoinOptions): Promise<Prepared> => {
  const { cacerts, namespace } = options;
  const given = cacerts === undefined ? undefined : await readCacertsDir(cacerts);
  const api = await openCluster(options);
  try {
    const files = given ?? (await secretFiles(api, namespace, 'cacerts'));
    if (files === undefined) {
      throw usage('this cluster has no intermediate CA yet', 'name one with --cacerts (see "isthmus trust init")');
    }
    await installObjects(api, namespace, true, 'this cluster takes what will be installed');
    return { api, cacerts: files, present: given === undefined };
  } catch (error) {
    api.close();
    throw error;
  }
};

/** From a token to a verified member. */
const joinCluster = async (token: Token, options: JoinOptions, ready: Prepared, startedMs: number): Promise<void> => {
  const { api, cacerts, present } = ready;
  const { namespace } = options;
  const joined = await joinByToken(token, {
    proposed: await proposed(api, token.cluster, options, cacerts),
    waitMs: timeOf('--timeout', options.timeout),
    allowUnsafeEtcd: options.allowUnsafeEtcd,
  });
  try {
    const applied = [...(await installObjects(api, namespace, false))];
    const secrets = { 'isthmus-member': joined.bundle, ...(present ? {} : { cacerts }) };
    applied.push(...(await installSecrets(api, namespace, token.cluster, secrets, false)));
    await joined.done();
    const roots = cacerts['root-cert.pem']?.toString('utf8') ?? '';
    sayTrust(await trustStanding(joined.store, token.clusterset, token.cluster, roots));
    showApplied(applied, false);
    const seconds = ((realClock.monotonicMs() - startedMs) / 1_000).toFixed(1);
    process.stderr.write(`${token.cluster} is a member of ${token.clusterset} after ${seconds} s\n`);
  } finally {
    await joined.close();
  }
  const { kubeconfig, context } = options;
  const reach = { namespace, ...(kubeconfig === undefined ? {} : { kubeconfig }), ...(context ? { context } : {}) };
  await sayDataPath(reach, timeOf('--verify-for', options.verifyFor));
};

const joinWithToken = async (file: string, options: JoinOptions): Promise<void> => {
  const startedMs = realClock.monotonicMs();
  const token = await step('the token is whole', async () => readTokenFile(file));
  checkToken(token, options);
  if (options.out !== undefined) return joinToDirectory(token, options.out, options);
  const ready = await prepare(options);
  try {
    await joinCluster(token, options, ready, startedMs);
  } finally {
    ready.api.close();
  }
};

/** Without a cluster at hand: the bundle, for `isthmus join --bundle` or any other way into the Secret. */
const joinToDirectory = async (token: Token, out: string, options: JoinOptions): Promise<void> => {
  mustNotExist(out, 'directory');
  const joined = await joinByToken(token, {
    proposed: await proposed(
      undefined,
      token.cluster,
      options,
      options.cacerts === undefined ? undefined : await readCacertsDir(options.cacerts),
    ),
    waitMs: timeOf('--timeout', options.timeout),
    allowUnsafeEtcd: options.allowUnsafeEtcd,
  });
  try {
    for (const [name, bytes] of Object.entries(joined.bundle)) {
      writeNew(`${out}/${name}`, bytes.toString('utf8'), name.endsWith('-key.pem'));
    }
    await joined.done();
    print(out);
  } finally {
    await joined.close();
  }
};

/** Both sides in one command: whoever runs it has the authority and both clusters. */
const joinWithContexts = async (toContext: string, options: JoinOptions): Promise<void> => {
  const startedMs = realClock.monotonicMs();
  const cluster = options.cluster ?? options.context;
  if (cluster === undefined) throw usage('--context is not given', 'name the context of the cluster that joins');
  const { openDesk } = await import('./desk.ts');
  const { createToken } = await import('./token.ts');
  const { approveWhenAsked } = await import('./approve.ts');
  const desk = await openDesk(options);
  try {
    const ready = await prepare(options);
    try {
      const terms = await proposed(ready.api, cluster, options, ready.cacerts);
      const ttlMs = timeOf('--timeout', options.timeout);
      const { token, issued } = await createToken(desk, cluster, ttlMs, terms);
      const settings = { untilMs: issued.expiresMs, acceptProposed: true };
      const both = [joinCluster(token, options, ready, startedMs), approveWhenAsked(desk, issued, settings)];
      // The side that failed has the reason; the other one only stops waiting.
      for (const result of await Promise.allSettled(both)) if (result.status === 'rejected') throw result.reason;
      const { kubeconfig, namespace } = options;
      const reach = { namespace, context: toContext, ...(kubeconfig === undefined ? {} : { kubeconfig }) };
      await sayDataPath(reach, timeOf('--verify-for', options.verifyFor), cluster);
    } finally {
      ready.api.close();
    }
  } finally {
    await desk.close();
  }
};

export const join = async (options: JoinOptions): Promise<void> => {
  const { bundle, tokenFile, toContext } = options;
  const ways = [bundle, tokenFile, toContext].filter((way) => way !== undefined);
  if (ways.length !== 1) {
    throw usage(
      `${ways.length === 0 ? 'none' : 'more than one'} of --token-file, --to-context and --bundle is given`,
      'a token: isthmus join --token-file us-west.token; both contexts: isthmus join --context us-west --to-context us-east',
    );
  }
  if (options.dryRun && bundle === undefined)
    throw usage('--dry-run goes with --bundle alone', 'a token is spent by using it');
  if (bundle !== undefined) return joinWithBundle(bundle, options);
  if (tokenFile !== undefined) return joinWithToken(tokenFile, options);
  return joinWithContexts(toContext!, options);
};
