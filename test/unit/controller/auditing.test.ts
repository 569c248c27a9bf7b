/** The border audit of a replica: what it keeps, what it bounds, and what becomes of it when the disk fails. */
import { describe, expect, it } from 'vitest';
import { limits } from '../../../src/core/limits.ts';
import { joinParts } from '../../../src/journal/parts.ts';
import { verifyExport } from '../../../src/journal/verify.ts';
import { MemoryJournalFiles } from '../../sim/journal_files.ts';
import { auditRig, connection } from '../audit/rig.ts';

const verified = (parts: readonly string[]) =>
  joinParts(parts.map((part) => verifyExport(Buffer.from(part), { log: 'audit' })));
const kindsOf = (entries: Awaited<ReturnType<ReturnType<typeof auditRig>['entries']>>) =>
  entries.map(({ entry }) => entry.kind);

describe('the audit', () => {
  it('keeps every connection, many to a write, in a chain that holds', async () => {
    const r = auditRig();
    await r.audit.open();
    for (let i = 0; i < 200; i++) r.ended({ from: `10.1.0.7:${i}` });
    await r.clock.advance(1_000);
    expect(r.disk.writes).toBe(1);
    const entries = await r.entries();
    expect(kindsOf(entries)).toEqual(['begin', ...Array(200).fill('connection')]);
    expect(entries[1]!.entry.body).toEqual(connection({ from: '10.1.0.7:0' }));
    expect(entries.every(({ intact }) => intact)).toBe(true);
    expect(verified(await r.parts())).toMatchObject({
      holds: true,
      sections: [{ member: 'us-east', replica: 'isthmus-controller-0', first: 1, last: 201, entries: 201 }],
    });
    r.audit.gauge([]);
    expect(await r.counter('isthmus_audit_entries_total')).toBe(201);
    expect(await r.counter('isthmus_border_connections_total')).toBe(200);
    expect(await r.counter('isthmus_border_denied_total')).toBe(0);
  });

  it('writes thousands in slices: none of them takes the loop for long', async () => {
    const r = auditRig();
    await r.audit.open();
    for (let i = 0; i < 5_000; i++) r.ended();
    await r.clock.advance(1_000);
    expect(await r.entries()).toHaveLength(5_001);
    expect(r.disk.writes).toBe(5_000 / limits.auditBatchEntriesMax);
  });

  it('tells of a tunnel that lasts when it has stood a while, and of a short one once', async () => {
    const r = auditRig();
    await r.audit.open();
    const begins = (key: string) =>
      r.audit.connection({ key, begins: true, connection: connection({ result: 'open', from: key }) });
    begins('long');
    begins('short');
    await r.clock.advance(2_000);
    r.audit.connection({ key: 'short', begins: false, connection: connection({ from: 'short' }) });
    await r.clock.advance(limits.auditOpenAfterMs);
    r.audit.connection({ key: 'long', begins: false, connection: connection({ from: 'long', durationMs: 60_000 }) });
    await r.clock.advance(1_000);
    const told = (await r.entries()).flatMap(({ entry }) => (entry.kind === 'connection' ? [entry.body] : []));
    expect(told).toMatchObject([
      { from: 'short', result: 'closed' },
      { from: 'long', result: 'open' },
      { from: 'long', result: 'closed', durationMs: 60_000 },
    ]);
  });

  it('says from when to when a gateway tells of its connections', async () => {
    const r = auditRig();
    await r.audit.open();
    r.audit.source('isthmus-gateway-0~0', true);
    r.ended();
    r.audit.source('isthmus-gateway-0~0', false);
    await r.clock.advance(1_000);
    expect((await r.entries()).map(({ entry }) => [entry.kind, entry.body])).toMatchObject([
      ['begin', {}],
      ['source', { envoy: 'isthmus-gateway-0~0', begins: true }],
      ['connection', {}],
      ['source', { envoy: 'isthmus-gateway-0~0', begins: false }],
    ]);
  });

  it('counts what is denied by reason, and folds a flood of it', async () => {
    const r = auditRig();
    await r.audit.open();
    for (let i = 0; i < 2_000; i++) r.ended({ result: 'denied', reason: 'not-exported', status: 404, source: 'evil' });
    await r.clock.advance(1_000);
    const told = (await r.entries()).flatMap(({ entry }) => (entry.kind === 'connection' ? [entry.body] : []));
    expect(told).toHaveLength(limits.auditFailuresPerSourceMax + 1);
    expect(told.at(-1)).toMatchObject({ count: 2_000 - limits.auditFailuresPerSourceMax, source: 'evil' });
    expect(await r.counter('isthmus_border_denied_total{side="egress",reason="not-exported"}')).toBe(2_000);
  });

  it('goes on after a restart, with the tunnels that stood then', async () => {
    const first = auditRig();
    await first.audit.open();
    first.audit.connection({ key: 'a', begins: true, connection: connection({ result: 'open' }) });
    first.ended();
    await first.audit.close();
    expect(kindsOf(await first.entries())).toEqual(['begin', 'connection', 'connection']);
    const second = auditRig({ disk: first.disk, seed: 2 });
    await second.audit.open();
    second.ended();
    await second.clock.advance(1_000);
    const parts = await second.parts();
    expect(verified(parts)).toMatchObject({ holds: true, sections: [{ first: 1, last: 4 }] });
  });

  it('writes nothing when it is switched off, and what there is can still be read', async () => {
    const first = auditRig();
    await first.audit.open();
    first.ended();
    await first.audit.close();
    const off = auditRig({ disk: first.disk, enabled: false });
    const before = off.disk.writes;
    await off.audit.open();
    off.ended();
    off.audit.source('x~0', true);
    await off.clock.advance(5_000);
    await off.audit.close();
    expect(off.disk.writes).toBe(before);
    expect(await off.report()).toMatchObject({ enabled: false, problems: [] });
    expect(verified(await off.parts())).toMatchObject({ holds: true, sections: [{ last: 2 }] });
  });
});

