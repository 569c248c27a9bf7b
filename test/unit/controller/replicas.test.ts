/** Two replicas of one cluster: what one decides and holds of withdrawals, the other has from what it ships. */
import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { keyFiles, nextInUse } from '../../../src/controller/keys.ts';
import { previousSealFile, type Seals, sealsOf } from '../../../src/controller/seals.ts';
import { packShipped, unpackShipped } from '../../../src/controller/shipping.ts';
import type { SavedHold } from '../../../src/federation/withdrawals_saved.ts';
import { sealState } from '../../../src/records/sealed_state.ts';
import { names, pair, peer, Replica } from './two_replicas.ts';

describe('what the writer holds of withdrawals', () => {
  it('is held by a replica that never saw the records', async () => {
    const { store, clock, writer } = await pair();
    store.peerHas(names(2));
    await writer.tick();
    expect(writer.held).toHaveLength(8);
    const late = new Replica(store, false, clock);
    await late.failover.open(undefined);
    store.changed();
    expect(late.uses).toEqual(expect.arrayContaining(names(10)));
    expect(late.held).toEqual(writer.held);
  });

  it('is let go everywhere when the writer lets it go, and nowhere before', async () => {
    const { store, writer, other } = await pair();
    store.peerHas(names(9));
    await writer.tick();
    expect(other.held).toEqual(['shop/s9 Canary']);
    other.probed('s9', 'gone');
    for (let second = 0; second < 3; second++) await other.tick();
    expect(other.uses).toContain('s9');
    writer.probed('s9', 'gone');
    const announced = await writer.tick(false);
    expect(writer.uses).not.toContain('s9');
    expect(other.uses).toContain('s9');
    store.ship(announced!);
    expect(other.uses).not.toContain('s9');
    expect(other.held).toEqual([]);
  });

  it('stays past its deadline here while the writer holds it', async () => {
    const { store, writer, other } = await pair();
    store.peerHas(names(9));
    await writer.tick();
    writer.probed('s9', 'answers');
    await writer.tick();
    for (let second = 0; second < 15; second++) await writer.tick();
    expect(writer.held).toEqual(['shop/s9 Answers']);
    await other.tick();
    expect(other.held).toEqual(['shop/s9 Answers']);
    expect(other.uses).toContain('s9');
  });

  it('is let go by a replica that held it alone, once the writer had the time to', async () => {
    const { store, clock, writer } = await pair();
    store.peerHas(names(9));
    writer.failover.withdrawing.confirm(peer, undefined);
    const back = new Replica(store, false, clock);
    await writer.tick();
    const saved = writer.saved!;
    for (let second = 0; second < 70; second++) await writer.tick();
    expect(writer.held).toEqual([]);
    // As it was saved while it held: it comes back with an old disk.
    expect((await back.failover.open(saved)) ?? 'restored').toBe('restored');
    store.changed();
    expect(back.uses).not.toContain('s9');
  });

  it('goes on to be held by the replica that takes over, with time for its own canary', async () => {
    const { store, writer, other } = await pair();
    store.peerHas(names(9));
    await writer.tick();
    writer.chosen = false;
    for (let second = 0; second < 12; second++) await other.tick();
    other.chosen = true;
    for (let second = 0; second < 8; second++) await other.tick();
    expect(other.held).toEqual(['shop/s9 Canary']);
    for (let second = 0; second < 4; second++) await other.tick();
    expect(other.held).toEqual([]);
    expect(other.uses).not.toContain('s9');
  });

  it('is on the disk of both, and what was let go is not', async () => {
    const { store, writer, other } = await pair();
    store.peerHas(names(2));
    await writer.tick();
    await writer.clock.advance(10);
    for (const { saved } of [writer, other]) {
      expect(JSON.parse(Buffer.from(saved!).toString().split('\n')[0]!).withdrawals).toHaveLength(8);
    }
    writer.failover.withdrawing.confirm(peer, undefined);
    await writer.tick();
    await writer.clock.advance(10);
    for (const { saved } of [writer, other]) {
      expect(JSON.parse(Buffer.from(saved!).toString().split('\n')[0]!).withdrawals).toEqual([]);
    }
  });
});

describe('a replica that follows', () => {
  it('withdraws a peer by its own probes when two heartbeats are missing, and journals nothing', async () => {
    const { other } = await pair();
    await other.pathFails(3);
    for (let second = 0; second < 2; second++) await other.tick(false);
    expect(other.state).toBe('fresh');
    other.readBackMs = 2_100;
    await other.pathFails(1);
    for (let second = 0; second < 2; second++) await other.tick(false);
    expect(other.state).toBe('quarantined');
    expect(other.failover.journalledAtMs).toBeUndefined();
  });

  it('until the next state of a writer that sees it otherwise', async () => {
    const { writer, other } = await pair();
    other.readBackMs = 2_100;
    await other.pathFails(3);
    for (let second = 0; second < 2; second++) await other.tick(false);
    expect(other.state).toBe('quarantined');
    for (let second = 0; second < 31; second++) await writer.tick();
    await other.tick(false);
    expect(other.state).toBe('fresh');
  });
});

