import { codec } from '../../../src/records/codec.ts';
import type { Invariant } from './invariant.ts';

export const coveredRecords: Invariant = {
  name: 'covered-records',
  what: 'Every record in use was once published by its member under a manifest with its own signature.',
  begin: () => ({
    records: (process, change, { registry }) => {
      for (const [name, { services }] of process.federation.members) {
        for (const key of change.services) {
          const record = services.get(key);
          if (record === undefined) continue;
          const bytes = codec.service.encode(record);
          if (!bytes.ok) return `${process.o.cluster.name}: a record in use cannot be written: ${bytes.error.message}`;
          if (!registry.published(name, `services/${key}`, bytes.value)) {
            return `${process.o.cluster.name} uses a record of ${key} that ${name} never published`;
          }
        }
      }
      return undefined;
    },
  }),
};
