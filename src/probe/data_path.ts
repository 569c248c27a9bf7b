/**
 * Probes the data path to every other member, all the time: each of its gateways about twice a second, and a rotating sample of its
 * services. Results are signals; nothing is concluded here.
 *
 * A member's gateways are asked at the same time, and the member has answered when one of them has: a dead gateway is the business of
 * the Envoys, a dead member is ours. Services of a member that does not answer are not asked, for their failure would say nothing
 * about them. All is bounded: so many probes a second, so many at once, and a member whose round still runs waits for half of that
 * round's time.
 */
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import { probeSni } from '../core/probing.ts';
import type { TunnelConnection, TunnelDialer } from '../core/tunnel.ts';
import type { PathTime, ProbeResult } from '../health/signals.ts';
import { type LocalGateway, LocalGateways } from './local_gateways.ts';
import { ServiceRotation, type ServiceTarget } from './rotation.ts';
import { probeOnce, type RemoteGateway, type SingleResult } from './single.ts';
import { probeTimeoutMs } from './timing.ts';

export interface DataPathOptions {
  readonly clock: Clock;
  readonly rng: Rng;
  /** Dials with the controller's own mesh certificate. */
  readonly dialer: TunnelDialer;
  readonly clusterset: string;
  /** Mesh identity of our own gateways. */
  readonly gatewayIdentity: string;
  /** Egress listeners of the gateway pods that are believed to be alive. */
  readonly localGateways: () => readonly LocalGateway[];
  /** Measured round trip to a member. */
  readonly path: (member: string) => PathTime | undefined;
  /** `detail` for people: why it failed; empty when it did not. */
  readonly onResult: (result: ProbeResult, detail: string) => void;
  /** Who was put out, as far as a member's gateway tells (`federation/revocation_text.ts`). */
  readonly onRevocations?: (member: string, text: string) => void;
  /** No probe could be made: our own gateways take none. */
  readonly onLocalFailure?: (detail: string) => void;
}

/** What the last probe of one remote gateway showed, for people. */
export interface GatewayStanding {
  readonly member: string;
  readonly gateway: string;
  readonly address: string;
  readonly ok: boolean;
  readonly ms: number | undefined;
  readonly detail: string;
  readonly atMs: number;
}

interface Member {
  gateways: readonly RemoteGateway[];
  timer: Timer | undefined;
  /** Which gateways' turn it is, when there are more than a round asks. */
  turn: number;
  reachable: boolean;
  readonly standing: Map<string, GatewayStanding>;
}

/** Between rounds of one member; longer when there are many gateways. */
const intervalMs = 500;
/** After a failure the next round comes sooner: three in a row are a verdict. */
const afterFailureMs = 100;
const gatewaysPerRoundMax = 4;
const busyMs = 100;

export class DataPathProber {
  readonly #o: DataPathOptions;
  readonly #local: LocalGateways;
  readonly #rotation = new ServiceRotation();
  readonly #members = new Map<string, Member>();
  #inFlight = 0;
  #started = false;
  #sampling: Timer | undefined;

