/**
 * An etcd that sends its backlog as the real one does, and drops the stream twice before the backlog is through: each piece
 * has the *current* revision in its header, which is ahead of the events that are in it. Nothing is left to chance.
 */
import { Event_EventType } from '../../../src/gen/etcdserverpb/rpc_pb.ts';
import { prefix } from '../../conformance/recorder.ts';
import type { TestCa } from '../pki.ts';
import { type FakeEtcd, startFakeEtcd } from './fake-etcd.ts';

const pieceRevisions = 10;
export const backlogEnd = 40n;

export interface Backlog {
  readonly etcd: FakeEtcd;
  /** The start revision of each stream that was asked for. */
  readonly starts: bigint[];
  readonly keys: readonly string[];
}

const keyOf = (revision: bigint): string => `${prefix}b/${revision}`;

export const startBacklog = async (ca: TestCa): Promise<Backlog> => {
  const etcd = await startFakeEtcd(ca);
  const starts: bigint[] = [];
  let drops = 0;
  etcd.revision = 1n;
  // The list finds nothing; a read of one key at its own revision finds it.
  etcd.onRange = ({ key, revision }) =>
    revision > 1n && Buffer.from(key).toString() === keyOf(revision)
      ? [{ key, value: Buffer.from('x'), modRevision: revision }]
      : [];
  etcd.onWatch = ({ requestUnion }, stream) => {
    if (requestUnion.case === 'progressRequest') return stream.send({ watchId: -1n });
    if (requestUnion.case !== 'createRequest') return;
    starts.push(requestUnion.value.startRevision);
    // The first list found nothing; 39 revisions were written between it and the watch.
    etcd.revision = backlogEnd;
    stream.send({ created: true });
    let next = requestUnion.value.startRevision < 2n ? 2n : requestUnion.value.startRevision;
    while (next <= backlogEnd) {
      const events = [];
      for (let i = 0; i < pieceRevisions && next <= backlogEnd; i++, next++) {
        const kv = { key: Buffer.from(keyOf(next)), value: Buffer.from('x'), modRevision: next };
        events.push({ type: Event_EventType.PUT, kv });
      }
      stream.send({ events });
      if (drops < 2) {
        drops += 1;
        stream.drop();
        return;
      }
    }
  };
  const keys = Array.from({ length: Number(backlogEnd) - 1 }, (_, i) => keyOf(BigInt(i + 2)));
  return { etcd, starts, keys };
};
