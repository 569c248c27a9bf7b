/** When each path was last truly broken and each member last truly silent: what verdicts are judged by. */

const never = Number.NEGATIVE_INFINITY;

export class Truth {
  readonly #broken = new Map<string, number>();
  readonly #brokenSince = new Map<string, number>();
  readonly #silent = new Map<string, number>();
  readonly #withdrawn = new Map<string, number>();

  /** As it is now, of the data path and of the way of its manifests. */
  note(from: string, member: string, now: { atMs: number; broken: boolean; silent: boolean }): void {
    const key = `${from}|${member}`;
    if (now.broken) {
      this.#broken.set(key, now.atMs);
      if (!this.#brokenSince.has(key)) this.#brokenSince.set(key, now.atMs);
    } else this.#brokenSince.delete(key);
    if (now.silent) this.#silent.set(key, now.atMs);
  }
  withdrew(member: string, atMs: number): void {
    this.#withdrawn.set(member, atMs);
  }

  brokenAt(from: string, member: string): number {
    return this.#broken.get(`${from}|${member}`) ?? never;
  }
  /** Without a break until now; undefined: it works. */
  brokenSince(from: string, member: string): number | undefined {
    return this.#brokenSince.get(`${from}|${member}`);
  }
  silentAt(from: string, member: string): number {
    return this.#silent.get(`${from}|${member}`) ?? never;
  }
  withdrewAt(member: string): number {
    return this.#withdrawn.get(member) ?? never;
  }
}