  constructor(options: DataPathOptions) {
    this.#o = options;
    this.#local = new LocalGateways({
      dialer: options.dialer,
      clock: options.clock,
      pods: options.localGateways,
      identity: options.gatewayIdentity,
      servername: probeSni(options.clusterset),
    });
  }

  /** The other members and where their gateways are. */
  setMembers(members: ReadonlyMap<string, readonly RemoteGateway[]>): void {
    for (const [name, member] of this.#members) {
      if (members.has(name)) continue;
      member.timer?.cancel();
      this.#members.delete(name);
    }
    for (const [name, gateways] of members) {
      const known = this.#members.get(name);
      if (known !== undefined) {
        known.gateways = gateways;
        for (const id of [...known.standing.keys()])
          if (!gateways.some((gateway) => gateway.id === id)) known.standing.delete(id);
        continue;
      }
      const member: Member = { gateways, timer: undefined, turn: 0, reachable: true, standing: new Map() };
      this.#members.set(name, member);
      if (this.#started) this.#schedule(name, member, this.#pauseMs() * this.#o.rng());
    }
  }

  /** Where a service can be asked for; none: nowhere any more. */
  setService(service: ServiceKey, targets: readonly ServiceTarget[]): void {
    this.#rotation.set(service, targets);
  }

  /** Cells that somebody waits for (a canary, a suspicion): about once a second each. Replaces those of before. */
  want(targets: readonly ServiceTarget[]): void {
    this.#rotation.want(targets, this.#o.clock.monotonicMs());
  }

  standings(): GatewayStanding[] {
    return [...this.#members.values()].flatMap(({ standing }) =>
      [...standing.values()].sort((a, b) => (a.gateway < b.gateway ? -1 : 1)),
    );
  }

  start(): void {
    if (this.#started) return;
    this.#started = true;
    for (const [name, member] of this.#members) this.#schedule(name, member, this.#pauseMs() * this.#o.rng());
    this.#sampleLater();
  }

  /** For good. Probes under way end without a result. */
  stop(): void {
    this.#started = false;
    this.#sampling?.cancel();
    for (const { timer } of this.#members.values()) timer?.cancel();
    this.#local.close();
  }

  #pauseMs(): number {
    let gateways = 0;
    for (const member of this.#members.values()) gateways += Math.min(member.gateways.length, gatewaysPerRoundMax);
    return Math.max(intervalMs, (1_000 * gateways) / limits.gatewayProbesPerSecondMax);
  }

  #current(name: string, member: Member): boolean {
    return this.#started && this.#members.get(name) === member;
  }

  #schedule(name: string, member: Member, afterMs: number): void {
    member.timer = this.#o.clock.after(afterMs, () => {
      if (!this.#current(name, member)) return;
      if (this.#inFlight >= limits.probesInFlightMax) return this.#schedule(name, member, busyMs);
      const startMs = this.#o.clock.monotonicMs();
      let wentOn = false;
      const goOn = (inMs: number): void => {
        if (wentOn || !this.#current(name, member)) return;
        wentOn = true;
        this.#schedule(name, member, inMs);
      };
      // Half of its time without an answer: the next one does not wait for its end, or three failures would take all of three times.
      const doubted = this.#o.clock.after(this.#doubtMs(name), () => goOn(0));
      void this.#round(name, member).then((reached) => {
        doubted.cancel();
        const pauseMs = this.#pauseMs();
        const wishMs = reached === false ? Math.max(afterFailureMs, pauseMs / 5) : pauseMs;
        // From start to start, so that slow answers do not stretch it.
        const spentMs = reached === false ? 0 : this.#o.clock.monotonicMs() - startMs;
        goOn(Math.max(0, wishMs * (0.8 + 0.4 * this.#o.rng()) - spentMs));
      });
    });
  }

  #doubtMs(name: string): number {
    const pauseMs = this.#pauseMs();
    const halfMs = probeTimeoutMs(this.#o.path(name)) / 2;
    // With so many gateways that rounds are stretched, no more of them at once.
    return pauseMs > intervalMs ? Math.max(halfMs, pauseMs) : halfMs;
  }

  /** Asks the gateways of a member. Undefined: nothing was learnt. */
  async #round(name: string, member: Member): Promise<boolean | undefined> {
    const { gateways } = member;
    const count = Math.min(gateways.length, gatewaysPerRoundMax);
    const asked = Array.from({ length: count }, (_, i) => gateways[(member.turn + i) % gateways.length]!);
    member.turn = gateways.length === 0 ? 0 : (member.turn + count) % gateways.length;
    let told = false;
    const tell = (result: ProbeResult, detail: string): void => {
      told = true;
      member.reachable = result.ok;
      this.#o.onResult(result, detail);
    };
    const failures: { readonly result: ProbeResult; readonly detail: string }[] = [];
    await Promise.all(
      asked.map(async (gateway) => {
        const { result, detail, revocations } = await this.#probe(name, gateway, undefined);
        if (result === undefined || !this.#current(name, member)) return;
        if (revocations !== undefined) this.#o.onRevocations?.(name, revocations);
        const { ok, ms, atMs } = result;
        const address = gateway.address;
        member.standing.set(gateway.id, { member: name, gateway: gateway.id, address, ok, ms, detail, atMs });
        if (!ok) failures.push({ result, detail });
        else if (!told) tell(result, detail);
      }),
    );
    if (told || !this.#current(name, member)) return told ? true : undefined;
    // Only when every one of them was asked and failed: what some did not say cannot be held against the member.
    const last = failures.at(-1);
    if (last === undefined || failures.length < count) return undefined;
    tell(last.result, last.detail);
    return false;
  }

  #sampleLater(): void {
    const gapMs = 1_000 / limits.serviceProbesPerSecondMax;
    this.#sampling = this.#o.clock.after(gapMs * (0.8 + 0.4 * this.#o.rng()), () => {
      if (!this.#started) return;
      this.#sampleLater();
      if (this.#inFlight < limits.probesInFlightMax) void this.#sample();
    });
  }

  async #sample(): Promise<void> {
    const { clock } = this.#o;
    const may = (name: string): boolean => this.#members.get(name)?.reachable === true;
    const target = this.#rotation.next(clock.monotonicMs(), may);
    const member = target === undefined ? undefined : this.#members.get(target.member);
    if (target === undefined) return;
    const gateway = member === undefined ? undefined : this.#gatewayFor(member);
    if (gateway === undefined) return this.#rotation.postponed(target, clock.monotonicMs());
    const { result, detail } = await this.#probe(target.member, gateway, target);
    const nowMs = clock.monotonicMs();
    if (result === undefined || !this.#started) return this.#rotation.postponed(target, nowMs);
    this.#rotation.noted(target, result.ok, nowMs);
    this.#o.onResult(result, detail);
  }

  /** One that answered last time, if any did; in turn. */
  #gatewayFor(member: Member): RemoteGateway | undefined {
    const good = member.gateways.filter(({ id }) => member.standing.get(id)?.ok === true);
    const among = good.length > 0 ? good : member.gateways;
    return among[Math.floor(this.#o.rng() * among.length)];
  }

  async #probe(member: string, gateway: RemoteGateway, service: ServiceTarget | undefined): Promise<SingleResult> {
    this.#inFlight++;
    try {
      const connection: TunnelConnection = await this.#local.next();
      const path = this.#o.path(member);
      const single = await probeOnce(connection, { member, gateway, service, path }, this.#o.clock);
      if (single.result === undefined) this.#o.onLocalFailure?.(single.detail);
      return single;
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      this.#o.onLocalFailure?.(error.message);
      return { result: undefined, detail: error.message };
    } finally {
      this.#inFlight--;
    }
  }
}
