/**
 * Probes with a certificate of the CA that is to issue next: through our own gateways to a workload of each member that we trade with. They
 * show, before anything depends on it, that the new root is trusted over the whole way, and not only said to be.
 */
import type { X509Certificate } from 'node:crypto';
import { type Authority, fullFingerprint } from '../ca/authority.ts';
import type { Config } from '../config/controller.ts';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { probeSni } from '../core/probing.ts';
import type { View } from '../federation/view.ts';
import type { Credentials } from '../hbone/credentials.ts';
import { createDialer } from '../hbone/dialer.ts';
import type { Log } from '../ops/log.ts';
import { type LocalGateway, LocalGateways } from '../probe/local_gateways.ts';
import type { ServiceTarget } from '../probe/rotation.ts';
import { probeOnce } from '../probe/single.ts';
import { memberTargets, serviceTargets } from '../probe/targets.ts';
import { workloadId } from '../trust/spiffe.ts';
import { selfIssued } from './self_issued.ts';

export interface NextProbesOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Log;
  readonly view: () => View;
  /** Who says that all of its proxies have a root: asked earlier, they would only refuse. */
  readonly partners: (root: string) => readonly string[];
  readonly moreRoots: () => readonly X509Certificate[];
  readonly localGateways: () => readonly LocalGateway[];
}

interface Outcome {
  readonly ok: boolean;
  readonly detail: string;
  readonly atMs: number;
}

const everyMs = 2_000;
/** What was seen longer ago says nothing any more. */
const keptMs = 60_000;
const ttlS = 300;

export class NextProbes {
  readonly #o: NextProbesOptions;
  readonly #seen = new Map<string, Outcome>();
  #ca: Authority | undefined;
  #gateways: LocalGateways | undefined;
  #busy = false;
  #lastMs = Number.NEGATIVE_INFINITY;
  #turn = 0;

  constructor(options: NextProbesOptions) {
    this.#o = options;
  }

  /** By root. */
  get results(): ReadonlyMap<string, { readonly passed: readonly string[]; readonly failed: readonly string[] }> {
    if (this.#ca === undefined) return new Map();
    const nowMs = this.#o.clock.monotonicMs();
    const fresh = [...this.#seen].filter(([, { atMs }]) => nowMs - atMs <= keptMs);
    const of = (wanted: boolean) => fresh.filter(([, { ok }]) => ok === wanted).map(([member]) => member);
    return new Map([[fullFingerprint(this.#ca.root), { passed: of(true), failed: of(false) }]]);
  }

  /** Once a second. @param next - undefined: there is nothing to prove */
  tick(next: Authority | undefined): void {
    if (next !== this.#ca) this.#begin(next);
    const nowMs = this.#o.clock.monotonicMs();
    if (next === undefined || this.#busy || nowMs - this.#lastMs < everyMs) return;
    this.#lastMs = nowMs;
    this.#busy = true;
    this.#round(next)
      .catch((error: unknown) => this.#o.log('warn', 'probes under the next CA fail', { error: error as Error }))
      .finally(() => {
        this.#busy = false;
      });
  }

  close(): void {
    this.#begin(undefined);
  }

  #begin(next: Authority | undefined): void {
    this.#ca = next;
    this.#seen.clear();
    this.#gateways?.close();
    this.#gateways = undefined;
  }

  async #round(next: Authority): Promise<void> {
    const { partners } = this.#o;
    const ready = partners(fullFingerprint(next.root));
    if (ready.length === 0) return;
    // Anew each round: a connection that is open already would prove nothing.
    this.#gateways?.close();
    this.#gateways = await this.#dialled(next);
    const targets = this.#targets(new Set(ready));
    this.#turn++;
    for (const member of ready) {
      const own = targets.get(member) ?? [];
      await this.#probe(next, member, own.length === 0 ? undefined : own[this.#turn % own.length]);
    }
  }

  /** Of these members, in one pass: a large set has a hundred thousand. */
  #targets(members: ReadonlySet<string>): ReadonlyMap<string, readonly ServiceTarget[]> {
    const now = this.#o.view();
    const found = new Map<string, ServiceTarget[]>();
    for (const service of now.services.values()) {
      for (const target of serviceTargets(service, now, this.#o.config.trustDomain)) {
        if (!members.has(target.member)) continue;
        const own = found.get(target.member);
        if (own === undefined) found.set(target.member, [target]);
        else own.push(target);
      }
    }
    return found;
  }

  async #dialled(next: Authority): Promise<LocalGateways> {
    const { config, clock, localGateways } = this.#o;
    const credentials = await this.#credentials(next);
    return new LocalGateways({
      dialer: createDialer({ credentials: () => credentials, clock }),
      clock,
      pods: localGateways,
      identity: workloadId(config.trustDomain, config.namespace, config.gateway.serviceAccount),
      servername: probeSni(config.clusterset),
    });
  }

  /** Without a workload that is ready over there, its gateway: then our own gateways alone have shown that they trust the root. */
  async #probe(next: Authority, member: string, service: ServiceTarget | undefined): Promise<void> {
    const { clock, view, log } = this.#o;
    const { members, self } = view();
    const gateways = memberTargets(members, self).get(member) ?? [];
    const gateway = gateways[this.#turn % Math.max(1, gateways.length)];
    if (gateway === undefined || this.#gateways === undefined) return;
    let outcome: Omit<Outcome, 'atMs'>;
    try {
      const connection = await this.#gateways.next();
      const { result, detail } = await probeOnce(connection, { member, gateway, service, path: undefined }, clock);
      outcome = { ok: result?.ok === true, detail };
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      outcome = { ok: false, detail: error.message };
    }
    if (next !== this.#ca) return;
    if (!outcome.ok) log('debug', 'probe under the next CA failed', { peer: member, detail: outcome.detail });
    this.#seen.set(member, { ...outcome, atMs: clock.monotonicMs() });
  }

  #credentials(next: Authority): Promise<Credentials> {
    const { config, clock, moreRoots } = this.#o;
    const identity = workloadId(config.trustDomain, config.namespace, 'isthmus-controller');
    return selfIssued({ authority: next, moreRoots: moreRoots(), identity, ttlS, clock });
  }
}
