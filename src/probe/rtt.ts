/**
 * Measures the way to every other member's gateways: the time in which a TCP connection to the federation port opens.
 *
 * A connection needs one round trip and no rights, is answered by the kernel whatever the gateway is busy with, and takes the way
 * that traffic takes; pings are often filtered. Every round opens several and takes their median. Rounds are spread out and
 * bounded in number, so that a hundred members do not make a burst.
 */
import { connect } from 'node:net';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import {
  addReach,
  addRoundTrip,
  median,
  type Reach,
  type RoundTripClass,
  type RoundTripEstimate,
  roundTripClass,
} from '../health/rtt.ts';

export interface PeerAddress {
  readonly address: string;
  readonly port: number;
}

/** What is known of the way to a member. Only `published` is meant for the record; the rest is for people. */
export interface PeerRoundTrip {
  readonly reachable: boolean;
  /** Undefined until a connection has opened once. */
  readonly estimate: RoundTripEstimate | undefined;
  readonly published: RoundTripClass | undefined;
  /** On the monotonic clock: when the last round ended. */
  readonly measuredMs: number;
}

/** Time until a connection opened, in ms; undefined when it did not within `timeoutMs`. */
export type Connect = (peer: PeerAddress, timeoutMs: number) => Promise<number | undefined>;

export interface RttProberOptions {
  readonly clock: Clock;
  readonly rng: Rng;
  /** Between two rounds of one member; longer when there are many. */
  readonly intervalMs?: number;
  readonly timeoutMs?: number;
  /** Called when what would be published has changed for one or more members. */
  readonly changed: (members: ReadonlyMap<string, PeerRoundTrip>) => void;
  /**
   * What stands published of a member, whoever measured it: where hysteresis begins. Until the first quick rounds are over it
   * is kept, for a process that starts measures its own start.
   */
  readonly published?: (member: string) => RoundTripClass | undefined;
  readonly connect?: Connect;
}

const defaults = { intervalMs: 5_000, timeoutMs: 3_000 } as const;
const samplesPerRound = 3;
/** All members together begin at most so many rounds a second. */
const roundsPerSecondMax = 20;
/** The first rounds of a new member come faster: until then its timers are guesses. */
const quickRounds = 3;
const quickIntervalMs = 500;

interface Peer {
  addresses: readonly PeerAddress[];
  rounds: number;
  next: number;
  timer: Timer | undefined;
  reach: Reach | undefined;
  known: PeerRoundTrip | undefined;
}

const tcpConnect =
  (clock: Clock): Connect =>
  (peer, timeoutMs) =>
    new Promise((resolve) => {
      const startMs = clock.monotonicMs();
      const socket = connect({ host: peer.address, port: peer.port });
      const end = (tookMs: number | undefined) => {
        timer.cancel();
        // A reset leaves no socket waiting behind.
        if (tookMs === undefined) socket.destroy();
        else socket.resetAndDestroy();
        resolve(tookMs);
      };
      const timer = clock.after(timeoutMs, () => end(undefined));
      socket.on('connect', () => end(clock.monotonicMs() - startMs));
      socket.on('error', () => end(undefined));
    });

export class RttProber {
  readonly #o: RttProberOptions;
  readonly #connect: Connect;
  readonly #peers = new Map<string, Peer>();
  #closed = false;

  constructor(options: RttProberOptions) {
    this.#o = options;
    this.#connect = options.connect ?? tcpConnect(options.clock);
  }

  /** What is known, by member; members without a finished round are left out. */
  get known(): ReadonlyMap<string, PeerRoundTrip> {
    return new Map([...this.#peers].flatMap(([name, p]) => (p.known === undefined ? [] : [[name, p.known] as const])));
  }

  /** The other members and where their gateways are. What was measured of a member stays when its addresses change. */
  setPeers(peers: ReadonlyMap<string, readonly PeerAddress[]>): void {
    for (const [name, peer] of this.#peers) {
      if (peers.has(name)) continue;
      peer.timer?.cancel();
      this.#peers.delete(name);
    }
    for (const [name, addresses] of peers) {
      const peer = this.#peers.get(name);
      if (peer !== undefined) {
        peer.addresses = addresses;
        continue;
      }
      const made: Peer = { addresses, rounds: 0, next: 0, timer: undefined, reach: undefined, known: undefined };
      this.#peers.set(name, made);
      this.#schedule(name, made, (1_000 * peers.size * this.#o.rng()) / roundsPerSecondMax);
    }
  }

  close(): void {
    this.#closed = true;
    for (const peer of this.#peers.values()) peer.timer?.cancel();
  }

  #schedule(name: string, peer: Peer, afterMs: number): void {
    if (this.#closed || this.#peers.get(name) !== peer) return;
    peer.timer = this.#o.clock.after(afterMs, () => {
      void this.#round(peer).then((ok) => {
        if (this.#closed || this.#peers.get(name) !== peer) return;
        if (ok !== undefined) this.#note(name, peer, ok.rttMs);
        this.#schedule(name, peer, this.#pauseMs(peer) * (0.8 + this.#o.rng() * 0.4));
      });
    });
  }

  #pauseMs(peer: Peer): number {
    const intervalMs = peer.rounds <= quickRounds ? quickIntervalMs : (this.#o.intervalMs ?? defaults.intervalMs);
    return Math.max(intervalMs, (1_000 * this.#peers.size) / roundsPerSecondMax);
  }

  /** One after another, over the member's gateways in turn. Undefined when it has none to try. */
  async #round(peer: Peer): Promise<{ readonly rttMs: number | undefined } | undefined> {
    const { addresses } = peer;
    if (addresses.length === 0) return undefined;
    peer.rounds += 1;
    const took: number[] = [];
    // Each gateway gets a try before the member counts as unreachable.
    const tries = Math.max(samplesPerRound, Math.min(addresses.length, 2 * samplesPerRound));
    for (let i = 0; i < tries && took.length < samplesPerRound && !this.#closed; i++) {
      const address = addresses[peer.next++ % addresses.length]!;
      const ms = await this.#connect(address, this.#o.timeoutMs ?? defaults.timeoutMs);
      if (ms !== undefined) took.push(ms);
    }
    return { rttMs: median(took) };
  }

  #class(name: string, peer: Peer, estimate: RoundTripEstimate | undefined): RoundTripClass | undefined {
    const stands = this.#o.published?.(name);
    if (stands !== undefined && peer.rounds < quickRounds) return stands;
    return estimate === undefined ? undefined : roundTripClass(estimate, stands ?? peer.known?.published);
  }

  #note(name: string, peer: Peer, rttMs: number | undefined): void {
    const before = peer.known;
    peer.reach = addReach(peer.reach, rttMs !== undefined);
    const estimate = rttMs === undefined ? before?.estimate : addRoundTrip(before?.estimate, rttMs);
    const published = this.#class(name, peer, estimate);
    peer.known = {
      reachable: peer.reach.reachable,
      estimate,
      published,
      measuredMs: this.#o.clock.monotonicMs(),
    };
    const same =
      before !== undefined &&
      before.reachable === peer.known.reachable &&
      before.published?.rttMs === published?.rttMs &&
      before.published?.varMs === published?.varMs;
    if (!same) this.#o.changed(new Map([[name, peer.known]]));
  }
}
