/**
 * What is held of withdrawals, as plain data: for the disk, and for the other replicas. No manifest covers these records any more, so
 * they are kept whole.
 */
import { create } from '@bufbuild/protobuf';
import { fail, ok, type Result } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import { type ServiceRecord, ServiceRecordSchema } from '../gen/isthmus/v1/records_pb.ts';
import { codec } from '../records/codec.ts';
import type { HeldRecord, HoldReason, Withdrawals } from './withdrawals.ts';

export interface SavedHold {
  readonly member: string;
  readonly service: ServiceKey;
  readonly sinceMs: number;
  readonly deadlineMs: number;
  readonly reason: HoldReason;
  /** The record, base64. */
  readonly record: string;
}

/** As plain JSON-able data, for the saved state: no manifest covers these records any more. */
export const saveWithdrawals = (state: Withdrawals): readonly SavedHold[] => {
  const saved: SavedHold[] = [];
  for (const [member, held] of state) {
    for (const [service, { record, ...rest }] of held) {
      const bytes = codec.service.encode(record);
      // It came through the same codec; what it cannot write any more is not worth holding.
      if (bytes.ok) saved.push({ member, service, ...rest, record: Buffer.from(bytes.value).toString('base64') });
    }
  }
  return saved;
};

const reasons: readonly unknown[] = ['Mass', 'Canary', 'Answers'];

const nothing = (): ServiceRecord => create(ServiceRecordSchema);

/**
 * Errors: `state/corrupt`, naming the entry.
 * @param aheadMs - by how much its times are moved on
 * @param named - the entries are without their records
 */
export const restoreWithdrawals = (saved: unknown, aheadMs = 0, named = false): Result<Withdrawals> => {
  const corrupt = (what: string) => fail('state/corrupt', `saved withdrawals: ${what}`);
  if (!Array.isArray(saved)) return corrupt('not a list');
  const state = new Map<string, Map<ServiceKey, HeldRecord>>();
  for (const [i, entry] of saved.entries()) {
    const { member, service, sinceMs, deadlineMs, reason, record } = (entry ?? {}) as Partial<SavedHold>;
    if (typeof member !== 'string' || typeof service !== 'string' || (!named && typeof record !== 'string')) {
      return corrupt(`entry ${i} has no member, service or record`);
    }
    if (!Number.isFinite(sinceMs) || !Number.isFinite(deadlineMs) || !reasons.includes(reason)) {
      return corrupt(`entry ${i} (${service} of ${member}) has no times or reason`);
    }
    const decoded = named ? ok(nothing()) : codec.service.decode(Buffer.from(record!, 'base64'));
    if (!decoded.ok) return corrupt(`entry ${i} (${service} of ${member}): ${decoded.error.message}`);
    const held = state.get(member) ?? new Map<ServiceKey, HeldRecord>();
    const times = { sinceMs: sinceMs! + aheadMs, deadlineMs: deadlineMs! + aheadMs };
    held.set(service, { record: decoded.value, ...times, reason: reason! });
    state.set(member, held);
  }
  return ok(state);
};