describe('the files of an audit', () => {
  const bounds = { segmentBytesMax: 20_000, entriesBytesMax: 100_000 };

  it('are bounded; what is left verifies from its oldest file on, and says that older ones went', async () => {
    const r = auditRig({ bounds });
    await r.audit.open();
    for (let second = 0; second < 60; second++) {
      for (let i = 0; i < 20; i++) r.ended({ from: `10.1.0.7:${second * 100 + i}` });
      await r.clock.advance(1_000);
    }
    const bytes = [...r.disk.files.values()].reduce((sum, { length }) => sum + length, 0);
    expect(bytes).toBeLessThan(150_000);
    const result = verified(await r.parts());
    expect(result.findings).toEqual([]);
    const [section] = result.sections;
    expect(section!.first).toBeGreaterThan(500);
    expect(section!.entries).toBe(section!.last - section!.first + 1);
    expect(section!.notes.join()).toMatch(new RegExp(`entries up to ${section!.first - 1} were removed earlier`));
  });

  it('give way where the volume is short of room: the journal needs it', async () => {
    const r = auditRig({ bounds });
    await r.audit.open();
    const more = async (seconds: number): Promise<void> => {
      for (let second = 0; second < seconds; second++) {
        for (let i = 0; i < 20; i++) r.ended();
        await r.clock.advance(1_000);
      }
    };
    await more(10);
    expect((await r.report()).parts.length).toBeGreaterThan(3);
    r.disk.freeBytes = limits.auditFreeBytesMin - 1_000_000;
    await more(3);
    expect((await r.report()).parts.length).toBeLessThanOrEqual(2);
    expect(verified(await r.parts()).findings).toEqual([]);
    expect(kindsOf(await r.entries())).toContain('cut');
  });

  it('can be exported while it is being written', async () => {
    const r = auditRig({ bounds });
    await r.audit.open();
    for (let second = 0; second < 20; second++) {
      for (let i = 0; i < 20; i++) r.ended();
      const [parts] = await Promise.all([r.parts(), r.clock.advance(1_000)]);
      const result = verified(parts);
      // Files that began meanwhile are not among them: only that may be missing.
      expect(result.findings.filter(({ kind }) => kind !== 'missing')).toEqual([]);
    }
    expect(verified(await r.parts()).findings).toEqual([]);
  });
});

