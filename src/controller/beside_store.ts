/**
 * The second way from the replica that decides to those that follow: while the store is dark, its state goes through a ConfigMap of
 * the cluster's own API server.
 *
 * Without it a peer that a following replica left out by itself would stay out for its proxies until etcd answers, whatever the writer
 * decides. The API server is what the replicas have in common besides: it holds the lease by which one of them was chosen. A connection from
 * replica to replica was passed over: a port, an identity and a discovery of its own, and the lease would not fence it. What is shipped is
 * sealed always and says when it was made, so that whoever may write here can withhold, and no more than that (`following.ts`).
 */
import { z } from 'zod';
import type { Config } from '../config/controller.ts';
import type { Clock } from '../core/clock.ts';
import { fail, IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { ServiceKey } from '../core/names.ts';
import type { KubeApi } from '../kube/api.ts';
import { deleteConfigMap, getConfigMap, putConfigMap } from '../kube/config_maps.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';
import { isSealed, openState, sealState } from '../records/sealed_state.ts';
import type { Deciding } from './deciding.ts';
import { type Beside, besideOldestMs, type Following } from './following.ts';
import type { Seals } from './seals.ts';
import { packShipped } from './shipping.ts';
import type { Withdrawing } from './withdrawing.ts';

export interface BesideChannel {
  readonly api: Pick<KubeApi, 'request'>;
  /** The lease is ours by our own clock, and our keys are known: what those that were replaced seal is open to whoever has them. */
  readonly mayShip: () => boolean;
}

export interface BesideStoreOptions extends BesideChannel {
  readonly config: Config;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly deciding: Deciding;
  readonly withdrawing: Withdrawing;
  readonly following: Following;
  readonly seals: () => Seals;
  readonly epoch: () => bigint;
  readonly chosen: () => boolean;
  readonly recordsKnown: () => boolean;
  /** Age of our own member's newest record, as the store brought it; null: none came yet. */
  readonly readBackMs: () => number | null;
  readonly onServices: (services: ReadonlySet<ServiceKey>) => void;
}

export const besideName = 'isthmus-decided';
const field = 'state';
const paceMs = 1_000;
/** Written again after this long, also when nothing was decided: the ages in it grow. */
const refreshMs = 10_000;
const timeoutMs = 3_000;
/** What goes through the API server on average, and ends in its etcd, each way. */
const bytesPerSecond = 96 * 1024;
/** However large it is, it is looked at this often. */
const readPaceMaxMs = 4_000;
/** Once the store has answered for so long, nothing is left here. */
const removeAfterMs = 30_000;

const magic = 'isthmus beside the store 1\n';
const headSchema = z.object({
  epoch: z.string().regex(/^\d{1,20}$/),
  atMs: z.number().int().min(0),
  wallMs: z.number().int().min(0),
});

/** The head is sealed with the state: what the store says of it by a signed record, nobody says here. */
export const sealBeside = (secret: Uint8Array, { epoch, mark, packed }: Beside): Uint8Array => {
  const head = JSON.stringify({ epoch: String(epoch), atMs: mark.atMs, wallMs: mark.wallMs });
  return sealState(secret, Buffer.concat([Buffer.from(`${magic}${head}\n`), packed]));
};

/** Errors: `record/malformed`, also of what is not sealed. */
export const openBeside = (secrets: readonly Uint8Array[], bytes: Uint8Array): Result<Beside> => {
  if (!isSealed(bytes)) return fail('record/malformed', 'the state beside the store is not sealed');
  const opened = openState(secrets, bytes);
  if (!opened.ok) return opened;
  const all = Buffer.from(opened.value.buffer, opened.value.byteOffset, opened.value.length);
  const end = all.indexOf(0x0a, magic.length);
  const wrong = fail('record/malformed', 'what is sealed beside the store is no state that was shipped there');
  if (end < 0 || all.toString('latin1', 0, magic.length) !== magic) return wrong;
  try {
    const head = headSchema.parse(JSON.parse(all.toString('utf8', magic.length, end)));
    const { atMs, wallMs } = head;
    return ok({ epoch: BigInt(head.epoch), mark: { atMs, wallMs }, packed: all.subarray(end + 1) });
  } catch {
    return wrong;
  }
};

type Outcome = 'shipped' | 'too-large' | 'taken' | 'refused' | 'failed';

export class BesideStore {
  readonly #o: BesideStoreOptions;
  readonly #startedAtMs: number;
  #busy = false;
  #closed = false;
  #nextAtMs = Number.NEGATIVE_INFINITY;
  #shipped: { readonly version: number; readonly atMs: number } | undefined;
  /** A ConfigMap of ours may stand. */
  #stands = false;
  /** The text and the keys that were looked at last. */
  #looked: readonly unknown[] = [];
  /** When what was taken over last was made, on our monotonic clock. */
  #madeAtMs = Number.NEGATIVE_INFINITY;
  /** The API server has told us what stands there, and by then should have again. */
  #answersUntilMs = Number.NEGATIVE_INFINITY;
  /** What was said in the log since the store went dark. */
  readonly #said = new Set<string>();

  constructor(options: BesideStoreOptions) {
    this.#o = options;
    this.#startedAtMs = options.clock.monotonicMs();
  }

  /** What the writer decides arrives here, and soon: what is kept back for long is not its word. */
  get heard(): boolean {
    const nowMs = this.#o.clock.monotonicMs();
    return nowMs - this.#madeAtMs <= besideOldestMs && nowMs <= this.#answersUntilMs;
  }

  /** Often; at most one request a second is made. */
  tick(): void {
    const { clock, chosen } = this.#o;
    const nowMs = clock.monotonicMs();
    if (this.#busy || this.#closed || nowMs < this.#nextAtMs) return;
    if (!this.#dark(nowMs)) this.#lit(nowMs);
    else if (chosen()) this.#ship(nowMs);
    else this.#read();
  }

  close(): void {
    this.#closed = true;
  }

  /** What one says of the store that has not answered since the start is not said at once. */
  #dark(nowMs: number): boolean {
    const { config, readBackMs } = this.#o;
    return (readBackMs() ?? nowMs - this.#startedAtMs) > config.publish.silenceMs;
  }

  #lit(nowMs: number): void {
    const { api, config, chosen, mayShip } = this.#o;
    this.#said.clear();
    const due = this.#stands && nowMs - (this.#shipped?.atMs ?? nowMs) > removeAfterMs;
    if (!due || !chosen() || !mayShip()) return;
    this.#run(refreshMs, async () => {
      await deleteConfigMap(api, config.namespace, besideName);
      this.#stands = false;
    });
  }

  #ship(nowMs: number): void {
    const { api, config, deciding, withdrawing, following, seals, epoch, recordsKnown, mayShip } = this.#o;
    if (!mayShip() || !deciding.stepped || !recordsKnown()) return;
    const version = deciding.version + withdrawing.version;
    if (this.#shipped?.version === version && nowMs - this.#shipped.atMs < refreshMs) return;
    const { atMs, wallMs } = deciding.scale.mark();
    const beside: Beside = {
      epoch: following.newest(epoch()),
      mark: { atMs: Math.floor(atMs), wallMs: Math.floor(wallMs) },
      packed: packShipped(deciding.encoded(), withdrawing.ship(atMs)),
    };
    const bytes = sealBeside(seals().now, beside);
    if (bytes.length > limits.stateBesideBytesMax) {
      this.#nextAtMs = nowMs + refreshMs;
      this.#count('too-large');
      const size = { bytes: bytes.length, most: limits.stateBesideBytesMax };
      this.#say('too-large', 'the state is too large to be shipped beside the store', size);
      return;
    }
    const map = { name: besideName, data: {}, binary: { [field]: Buffer.from(bytes).toString('base64') } };
    this.#run(this.#pause(bytes.length), async () => {
      this.#stands = true;
      await putConfigMap(api, config.namespace, map, {}, timeoutMs);
      this.#shipped = { version, atMs: nowMs };
      following.shipped(beside);
      this.#count('shipped');
      this.#say('shipped', 'the store is dark: what is decided goes to the other replicas through the API server');
    });
  }

  #read(): void {
    const { api, config, clock } = this.#o;
    this.#run(paceMs, async () => {
      const map = await getConfigMap(api, config.namespace, besideName, timeoutMs);
      const text = map?.binary?.[field];
      this.#nextAtMs = clock.monotonicMs() + Math.min(readPaceMaxMs, this.#pause(text?.length ?? 0));
      this.#answersUntilMs = this.#nextAtMs + timeoutMs + paceMs;
      if (text !== undefined) this.#found(text);
    });
  }

  #found(text: string): void {
    const { clock, chosen, seals, following, onServices } = this.#o;
    // It was asked for a while ago.
    if (this.#closed || chosen() || !this.#dark(clock.monotonicMs())) return;
    const looked = [text, seals()];
    if (looked.every((part, i) => part === this.#looked[i])) return;
    this.#looked = looked;
    const opened = openBeside(seals().all, Buffer.from(text, 'base64'));
    if (!opened.ok) {
      this.#refuse(opened.error);
      return;
    }
    const taken = following.beside(opened.value);
    if (!taken.ok) {
      this.#refuse(taken.error);
      return;
    }
    if (taken.value === undefined) return;
    this.#madeAtMs = clock.monotonicMs() - Math.max(0, clock.wallMs() - opened.value.mark.wallMs);
    this.#count('taken');
    this.#say('taken', 'the store is dark: the writer is followed through the API server');
    if (taken.value.size > 0) onServices(taken.value);
  }

  #refuse(error: IsthmusError): void {
    this.#count('refused');
    this.#say('refused', 'what stands beside the store is not followed', { error });
  }

  #pause(bytes: number): number {
    return Math.max(paceMs, Math.ceil((bytes / bytesPerSecond) * 1_000));
  }

  /** @param pauseMs - until the next one may begin */
  #run(pauseMs: number, work: () => Promise<void>): void {
    this.#busy = true;
    this.#nextAtMs = this.#o.clock.monotonicMs() + pauseMs;
    void work()
      .catch((error: unknown) => {
        this.#count('failed');
        const code = error instanceof IsthmusError ? error.code : 'unknown';
        this.#say(code, 'the API server does not take, or give, what goes beside the store', { error: error as Error });
      })
      .finally(() => {
        this.#busy = false;
      });
  }

  #count(result: Outcome): void {
    this.#o.metrics.add('isthmus_state_beside_store_total', { result });
  }

  /** Once a darkness. */
  #say(what: string, message: string, fields: Record<string, unknown> = {}): void {
    if (this.#said.has(what)) return;
    this.#said.add(what);
    this.#o.log(what === 'shipped' || what === 'taken' ? 'info' : 'warn', message, fields);
  }
}
