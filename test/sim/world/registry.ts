/** What each member truly published, by the manifest that covers it: taken from etcd at the moment of the write. */
import type { StoreSnapshot } from '../../../src/core/store.ts';
import type { ManifestHead } from '../../../src/federation/view.ts';
import { decodeManifest } from '../../../src/records/manifest.ts';
import { decodeSigned } from '../../../src/records/signed.ts';

const bytesMax = 1 << 20;

export class Registry {
  /** Values that a member ever published under a key, packed, while it was honest. */
  readonly #values = new Map<string, Set<string>>();
  readonly #newest = new Map<string, ManifestHead>();
  /** Heads in the order of their writes, since the store last went back. */
  readonly written: { readonly member: string; readonly head: ManifestHead; readonly atMs: number }[] = [];

  /** @param content - all that stands under the member's prefix */
  note(member: string, prefix: string, content: StoreSnapshot, atMs: number): ManifestHead | undefined {
    const manifest = content.entries.find(({ key }) => key === `${prefix}manifest`);
    if (manifest === undefined) return undefined;
    const signed = decodeSigned(manifest.value, bytesMax);
    if (!signed.ok) return undefined;
    const head = decodeManifest(signed.value.payload);
    if (!head.ok) return undefined;
    for (const { key, value } of content.entries) {
      const name = `${member}|${key.slice(prefix.length)}`;
      let values = this.#values.get(name);
      if (values === undefined) {
        values = new Set();
        this.#values.set(name, values);
      }
      if (key !== manifest.key) values.add(Buffer.from(value).toString('latin1'));
    }
    const { epoch, sequence } = head.value;
    this.#newest.set(member, { epoch, sequence });
    this.written.push({ member, head: { epoch, sequence }, atMs });
    return { epoch, sequence };
  }

  published(member: string, relative: string, value: Uint8Array): boolean {
    return this.#values.get(`${member}|${relative}`)?.has(Buffer.from(value).toString('latin1')) ?? false;
  }
  newest(member: string): ManifestHead | undefined {
    return this.#newest.get(member);
  }
}