describe('what is shipped', () => {
  const held = (count: number): SavedHold[] =>
    names(count).map((name, i) => ({
      member: peer,
      service: `shop/${name}`,
      sinceMs: i,
      deadlineMs: i + 1,
      reason: 'Mass',
      record: Buffer.from(`record ${name}`).toString('base64'),
    }));
  const state = Buffer.from('{"version":1,"names":["held"]}');

  it('comes back as it was, with the state in a form that a version without holds reads', () => {
    const holds = { held: held(3), letGo: [{ member: peer, service: 'shop/a', atMs: 7 }] };
    const unpacked = unpackShipped(packShipped(state, holds));
    if (!unpacked.ok) throw unpacked.error;
    expect(unpacked.value.holds).toEqual(holds);
    expect(JSON.parse(Buffer.from(unpacked.value.state).toString())).toMatchObject({ version: 1, names: ['held'] });
  });

  it('leaves the records out when they are too much', () => {
    const random = held(400).map((hold) => ({ ...hold, record: randomBytes(9_000).toString('base64') }));
    const unpacked = unpackShipped(packShipped(state, { held: random, letGo: [] }));
    if (!unpacked.ok) throw unpacked.error;
    expect(unpacked.value.holds).toMatchObject({ named: expect.any(Array), letGo: [] });
    expect((unpacked.value.holds as { named: unknown[] }).named).toHaveLength(400);
  });

  it('is read when a version without holds shipped it, and refused when it is broken', () => {
    const plain = unpackShipped(Buffer.from('no gzip'));
    expect(plain).toMatchObject({ ok: false, error: { code: 'state/corrupt' } });
  });
});

describe('a sealed state, while the record key is replaced', () => {
  const pem = () => generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  type Data = Record<string, Uint8Array>;
  /** As a replica that has read this has them. */
  const sealsIn = (data: Data): Seals => {
    const key = (file: string) => (data[file] === undefined ? undefined : createPrivateKey(Buffer.from(data[file])));
    const [now, next] = [key(keyFiles.now[0])!, key(keyFiles.next[0])];
    return sealsOf({ now, next, previous: data[previousSealFile] });
  };
  const announced = (data: Data): Data => ({ ...data, [keyFiles.next[0]]: Buffer.from(pem()) });
  const before: Data = { [keyFiles.now[0]]: Buffer.from(pem()) };
  const during = announced(before);
  const after = nextInUse(during);

  /** The writer ships what it holds, sealed. @returns what a replica with these keys holds then */
  const held = async (writes: Data, reads: Data) => {
    const { store, clock, writer } = await pair();
    store.peerHas(names(2));
    const { plan, verdicts } = (await writer.tick(false))!;
    expect(writer.held).toHaveLength(8);
    const replica = new Replica(store, false, clock);
    replica.seals = sealsIn(reads);
    await replica.failover.open(undefined);
    store.ship({ plan, verdicts: { ...verdicts, state: sealState(sealsIn(writes).now, verdicts.state!) } });
    return { store, replica };
  };

  it.each([
    ['before it, by one that has not replaced its key', before, before],
    ['before it, by one that knows the next key', before, during],
    ['before it, by one that has replaced its key', before, after],
    ['after it, by one that has not replaced its key', after, during],
    ['after it, by one that has replaced its key', after, after],
    ['before the next one, by one that is past that', after, nextInUse(announced(after))],
  ])('is opened: made %s', async (_what, writes, reads) => {
    expect((await held(writes, reads)).replica.held).toHaveLength(8);
  });

  it('is not opened with keys that were replaced, and is when the replica learns of the new one', async () => {
    const { store, replica } = await held(after, before);
    expect(replica.held).toEqual([]);
    store.changed();
    expect(replica.held).toEqual([]);
    replica.seals = sealsIn(after);
    store.changed();
    expect(replica.held).toHaveLength(8);
  });

  it('is closed to whoever stole the key before', () => {
    expect(sealsIn(after).now).not.toEqual(sealsIn(before).now);
    expect(sealsIn(nextInUse(announced(after))).all).not.toContainEqual(sealsIn(before).now);
    expect(Object.keys(after)).toEqual(expect.arrayContaining([keyFiles.now[0], previousSealFile]));
    expect(after[keyFiles.next[0]]).toBeUndefined();
  });
});
