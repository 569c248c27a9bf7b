/**
 * A gateway pod: Envoys that share one set of ports, and what keeps them from being a trap.
 *
 * ztunnel does not retry, so a gateway that dies costs every connection that was on its way to it. Two Envoys on one port
 * (SO_REUSEPORT) make a crash cost next to nothing; what hangs is turned into a crash (see hang.ts); what is planned is
 * announced first: unready, then a pause in which proxies and peers turn away, then the end.
 */
import { mkdirSync } from 'node:fs';
import type { Clock, Rng, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import {
  CertificateFiles,
  type CertificatePaths,
  certificatePaths,
  type GatewayCertificate,
} from './certificate_files.ts';
import { EchoProbe } from './echo_probe.ts';
import { EjectionPoll } from './ejections.ts';
import { type BootstrapFile, checkedPaths, EnvoyProcess } from './envoy_process.ts';
import { HangDetector, hangTimes } from './hang.ts';
import { type HealthReply, type HealthServer, serveHealth } from './health_server.ts';
import type { GatewayLog } from './log.ts';
import { allowMigration } from './migration.ts';
import { canBindToLife } from './orphans.ts';

/** What a bootstrap is made for. */
export interface EnvoySlot {
  readonly index: number;
  /** Where the files will lie. */
  readonly directory: string;
  readonly files: CertificatePaths;
}

export interface GatewayRunnerOptions {
  readonly envoy: string;
  readonly envoys: number;
  readonly concurrency: number;
  readonly runDir: string;
  readonly healthAddress: string;
  readonly drainMs: number;
  /** Names of the listeners without which an Envoy serves nothing. */
  readonly listeners: readonly string[];
  /** Added to the Envoys' environment. */
  readonly environment?: Readonly<Record<string, string>>;
  /** `bootstrap.json` and the files beside it. Admin interface, liveness listener and watchdogs are added here. */
  readonly bootstrap: (slot: EnvoySlot) => readonly BootstrapFile[];
  /** The client certificate towards the controllers. Absent: none is kept. */
  readonly certificate?: () => Promise<GatewayCertificate>;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly log: GatewayLog;
}

export interface GatewayRunner {
  /** Where /readyz and /livez are. */
  readonly healthAddress: string;
  readonly ready: boolean;
  /** Process ids by index; undefined while one is being restarted. */
  readonly pids: readonly (number | undefined)[];
  /** Unready, drain, end. A second call skips what is left of the drain. Resolves when no Envoy runs any more. */
  stop(): Promise<void>;
}

const stopGraceMs = 2_000;
/** With no Envoy that answers for so long, /livez fails: a new pod is the only help left. */
const deadAfterMs = 30_000;
/** A main thread that is silent while the worker serves: nothing is lost yet but updates, so there is no hurry. */
const mainSilentMaxMs = 10_000;

class Runner implements GatewayRunner {
  readonly #o: GatewayRunnerOptions;
  readonly #envoys: EnvoyProcess[];
  readonly #probes: EchoProbe[];
  readonly #hangs: HangDetector;
  readonly #certificates: CertificateFiles | undefined;
  readonly #ejections: EjectionPoll;
  #health: HealthServer | undefined;
  #timer: Timer | undefined;
  #draining = false;
  #aliveMs: number;
  #saidAllHang = false;
  #skipDrain: (() => void) | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: GatewayRunnerOptions) {
    this.#o = options;
    const { clock, rng, log } = options;
    this.#aliveMs = clock.monotonicMs();
    this.#hangs = new HangDetector(options.envoys);
    this.#ejections = new EjectionPoll({
      clock,
      ask: async () => {
        const pages = await Promise.all(this.#envoys.map((envoy) => envoy.hosts()));
        return pages.filter((page) => page !== undefined);
      },
    });
    const { certificate, runDir } = options;
    this.#certificates =
      certificate === undefined ? undefined : new CertificateFiles({ runDir, obtain: certificate, clock, rng, log });
    this.#envoys = Array.from({ length: options.envoys }, (_, index) => this.#makeEnvoy(index));
    this.#probes = this.#envoys.map(
      (_, index) =>
        new EchoProbe(checkedPaths(runDir, index).echoPath, () => this.#hangs.answered(index, clock.monotonicMs())),
    );
  }

  get healthAddress(): string {
    return this.#health?.address ?? '';
  }

  get ready(): boolean {
    return !this.#draining && this.#envoys.some((_, index) => this.#hangs.alive(index));
  }

  get pids(): readonly (number | undefined)[] {
    return this.#envoys.map((envoy) => envoy.pid);
  }

  async start(): Promise<void> {
    const { runDir, healthAddress, clock, log } = this.#o;
    mkdirSync(runDir, { recursive: true, mode: 0o700 });
    if (!canBindToLife()) {
      log('warn', 'setpriv is missing: envoys may outlive a killed runner until the next one starts');
    }
    allowMigration(log);
    this.#health = await serveHealth(healthAddress, {
      readyz: () => this.#readyz(),
      livez: () => this.#livez(),
      ejections: (listener) => this.#ejections.listen(listener),
    });
    this.#timer = clock.after(hangTimes.tickMs, () => this.#tick());
    // Not awaited: a gateway that waits for its controllers is alive, and says that it is not ready.
    void (this.#certificates?.start() ?? Promise.resolve()).then(() => {
      if (!this.#draining) for (const envoy of this.#envoys) envoy.start();
    });
  }

  stop(): Promise<void> {
    this.#skipDrain?.();
    this.#stopping ??= this.#end();
    return this.#stopping;
  }

  #makeEnvoy(index: number): EnvoyProcess {
    const { envoy, concurrency, environment, listeners, bootstrap, runDir, clock, rng, log } = this.#o;
    const paths = checkedPaths(runDir, index);
    const files = certificatePaths(runDir);
    return new EnvoyProcess({
      index,
      binary: envoy,
      concurrency,
      paths,
      environment: environment ?? {},
      listeners,
      bootstrap: () => bootstrap({ index, directory: paths.directory, files }),
      clock,
      rng,
      log,
      changed: () => {
        const serving = this.#envoys[index]!.serving;
        if (!serving) this.#probes[index]!.close();
        this.#hangs.serving(index, serving);
      },
    });
  }

  #tick(): void {
    const nowMs = this.#o.clock.monotonicMs();
    this.#timer = this.#o.clock.after(hangTimes.tickMs, () => this.#tick());
    const verdict = this.#hangs.tick(nowMs);
    if (verdict !== undefined) {
      const { index, waitedMs, deadlineMs } = verdict;
      this.#endHung(index, { waitedMs: Math.round(waitedMs), deadlineMs: Math.round(deadlineMs) });
    }
    for (const [index, probe] of this.#probes.entries()) {
      if (!this.#hangs.due(index)) continue;
      this.#hangs.sent(index, nowMs);
      probe.send();
    }
    const alive = this.#envoys.map((_, index) => this.#hangs.alive(index));
    if (alive.includes(true)) this.#aliveMs = nowMs;
    this.#lookAtMainThreads(alive, nowMs);
    this.#sayWhenAllHang(alive);
  }

  #lookAtMainThreads(alive: readonly boolean[], nowMs: number): void {
    const silent = this.#envoys.findIndex((e, index) => alive[index] && e.silentMs(nowMs) > mainSilentMaxMs);
    if (silent < 0 || alive.includes(false)) return;
    const siblingAnswers = this.#envoys.some((e, i) => i !== silent && e.silentMs(nowMs) < mainSilentMaxMs / 2);
    if (siblingAnswers)
      this.#endHung(silent, { mainThreadSilentMs: Math.round(this.#envoys[silent]!.silentMs(nowMs)) });
  }

  #endHung(index: number, facts: Record<string, number>): void {
    const error = new IsthmusError('gateway/envoy-hung', `Envoy ${index} does not answer and is ended`, {
      hint: 'its sibling serves meanwhile; look at its log for what it was doing',
      subject: { envoy: index, ...facts },
    });
    this.#o.log('error', 'envoy hangs', { error });
    // Not serving from now on, whenever the kernel is done with it: so that nobody is ended on its word.
    this.#hangs.serving(index, false);
    this.#probes[index]!.close();
    this.#envoys[index]!.kill();
  }

  #sayWhenAllHang(alive: readonly boolean[]): void {
    const all = this.#envoys.every((e, index) => e.serving && !alive[index]);
    if (all && !this.#saidAllHang) {
      this.#o.log('error', 'no envoy answers: none is ended, for none could take over', { envoys: alive.length });
    }
    this.#saidAllHang = all;
  }

  #readyz(): HealthReply {
    const lines = this.#envoys.map(
      (envoy, index) =>
        `envoy ${index}: ${envoy.serving ? (this.#hangs.alive(index) ? 'serves' : 'does not answer') : 'starts'}`,
    );
    const certificate = this.#certificates !== undefined && this.#certificates.notAfterMs === undefined;
    return {
      ok: this.ready,
      lines: [
        this.#draining ? 'draining' : this.ready ? 'ready' : 'not ready',
        ...(certificate ? ['certificate: waiting'] : []),
        ...lines,
      ],
    };
  }

  #livez(): HealthReply {
    const served = this.#envoys.some((envoy) => envoy.serving);
    const silentMs = this.#o.clock.monotonicMs() - this.#aliveMs;
    // Envoys that are still coming up (no controller yet) are not helped by a restart.
    const ok = this.#draining || !served || silentMs < deadAfterMs;
    return { ok, lines: [ok ? 'alive' : `no envoy has answered for ${Math.round(silentMs / 1_000)} s`] };
  }

  async #end(): Promise<void> {
    const { drainMs, clock, log } = this.#o;
    this.#draining = true;
    this.#certificates?.stop();
    log('info', 'gateway drains', { drainMs });
    const drained = new Promise<void>((resolve) => {
      const timer = clock.after(drainMs, resolve);
      this.#skipDrain = () => {
        timer.cancel();
        resolve();
      };
    });
    for (const envoy of this.#envoys) void envoy.drain();
    await drained;
    this.#timer?.cancel();
    for (const probe of this.#probes) probe.close();
    this.#ejections.close();
    await Promise.all(this.#envoys.map((envoy) => envoy.stop(stopGraceMs)));
    await this.#health?.close();
    log('info', 'gateway ended');
  }
}

/**
 * Starts a gateway and returns at once; readiness is on the health address. Errors: 'config/invalid' for a run directory
 * or a health address that cannot be used.
 */
export const runGateway = async (options: GatewayRunnerOptions): Promise<GatewayRunner> => {
  const runner = new Runner(options);
  await runner.start();
  return runner;
};
