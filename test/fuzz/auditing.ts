/** What the border audit is made of: lines of access logs, and its exports. */
import { partsOf } from '../../src/cli/audit_source.ts';
import { auditEntry, renderAudit } from '../../src/cli/audit_text.ts';
import { readExport } from '../../src/journal/export_file.ts';
import { joinParts } from '../../src/journal/parts.ts';
import { verifyExport } from '../../src/journal/verify.ts';
import { connectionOf } from '../../src/telemetry/connections.ts';
import { readLogMessage } from '../../src/telemetry/decode.ts';
import { countEntries, doorEvent } from '../../src/telemetry/doors.ts';
import { auditRig } from '../unit/audit/rig.ts';
import { entry, logs } from '../unit/telemetry/entries.ts';
import type { Target } from './target.ts';

const audit = auditRig({ bounds: { segmentBytesMax: 2_000 } });
await audit.audit.open();
for (let i = 0; i < 6; i++) {
  audit.ended();
  await audit.clock.advance(1_000);
}
const known = { memberOf: () => undefined, serviceOf: () => undefined };
const log = { type: 'established', member: 'us-west', status: 200, identity: 'spiffe://demo/cluster/us-west' } as const;

export const auditingBytes: readonly Target<Uint8Array>[] = [
  {
    name: 'connection',
    seeds: [logs([entry(log), entry({ ...log, type: 'end', headers: { 'x-isthmus-source': 'x' } })])],
    run: (bytes) => {
      countEntries(bytes);
      const { entries, doors } = readLogMessage(bytes);
      for (const name of ['tunnels', 'border', 'direct'])
        for (const one of entries) connectionOf(name, one, 'x~0', '', known);
      for (const one of doors) doorEvent('door-federation', one, 'x~0');
      return undefined;
    },
  },
  {
    name: 'audit',
    seeds: [Buffer.from((await audit.parts()).join(''))],
    run: (bytes) => {
      const parts = [...partsOf(bytes)];
      const found = parts.flatMap((part) => readExport(part.bytes).entries);
      renderAudit(found.map(auditEntry), [], true);
      return joinParts(parts.map((part) => verifyExport(part.bytes, { log: 'audit', linesBefore: part.linesBefore })));
    },
  },
];
