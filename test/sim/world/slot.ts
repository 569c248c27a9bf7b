/** The place of one replica: its disk and clock outlive the processes that run there. */

import { type Disk, emptyDisk } from './disk.ts';
import type { Process } from './process.ts';
import type { ClusterSpec } from './scenario.ts';
import { MachineClock, type Time } from './time.ts';

export class Slot {
  readonly cluster: string;
  readonly replica: number;
  disk: Disk = emptyDisk();
  process: Process | undefined;
  clock: MachineClock;
  /** Faults that keep it from running, and from going on. */
  down = 0;
  stopped = 0;
  stoppedAtMs = 0;
  starts = 0;
  readonly #time: Time;
  readonly #ppm: number;
  #wallOffsetMs: number;

  constructor(spec: ClusterSpec, replica: number, time: Time) {
    this.cluster = spec.name;
    this.replica = replica;
    this.#time = time;
    this.#ppm = spec.ppm[replica] ?? 0;
    this.#wallOffsetMs = spec.wallOffsetMs[replica] ?? 0;
    this.clock = this.newClock();
  }

  newClock(): MachineClock {
    this.clock = new MachineClock(this.#time, this.#ppm, this.#wallOffsetMs);
    return this.clock;
  }
  jump(ms: number): void {
    this.#wallOffsetMs += ms;
    this.clock.jump(ms);
  }
  get running(): boolean {
    return this.process !== undefined && !this.clock.stopped;
  }
}
