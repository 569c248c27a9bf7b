/** Etcd as one controller meets it: silent while the line between them is cut, and gone when the connection is. */
import type { StoreTxn } from '../../../src/core/store.ts';
import type { EtcdSide, SimEtcd, SimRevision, SimState } from '../etcd.ts';

export class LineToEtcd implements EtcdSide {
  readonly #etcd: SimEtcd;
  readonly #up: () => boolean;
  readonly #written: (user: string) => void;
  readonly #changed = new Set<() => void>();

  /** @param written - told of each commit that took place, and by whom */
  constructor(etcd: SimEtcd, up: () => boolean, written: (user: string) => void) {
    this.#etcd = etcd;
    this.#up = up;
    this.#written = written;
  }

  /** A cut line looks like a hung etcd: nothing says that it is cut. */
  get state(): SimState {
    return this.#up() ? this.#etcd.state : 'hung';
  }
  get clusterId(): bigint {
    return this.#etcd.clusterId;
  }
  get revision(): bigint {
    return this.#etcd.revision;
  }
  loseNextAnswer = false;
  dropAfterRevisions = 0;
  onDrop = (): void => {};

  /** The line is back: what waited goes on. */
  restored(): void {
    for (const fn of [...this.#changed]) fn();
  }
  snapshot(user: string, prefix: string): ReturnType<SimEtcd['snapshot']> {
    return this.#etcd.snapshot(user, prefix);
  }
  commit(user: string, txn: StoreTxn): ReturnType<SimEtcd['commit']> {
    const result = this.#etcd.commit(user, txn);
    if (result.ok) this.#written(user);
    return result;
  }
  next(after: bigint): SimRevision | 'compacted' | undefined {
    return this.#etcd.next(after);
  }
  holds(seen: SimRevision): boolean {
    return this.#etcd.holds(seen);
  }
  at(revision: bigint): SimRevision | undefined {
    return this.#etcd.at(revision);
  }
  checkRead(user: string, prefix: string): void {
    this.#etcd.checkRead(user, prefix);
  }
  onChange(fn: () => void): () => void {
    this.#changed.add(fn);
    const undo = this.#etcd.onChange(fn);
    return () => {
      this.#changed.delete(fn);
      undo();
    };
  }
  connect(drop: (reason: string) => void): () => void {
    return this.#etcd.connect(drop);
  }
}
