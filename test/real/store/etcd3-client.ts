/**
 * The Store port on the npm client etcd3, as well as that client allows: it is kept to show by the same rig what the thin
 * client is measured against (docs/adr/0003-etcd-client.md). Nothing in src uses it.
 *
 * The adapter lists again where etcd3 tells it to (an `error` of the watcher) and where a new connection's header shows
 * another cluster or an older revision. How a broken watch is resumed, and when a connection counts as broken, is etcd3's.
 */
import { Etcd3, type IOptions, type IWatchResponse, type Watcher } from 'etcd3';
import { IsthmusError } from '../../../src/core/errors.ts';
import { limits } from '../../../src/core/limits.ts';
import type {
  CommitResult,
  SnapshotReason,
  Store,
  StoreEntry,
  StoreEvent,
  StoreSnapshot,
  StoreTxn,
  StoreWatch,
  WatchHandler,
} from '../../../src/core/store.ts';
import { checkTxn } from '../../../src/store/etcd.ts';
import type { EtcdOptions } from '../../../src/store/session.ts';

const failure = (error: unknown): IsthmusError => {
  const text = (error as Error).message;
  const code = /permission denied|user name is empty/i.test(text)
    ? 'store/denied'
    : /space exceeded/.test(text)
      ? 'store/no-space'
      : /certificate|SSL/i.test(text)
        ? 'store/tls'
        : 'store/unavailable';
  return new IsthmusError(code, text, { hint: 'see etcd3', cause: error });
};

interface RawKv {
  readonly key: Buffer;
  readonly value: Buffer;
  readonly mod_revision: string;
}

const toEntry = (kv: RawKv): StoreEntry => ({
  key: kv.key.toString(),
  value: kv.value,
  modRevision: BigInt(kv.mod_revision),
});

class Etcd3Watch {
  private readonly list: () => Promise<StoreSnapshot>;
  private readonly client: Etcd3;
  private readonly prefix: string;
  private readonly handler: WatchHandler;
  private watcher: Watcher | undefined;
  private closed = false;
  private clusterId = 0n;
  private revision = 0n;

  constructor(client: Etcd3, list: () => Promise<StoreSnapshot>, prefix: string, handler: WatchHandler) {
    this.client = client;
    this.list = list;
    this.prefix = prefix;
    this.handler = handler;
    void this.begin('initial');
  }

  close(): void {
    this.closed = true;
    this.watcher?.cancel().catch(() => {});
  }

  private async begin(reason: SnapshotReason): Promise<void> {
    let why = reason;
    for (;;) {
      try {
        const snapshot = await this.list();
        if (this.closed) return;
        if (why !== 'initial' && (snapshot.clusterId !== this.clusterId || snapshot.revision < this.revision)) {
          why = 'restored';
        }
        this.clusterId = snapshot.clusterId;
        this.revision = snapshot.revision;
        this.handler.snapshot(snapshot, why);
        break;
      } catch (error) {
        if (this.closed) return;
        this.handler.connected(false, (error as Error).message);
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
    }
    const watcher = this.client
      .watch()
      .prefix(this.prefix)
      .startRevision(String(this.revision + 1n))
      .watcher();
    this.watcher = watcher;
    watcher.on('data', (response) => this.take(response));
    watcher.on('connected', (response) => {
      if (this.closed || watcher !== this.watcher) return;
      const header = response.header;
      if (BigInt(header.cluster_id) !== this.clusterId || BigInt(header.revision) < this.revision)
        this.again('restored');
      else this.handler.connected(true, '');
    });
    watcher.on('disconnected', (error) => {
      if (!this.closed && watcher === this.watcher) this.handler.connected(false, error.message);
    });
    watcher.on('error', (error) => {
      if (this.closed || watcher !== this.watcher) return;
      this.handler.connected(false, error.message);
      this.again('compacted');
    });
  }

  private again(reason: SnapshotReason): void {
    this.watcher?.cancel().catch(() => {});
    this.watcher = undefined;
    setTimeout(() => void this.begin(reason), 200);
  }

  private take(response: IWatchResponse): void {
    if (this.closed || response.events.length === 0) return;
    const events = response.events
      .map((e): StoreEvent => {
        const kv = e.kv as unknown as RawKv;
        const entry = toEntry(kv);
        return String(e.type) === 'Delete'
          ? { type: 'delete', key: entry.key, modRevision: entry.modRevision }
          : { type: 'put', ...entry };
      })
      .filter((e) => e.modRevision > this.revision);
    const last = events.at(-1);
    if (last === undefined) return;
    this.revision = last.modRevision;
    this.handler.events(events, last.modRevision);
  }
}

/** `more` replaces options of etcd3, such as its channel options. */
export const etcd3Store = (o: EtcdOptions, more: Partial<IOptions> = {}): Store => {
  const client = new Etcd3({
    hosts: [...o.endpoints],
    credentials: { rootCertificate: o.ca, privateKey: o.key, certChain: o.cert },
    defaultCallOptions: (call) => (call.isStream ? {} : { deadline: Date.now() + limits.storeUnaryTimeoutMs }),
    ...more,
  });
  const watches = new Set<Etcd3Watch>();
  let closed = false;

  const list = async (prefix: string): Promise<StoreSnapshot> => {
    if (closed) throw new IsthmusError('store/unavailable', 'closed');
    try {
      const answer = await client.getAll().prefix(prefix).exec();
      return {
        clusterId: BigInt(answer.header.cluster_id),
        revision: BigInt(answer.header.revision),
        entries: (answer.kvs as unknown as RawKv[]).map(toEntry),
      };
    } catch (error) {
      throw failure(error);
    }
  };

  const commit = async (txn: StoreTxn): Promise<CommitResult> => {
    checkTxn(txn);
    try {
      // etcd3 wants a comparison: one that always holds, where there is none.
      const anyKey = txn.puts[0]?.key ?? txn.deletes[0] ?? '';
      const first = txn.compare[0];
      const conditional =
        first === undefined
          ? client.if(anyKey, 'Mod', '>', -1)
          : client.if(first.key, 'Mod', '==', String(first.modRevision));
      for (const { key, modRevision } of txn.compare.slice(1)) conditional.and(key, 'Mod', '==', String(modRevision));
      const answer = await conditional
        .then(
          ...txn.puts.map((p) => client.put(p.key).value(Buffer.from(p.value))),
          ...txn.deletes.map((key) => client.delete().key(key)),
        )
        .else(...txn.compare.map(({ key }) => client.get(key)))
        .commit();
      const revision = BigInt(answer.header.revision);
      if (answer.succeeded) return { ok: true, revision, clusterId: BigInt(answer.header.cluster_id) };
      const current = answer.responses.flatMap((r) =>
        ((r.response_range?.kvs ?? []) as unknown as RawKv[]).map(toEntry),
      );
      return { ok: false, current, revision };
    } catch (error) {
      if (error instanceof IsthmusError) throw error;
      throw failure(error);
    }
  };

  return {
    list,
    commit,
    watch: (prefix: string, handler: WatchHandler): StoreWatch => {
      const watch = new Etcd3Watch(client, () => list(prefix), prefix, handler);
      watches.add(watch);
      return {
        close: () => {
          watch.close();
          watches.delete(watch);
        },
      };
    },
    close: async () => {
      closed = true;
      for (const watch of watches) watch.close();
      client.close();
    },
  };
};
