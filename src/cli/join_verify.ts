/**
 * Whether a cluster that joined is one of them: do the others trust its workloads, and does the data path carry.
 *
 * A ztunnel takes up new roots only with its next certificate. So where the clusters do not share a root, joined is not yet trusted, and
 * all that can be said honestly is until when it may take.
 */
import { X509Certificate } from 'node:crypto';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { StatusReport } from '../core/report.ts';
import type { Store } from '../core/store.ts';
import { realClock } from '../ops/clock.ts';
import { codec } from '../records/codec.ts';
import { storeKeys } from '../records/keys.ts';
import { mark } from './output.ts';
import { askOne, type ReachOptions } from './reach.ts';

export interface TrustStanding {
  /** Members whose workloads share a root with ours. */
  readonly shared: readonly string[];
  /** Members whose do not. */
  readonly pending: readonly string[];
}

const pemBlocks = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** @param rootsPem - our root-cert.pem */
export const trustStanding = async (
  store: Store,
  clusterset: string,
  self: string,
  rootsPem: string,
): Promise<TrustStanding> => {
  const own = new Set((rootsPem.match(pemBlocks) ?? []).map((pem) => new X509Certificate(pem).fingerprint256));
  const keys = storeKeys(clusterset);
  const { entries } = await store.list(keys.membersPrefix);
  const shared: string[] = [];
  const pending: string[] = [];
  for (const { key } of entries) {
    const name = key.slice(keys.membersPrefix.length);
    if (name === self) continue;
    const at = keys.trust(name);
    const entry = (await store.list(at)).entries.find((one) => one.key === at);
    const record = entry === undefined ? undefined : codec.trust.decode(entry.value);
    // Not published yet: nobody runs there whom anybody could trust.
    if (record === undefined || !record.ok) continue;
    const theirs = record.value.roots.map((der) => new X509Certificate(der).fingerprint256);
    (theirs.some((root) => own.has(root)) ? shared : pending).push(name);
  }
  return { shared, pending };
};

const say = (kind: 'ok' | 'warn', text: string): void => {
  process.stderr.write(` ${mark(kind)} ${text}\n`);
};

export const sayTrust = ({ shared, pending }: TrustStanding): void => {
  if (shared.length > 0) say('ok', `trusted: shares a root with ${shared.join(', ')}`);
  if (pending.length === 0) return;
  const until = new Date(realClock.wallMs() + limits.certificateTtlMaxS * 1_000).toISOString();
  say(
    'warn',
    `trust pending with ${pending.join(', ')}: another root, loaded with their next certificates, ${until} at the latest`,
  );
};

const pause = (ms: number): Promise<void> => new Promise((resolve) => realClock.after(ms, resolve));

/** Peers that answer in both planes, and those that do not (yet). */
const peersOf = (report: StatusReport, only: string | undefined) => {
  const peers = report.peers.filter(({ member }) => only === undefined || member === only);
  const good = peers.filter(({ control, data }) => control.state === 'fresh' && data.state === 'reachable');
  return { peers, good };
};

/**
 * Asks a controller until it reaches its peers, or the time is over; says what it found.
 * @param only - this peer alone counts
 * @returns whether the data path was seen to carry
 */
export const sayDataPath = async (reach: ReachOptions, withinMs: number, only?: string): Promise<boolean> => {
  const endMs = realClock.monotonicMs() + withinMs;
  for (;;) {
    let why: string;
    try {
      const report = (await askOne(reach, '/v1/status', 3_000)) as StatusReport;
      const { peers, good } = peersOf(report, only);
      if (peers.length > 0 && good.length === peers.length) {
        const rtts = good.map(({ member, data }) => `${member}${data.rttMs === null ? '' : ` in ${data.rttMs} ms`}`);
        say('ok', `verified: ${report.member} reaches ${rtts.join(', ')}`);
        return true;
      }
      const missing = peers
        .filter((peer) => !good.includes(peer))
        .map(({ member, data }) => `${member} is ${data.state}`);
      why = peers.length === 0 ? `${report.member} does not see ${only ?? 'any peer'} yet` : missing.join(', ');
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      why = error.message;
    }
    if (realClock.monotonicMs() >= endMs) {
      say('warn', `joined, the data path not verified yet: ${why}; look again with "isthmus status"`);
      return false;
    }
    await pause(500);
  }
};
