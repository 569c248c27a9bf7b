/**
 * When proxies are let in: once the local cluster is known, something may be said of the others, and there is no policy that cannot be
 * enforced. Opens once, and stays open.
 */
import { IsthmusError } from '../core/errors.ts';
import type { LocalCluster } from '../federation/local.ts';
import type { Log } from '../ops/log.ts';
import { untranslatable } from '../translate/ztunnel/policies.ts';
import type { Engine } from './engine.ts';
import type { Records } from './records.ts';
import { Serving, type ServingOptions } from './serving.ts';

export interface OpeningOptions {
  readonly serving: ServingOptions;
  readonly engine: Engine;
  readonly records: Records;
  readonly local: () => LocalCluster;
  readonly log: Log;
  /** Remembers on disk why this controller must not serve, for the next start. */
  readonly remember: () => Promise<void>;
  readonly onFatal: (error: IsthmusError) => void;
}

export class Opening {
  readonly #o: OpeningOptions;
  #serving: Serving | undefined;
  #opening = false;
  /** The API server's own view of the cluster has been seen in this run. */
  #looked = false;

  constructor(options: OpeningOptions) {
    this.#o = options;
  }

  get serving(): Serving | undefined {
    return this.#serving;
  }

  /** The API server told of the cluster. @param policies - policies may be others than before */
  seen(policies: boolean): void {
    if (policies || !this.#looked) this.#refuse();
    this.#looked = true;
  }

  async open(): Promise<void> {
    const { engine, records, local, log, onFatal } = this.#o;
    if (this.#opening || !engine.started || !records.known || !engine.gatewaysKnown) return;
    if (untranslatable(local().policies) !== undefined) return;
    this.#opening = true;
    const next = new Serving(this.#o.serving);
    try {
      await next.start();
      this.#serving = next;
      next.changed();
      log('info', 'proxies are served', { fromDisk: records.fromDisk });
    } catch (error) {
      if (!(error instanceof IsthmusError)) throw error;
      onFatal(error);
    }
  }

  #refuse(): void {
    const { local, log, remember, onFatal } = this.#o;
    const error = untranslatable(local().policies);
    if (error === undefined) return;
    // Found at the start, also when the saved state is served meanwhile: refuse, and remember why for the next start. Found
    // later, what is served stays: taking it away would end traffic, not protect it.
    if (this.#looked) log('error', 'a policy cannot be translated and is not enforced', { error });
    else void remember().then(() => onFatal(error));
  }
}
