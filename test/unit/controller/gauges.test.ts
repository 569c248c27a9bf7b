import { create } from '@bufbuild/protobuf';
import { describe, expect, it } from 'vitest';
import { type GaugeInput, gauge } from '../../../src/controller/gauges.ts';
import type { MemberView } from '../../../src/federation/view.ts';
import { LoadedRecordSchema, TrustRecordSchema } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { openMetrics } from '../../../src/ops/metrics.ts';

const root = (lacking: number, inUse: number) => ({ fingerprint: new Uint8Array(32), given: true, lacking, inUse });

const member = (unknown: readonly string[], ...roots: ReturnType<typeof root>[]): MemberView =>
  ({
    services: new Map(),
    trust: create(TrustRecordSchema, { roots: roots.map(() => new Uint8Array(1)) }),
    loaded: create(LoadedRecordSchema, { roots, unknown: [...unknown] }),
  }) as unknown as MemberView;

const textOf = (members: Readonly<Record<string, MemberView>>): Promise<string> => {
  const metrics = openMetrics('1.2.3');
  const input: Partial<GaugeInput> = {
    self: 'us-east',
    members: new Map(Object.entries(members)),
    verdicts: { members: new Map() } as unknown as GaugeInput['verdicts'],
    roundTrips: new Map(),
    gatewayHealth: new Map(),
    savedAgeSeconds: null,
    staleMs: {},
    denied: [],
    tables: {},
    rootEndsAtMs: 90_000,
    wallMs: 30_000,
  };
  gauge(metrics, input as GaugeInput);
  return metrics.text();
};

describe('gauges of a rotation of roots', () => {
  it('count what a rotation waits for, at our own member and at others', async () => {
    const text = await textOf({ 'us-east': member([], root(0, 2), root(3, 1)), 'us-west': member([], root(0, 0)) });
    expect(text).toContain('isthmus_trust_roots{peer="us-east"} 2');
    expect(text).toContain('isthmus_trust_root_lacking{peer="us-east"} 3');
    expect(text).toContain('isthmus_trust_old_root_in_use{peer="us-east"} 3');
    expect(text).toContain('isthmus_trust_root_lacking{peer="us-west"} 0');
    expect(text).toContain('isthmus_mesh_root_remaining_seconds 60');
  });

  it('say nothing where nothing may be concluded', async () => {
    const text = await textOf({ 'us-west': member(['replica b is silent'], root(0, 0)) });
    expect(text).toContain('isthmus_trust_roots{peer="us-west"} 1');
    expect(text).not.toContain('isthmus_trust_root_lacking{');
  });
});
