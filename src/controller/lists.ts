/**
 * The revocation lists of the mesh's CAs, as they stand in the cacerts directory: read again when they change, and told to the gateways.
 *
 * A list that cannot be read changes nothing: the last good one stays, over a restart too, since it is saved with the certificates that
 * the gateways have. Watching the directory was passed over: a mounted Secret changes by links, and a look every few seconds is enough.
 */
import type { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Authority } from '../ca/authority.ts';
import { listsFile, type RevocationList, readLists, withOwnList, withoutList } from '../ca/lists.ts';
import { unique } from '../ca/pem.ts';
import type { Clock, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import type { Log } from '../ops/log.ts';
import type { Metrics } from '../ops/metrics.ts';

export interface ListKeeperOptions {
  readonly dir: string;
  readonly authority: () => Authority;
  /** Roots of the members that we trade with, besides our own. */
  readonly tradedRoots: () => readonly X509Certificate[];
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly onChange: () => void;
}

/** What gateways check callers against, PEM; undefined: against nothing. */
export interface GatewayLists {
  readonly mesh: string | undefined;
  readonly traded: string | undefined;
}

const everyMs = 5_000;

export class ListKeeper {
  readonly #o: ListKeeperOptions;
  #timer: Timer | undefined;
  #text: string | undefined;
  #lists: readonly RevocationList[] | undefined;
  #problem: IsthmusError | undefined;
  #closed = false;

  constructor(options: ListKeeperOptions) {
    this.#o = options;
    void this.#look();
  }

  /** Undefined until a file was read, or seen not to be there: what was known before stays. */
  current(): GatewayLists | undefined {
    if (this.#lists === undefined) return undefined;
    const { intermediates, roots } = this.#o.authority();
    const own = [...intermediates, ...roots];
    return { mesh: this.#for(own), traded: this.#for(unique([...own, ...this.#o.tradedRoots()])) };
  }

  problems(): readonly IsthmusError[] {
    const problems = this.#problem === undefined ? [] : [this.#problem];
    if (this.#lists === undefined || this.#lists.length === 0) return problems;
    const { intermediates, roots } = this.#o.authority();
    const cas = unique([...intermediates, ...roots, ...this.#o.tradedRoots()]);
    for (const ca of withoutList(this.#lists, cas, this.#o.clock.wallMs())) {
      const message = `${listsFile} has no list of "${ca}" that is in force: gateways check no lists where it issues`;
      const hint = 'write one with "isthmus revoke --trust-dir", or sign an empty one with that CA, and add it';
      problems.push(new IsthmusError('trust/invalid', message, { hint }));
    }
    return problems;
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #for(cas: readonly X509Certificate[]): string | undefined {
    const lists = this.#lists ?? [];
    if (lists.length === 0 || withoutList(lists, cas, this.#o.clock.wallMs()).length > 0) return undefined;
    return lists.map(({ pem }) => pem).join('');
  }

  async #look(): Promise<void> {
    const { dir, clock, metrics, log } = this.#o;
    const path = join(dir, listsFile);
    try {
      const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return '';
        throw new IsthmusError('files/invalid', `${path} cannot be read (${error.code})`);
      });
      if (text !== this.#text) await this.#take(text, path);
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      if (error.message !== this.#problem?.message) log('error', 'revocation lists refused', { error });
      this.#problem = error;
    }
    metrics.set('isthmus_mesh_revocation_lists', this.#lists?.length ?? 0);
    metrics.set('isthmus_mesh_revocation_lists_refused', this.#problem === undefined ? 0 : 1);
    if (!this.#closed) this.#timer = clock.after(everyMs, () => void this.#look());
  }

  async #take(text: string, path: string): Promise<void> {
    const { authority, clock, tradedRoots, log, onChange } = this.#o;
    const { intermediates, roots } = authority();
    const nowMs = clock.wallMs();
    const cas = unique([...intermediates, ...roots, ...tradedRoots()]);
    const read = text.trim() === '' ? [] : await readLists(text, cas, path, nowMs);
    this.#lists = read.length === 0 ? [] : await withOwnList(read, authority(), nowMs);
    this.#text = text;
    this.#problem = undefined;
    const revoked = read.reduce((sum, { count }) => sum + count, 0);
    if (read.length > 0) log('info', 'revocation lists of the mesh', { lists: read.length, revoked });
    if (!this.#closed) onChange();
  }
}
