/**
 * Trust material on disk, for `isthmus trust init` and `isthmus trust import`: Istio's `cacerts` layout, one directory per
 * cluster, and the root beside them. The root's key is written once, for the operator to put away; nothing here reads it again.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { IsthmusError } from '../core/errors.ts';
import { isDnsLabel } from '../core/names.ts';
import { type Authority, type Cacerts, cacertsFiles, parseAuthority, signingKeyOf } from './authority.ts';
import { type MaterialFiles, materialFiles, parseMaterial, readMaterial } from './material.ts';
import { type Issuer, mint, newP256, type RandomBytes, validity } from './mint.ts';
import { pemOf } from './pem.ts';

export interface InitTrustInput {
  readonly outDir: string;
  readonly trustDomain: string;
  readonly clusters: readonly string[];
  /** A root per cluster instead of one for all. */
  readonly rootPerCluster?: boolean;
  readonly rootCommonName?: string;
  /** Seconds. Defaults: ten years and two years. */
  readonly rootTtlS?: number;
  readonly intermediateTtlS?: number;
  readonly nowMs: number;
}

export interface WrittenTrust {
  readonly clusters: ReadonlyMap<string, Authority>;
  readonly files: readonly string[];
}

const yearS = 365 * 86_400;
const always = { notBeforeMs: 0, notAfterMs: Number.POSITIVE_INFINITY };

interface MadeCa {
  readonly issuer: Issuer & { readonly certificate: NonNullable<Issuer['certificate']> };
  readonly cert: string;
  readonly key: string;
}

const makeCa = async (
  input: InitTrustInput,
  ca: { readonly commonName: string; readonly pathLength: number; readonly ttlS: number },
  parent: MadeCa | undefined,
  random: RandomBytes,
): Promise<MadeCa> => {
  const pair = newP256();
  const signing = signingKeyOf(pair.key, ca.commonName);
  const within =
    parent === undefined ? always : { notBeforeMs: 0, notAfterMs: parent.issuer.certificate.validToDate.getTime() };
  const certificate = await mint(
    parent?.issuer ?? { certificate: undefined, signing },
    {
      commonName: ca.commonName,
      organization: input.trustDomain,
      publicKey: pair.publicKey,
      caPathLength: ca.pathLength,
      ...validity(input.nowMs, ca.ttlS, within),
    },
    random,
  );
  return { issuer: { certificate, signing }, cert: pemOf(certificate), key: pair.keyPem };
};

const write = (dir: string, files: Readonly<Record<string, string>>): string[] => {
  mkdirSync(dir, { recursive: true });
  return Object.entries(files).map(([file, text]) => {
    const path = join(dir, file);
    const secret = file.endsWith('-key.pem');
    try {
      writeFileSync(path, text, { flag: 'wx', mode: secret ? 0o600 : 0o644 });
    } catch (cause) {
      throw new IsthmusError('files/invalid', `${path} cannot be written`, {
        hint: 'existing trust material is never overwritten; name another directory',
        cause,
      });
    }
    return path;
  });
};

/**
 * Makes `<out>/root/{root-cert,root-key}.pem` and `<out>/<cluster>/` in the cacerts layout; with `rootPerCluster` the roots
 * are `<out>/<cluster>-root/`. @throws IsthmusError 'usage/invalid', 'files/invalid' (never overwrites).
 */
export const initTrust = async (input: InitTrustInput, random: RandomBytes): Promise<WrittenTrust> => {
  if (input.clusters.length === 0) throw new IsthmusError('usage/invalid', 'no cluster is named');
  for (const cluster of input.clusters) {
    if (!isDnsLabel(cluster) || cluster === 'root') {
      throw new IsthmusError('usage/invalid', `"${cluster}" is not a cluster's name`, {
        hint: 'use a DNS label, not "root"',
      });
    }
  }
  if (new Set(input.clusters).size !== input.clusters.length) {
    throw new IsthmusError('usage/invalid', 'two clusters have one name');
  }
  const files: string[] = [];
  const rootTtlS = input.rootTtlS ?? 10 * yearS;
  const makeRoot = async (dir: string, suffix: string): Promise<MadeCa> => {
    const commonName = `${input.rootCommonName ?? 'Isthmus root CA'}${suffix}`;
    const root = await makeCa(input, { commonName, pathLength: 1, ttlS: rootTtlS }, undefined, random);
    files.push(...write(dir, { 'root-cert.pem': root.cert, 'root-key.pem': root.key }));
    return root;
  };
  const shared = input.rootPerCluster === true ? undefined : await makeRoot(join(input.outDir, 'root'), '');
  const clusters = new Map<string, Authority>();
  for (const cluster of input.clusters) {
    const root = shared ?? (await makeRoot(join(input.outDir, `${cluster}-root`), ` ${cluster}`));
    const ttlS = input.intermediateTtlS ?? 2 * yearS;
    const ca = await makeCa(input, { commonName: `${cluster} intermediate CA`, pathLength: 0, ttlS }, root, random);
    const cacerts: Cacerts = {
      'ca-cert.pem': ca.cert,
      'ca-key.pem': ca.key,
      'cert-chain.pem': ca.cert + root.cert,
      'root-cert.pem': root.cert,
    };
    const dir = join(input.outDir, cluster);
    // Read back as a controller will read it, before anything is written.
    clusters.set(cluster, parseAuthority(cacerts, dir, input.nowMs));
    files.push(...write(dir, cacerts));
  }
  return { clusters, files };
};

/**
 * Takes existing material as it is: a cacerts directory, or the data of such a secret (texts, already decoded from base64).
 * In the middle of a rotation the CAs that wait come with it. Nothing is changed or converted. @throws IsthmusError 'trust/invalid' or 'files/invalid'.
 */
export const importTrust = (
  from: string | Readonly<Record<string, string>>,
  nowMs: number,
): { readonly cacerts: MaterialFiles; readonly authority: Authority } => {
  const what = typeof from === 'string' ? from : 'secret';
  const cacerts = typeof from === 'string' ? readMaterial(from) : fromSecret(from);
  return { cacerts, authority: parseMaterial(cacerts, what, nowMs).authority };
};

const fromSecret = (data: Readonly<Record<string, string>>): MaterialFiles => {
  const there = materialFiles.filter((file) => data[file] !== undefined);
  const entries = [...new Set([...cacertsFiles, ...there])].map((file) => {
    const text = data[file];
    if (text === undefined) {
      throw new IsthmusError('trust/invalid', `secret: key ${file} is missing`, {
        hint: `it needs ${cacertsFiles.join(', ')}`,
      });
    }
    return [file, text] as const;
  });
  return Object.fromEntries(entries);
};

/** Writes imported material into a directory of its own. @throws IsthmusError 'files/invalid' (never overwrites). */
export const writeCacerts = (dir: string, cacerts: MaterialFiles): readonly string[] => write(dir, cacerts);
