/** What running Envoys tell of connections over the border, read as the controller reads it. */
import type { Connection } from '../../../src/audit/connection.ts';
import { Telemetry } from '../../../src/telemetry/collector.ts';
import type { ConnectionEvent } from '../../../src/telemetry/connections.ts';
import { SimClock } from '../../sim/clock.ts';
import { until } from './processes.ts';
import type { Rig } from './rig.ts';

export class Told {
  readonly seen: ConnectionEvent[] = [];
  readonly #rig: Rig;
  readonly #streams = new Map<string, ReturnType<Telemetry['open']>>();
  readonly telemetry = new Telemetry({
    clock: new SimClock(),
    accepts: () => true,
    isMember: () => true,
    memberOf: (identity) => /^spiffe:\/\/demo\/cluster\/(.+)$/.exec(identity)?.[1],
    serviceOf: (authority) => /^(\w+)\.shop\.svc\.cluster\.local:80$/.exec(authority)?.[1]?.replace(/^/, 'shop/'),
    clusters: () => [],
    ejected: () => undefined,
    ejecting: () => [],
    onWindows: () => {},
    onConnection: (event) => this.seen.push(event),
  });

  constructor(rig: Rig) {
    this.#rig = rig;
  }

  async read(): Promise<void> {
    for (const { kind, node, log, bytes } of await this.#rig.world.reports()) {
      if (kind !== 'access-log') continue;
      const key = `${node} ${log}`;
      let stream = this.#streams.get(key);
      if (stream === undefined) {
        stream = this.telemetry.open('access-log', { checkNode: () => undefined, send: () => {} });
        this.#streams.set(key, stream);
      }
      stream.receive(bytes);
    }
  }

  /** Those that are over and like that. */
  like(like: Partial<Connection>): Connection[] {
    const fits = (connection: Connection): boolean =>
      Object.entries(like).every(([key, value]) => connection[key as keyof Connection] === value);
    return this.seen.flatMap(({ begins, connection }) => (!begins && fits(connection) ? [connection] : []));
  }

  /** The first connection that is like that, once it is told. */
  async first(what: string, like: Partial<Connection>): Promise<Connection> {
    await until(what, async () => {
      await this.read();
      return this.like(like).length > 0;
    }).catch((error: unknown) => {
      throw new Error(`${(error as Error).message}; told: ${JSON.stringify(this.seen.map((s) => s.connection))}`);
    });
    return this.like(like)[0]!;
  }
}
