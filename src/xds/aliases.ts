/**
 * Names by which a client may ask for resources whose own name it does not know: ztunnel on demand asks for an address
 * by `network/ip` or `namespace/hostname`.
 *
 * An alias stands for a list of names: the first is the resource itself, the others belong to it (the workloads of a
 * service). The client gets the first one under the name it asked for, since that is what it waits for, and all of them
 * under their own names, since that is how they will be removed. What an alias stands for may change with the table, so it is
 * asked for again when the table has changed; what it once stood for stays subscribed until it is gone.
 */
import type { Resource } from './resource.ts';
import type { ResourceTable } from './table.ts';

/** The names that `name` stands for, the resource itself first; empty when it is not an alias or nothing is known. */
export type Aliases = (typeUrl: string, name: string) => readonly string[];

export class AliasNames {
  readonly #expand: (name: string) => readonly string[];
  /** Alias → the version last sent under it. */
  readonly #sent = new Map<string, string | undefined>();
  readonly #implied = new Set<string>();

  constructor(expand: (name: string) => readonly string[]) {
    this.#expand = expand;
  }

  /** Notes a name that was asked for; returns the names that it newly brings in. */
  add(name: string, table: ResourceTable, typeUrl: string): readonly string[] {
    if (table.get(typeUrl, name) !== undefined) return [];
    if (!this.#sent.has(name)) this.#sent.set(name, undefined);
    const added = this.#expand(name).filter((other) => other !== name && !this.#implied.has(other));
    for (const other of added) this.#implied.add(other);
    return added;
  }

  drop(name: string): void {
    if (!this.#sent.delete(name)) return;
    this.#implied.clear();
    for (const alias of this.#sent.keys()) for (const other of this.#expand(alias)) this.#implied.add(other);
  }

  implied(name: string): boolean {
    return this.#implied.has(name);
  }

  /** Asks again what the aliases stand for, before the changes of the table are looked at; returns the names brought in. */
  refresh(table: ResourceTable, typeUrl: string): readonly string[] {
    return [...this.#sent.keys()].flatMap((name) => this.add(name, table, typeUrl));
  }

  resolve(name: string, table: ResourceTable, typeUrl: string): Resource | undefined {
    if (!this.#sent.has(name)) return undefined;
    const first = this.#expand(name)[0];
    return first === undefined ? undefined : table.get(typeUrl, first);
  }

  /** Aliases whose resource is no longer the one that was sent. */
  *stale(
    table: ResourceTable,
    typeUrl: string,
  ): Iterable<{ readonly name: string; readonly held: string | undefined }> {
    for (const [name, held] of this.#sent) {
      if (this.resolve(name, table, typeUrl)?.version !== held) yield { name, held };
    }
  }

  sent(name: string, version: string | undefined): void {
    if (this.#sent.has(name)) this.#sent.set(name, version);
  }
}