describe('a disk that takes nothing', () => {
  it('holds nothing up; a gap in the chain counts what memory had no room for', async () => {
    const r = auditRig({ bounds: { entriesMax: 100 } });
    await r.audit.open();
    r.ended();
    await r.clock.advance(1_000);
    r.disk.failing = 'ENOSPC';
    for (let second = 0; second < 5; second++) {
      for (let i = 0; i < 60; i++) r.ended({ from: `${second}:${i}` });
      await r.clock.advance(1_000);
    }
    expect(r.audit.problems().map(({ code }) => code)).toEqual(['journal/unwritable', 'audit/behind']);
    expect(r.audit.problems()[0]!.message).toMatch(/^border audit: .*ENOSPC/);
    r.audit.gauge([]);
    expect(await r.counter('isthmus_audit_lost_total')).toBe(240);
    expect(await r.counter('isthmus_audit_waiting')).toBe(60);
    expect(r.logged).toEqual(['the border audit cannot be written']);
    r.disk.failing = undefined;
    await r.clock.advance(2_000);
    const entries = await r.entries();
    expect(kindsOf(entries)).toEqual(['begin', 'connection', 'gap', ...Array(60).fill('connection')]);
    expect(entries[2]!.entry.body).toMatchObject({ entries: 240, byKind: { connection: 240 } });
    expect(entries[2]!.intact).toBe(true);
    const result = verified(await r.parts());
    expect(result.holds).toBe(true);
    expect(result.sections[0]!.notes.join()).toMatch(/entry 3 \(gap\) says that something was lost/);
    expect(r.audit.problems()).toEqual([]);
  });

  it('or that hangs, is told as falling behind', async () => {
    const r = auditRig({ bounds: { entriesMax: 1_000 } });
    await r.audit.open();
    const { promise, resolve } = Promise.withResolvers<void>();
    r.disk.hold = promise;
    for (let second = 0; second < 5; second++) {
      for (let i = 0; i < 500; i++) r.ended();
      await r.clock.advance(1_000);
    }
    expect(r.audit.problems().map(({ code }) => code)).toEqual(['audit/behind']);
    resolve();
    r.disk.hold = undefined;
    await r.clock.advance(1_000);
    const entries = await r.entries();
    const gaps = entries.filter(({ entry }) => entry.kind === 'gap').map(({ entry }) => entry.body);
    const lost = gaps.reduce<number>((sum, body) => sum + (body as { entries: number }).entries, 0);
    expect(lost).toBeGreaterThan(0);
    expect(entries.filter(({ entry }) => entry.kind === 'connection').length + lost).toBe(2_500);
    expect(verified(await r.parts()).holds).toBe(true);
  });

  it('that cannot even be read at the start does not stop it: it begins when it can', async () => {
    const disk = new MemoryJournalFiles();
    disk.failing = 'EIO';
    const r = auditRig({ disk });
    await r.audit.open();
    r.ended();
    await r.clock.advance(1_000);
    expect(r.audit.problems()).toMatchObject([{ code: 'journal/unwritable' }]);
    disk.failing = undefined;
    await r.clock.advance(3_000);
    expect(kindsOf(await r.entries())).toEqual(['begin', 'connection']);
  });

  it('that lost its end to a crash is told in the chain', async () => {
    const first = auditRig();
    await first.audit.open();
    for (let i = 0; i < 3; i++) {
      first.ended();
      await first.clock.advance(1_000);
    }
    for (const [name, bytes] of first.disk.files) first.disk.files.set(name, bytes.subarray(0, bytes.length - 100));
    const second = auditRig({ disk: first.disk, seed: 2 });
    await second.audit.open();
    second.ended();
    await second.clock.advance(1_000);
    expect(kindsOf(await second.entries())).toEqual(['begin', 'connection', 'connection', 'torn', 'connection']);
    expect(second.audit.problems()).toMatchObject([{ code: 'journal/broken' }]);
  });

  it('that was put back to an older copy is found out by what manifests said', async () => {
    const r = auditRig();
    await r.audit.open();
    r.ended();
    await r.clock.advance(1_000);
    const head = r.audit.journal.head()!;
    r.audit.gauge([{ ...head, sequence: head.sequence + 5, of: 'us-east', source: 'us-west', log: 'audit' }]);
    r.ended();
    await r.clock.advance(1_000);
    expect(kindsOf(await r.entries())).toContain('lost');
  });
});
