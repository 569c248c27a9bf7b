import { describe, expect, it } from 'vitest';
import { decide } from '../../../src/failover/decide.ts';
import { defaultPolicy } from '../../../src/failover/policy.ts';
import { decodeState, encodeState } from '../../../src/failover/saved.ts';
import { initialState } from '../../../src/failover/state.ts';
import { ClusterSet, checkout, place, recent } from './set.ts';

/** A story with a ramp, a latch, a drain, holds and a freeze in it. */
const story = (restarting: boolean): ClusterSet => {
  const set = new ClusterSet({
    members: { a: 'x', b: 'x', c: 'y' },
    local: [4, 10],
    services: [checkout, 'shop/cart'],
    policy: { capacity: { ...defaultPolicy.capacity, perEndpoint: 10 } },
  });
  set.restarting = restarting;
  set.step();
  set.member('a', 'quarantined');
  set.run(2_000);
  set.member('a', 'fresh', 'Healthy', { penalty: 5_000 });
  set.run(20_000);
  set.member('a', 'fresh', 'Healthy', { penalty: 0 });
  set.run(12_000);
  set.drain({ scope: 'service', member: 'b', service: 'shop/cart' });
  set.run(12_000);
  set.policy = { ...set.policy, failback: { ...set.policy.failback, mode: 'latched' } };
  set.cell('c', 'quarantined', 'GrayFailure');
  set.run(3_000);
  set.cell('c', 'fresh');
  set.run(20_000);
  set.command({ kind: 'freeze', author: 'kim', reason: '' });
  set.run(2_000);
  return set;
};

describe('the saved state', () => {
  it('says in bytes what it was', () => {
    const { state } = story(false);
    const read = decodeState(encodeState(state));
    expect(read).toEqual({ ok: true, value: state });
  });

  it('decides after each restart as if there had been none', () => {
    const [through, again] = [story(false), story(true)];
    expect(again.journal).toEqual(through.journal);
    expect(recent(again.state, again.now)).toEqual(recent(through.state, through.now));
    expect(place(again.plan)).toBe(place(through.plan));
    expect(through.journal.length).toBeGreaterThan(8);
  });

  it('is refused with the field that is wrong', () => {
    const { state } = story(false);
    const text = Buffer.from(encodeState(state)).toString();
    const broken = (change: (saved: Record<string, unknown>) => void): string => {
      const saved = JSON.parse(text) as Record<string, unknown>;
      change(saved);
      const read = decodeState(Buffer.from(JSON.stringify(saved)));
      return read.ok ? 'read' : `${read.error.code} ${read.error.message}`;
    };
    expect(broken(() => {})).toBe('read');
    expect(broken((s) => (s['version'] = 2))).toBe(
      'state/corrupt failover state: version is not 1, which is what can be read here',
    );
    expect(broken((s) => (s['names'] = []))).toContain('the number of a name');
    expect(broken((s) => (s['drains'] = [{}]))).toContain('drains.target');
    expect(broken((s) => (s['told'] = { members: [['a', 'sick']], cells: [], regions: [] }))).toContain('one of fresh');
    expect(broken((s) => (s['services'] = [['x', { at: [200, []], policy: '' }]]))).toContain(
      'services.at.localPercent',
    );
    expect(decodeState(Buffer.from('{')).ok).toBe(false);
    expect(decodeState(new Uint8Array()).ok).toBe(false);
  });

  it('gives a replica that does not decide the plan of the one that does', () => {
    const set = story(false);
    const decided = set.last!.plan;
    const entries = set.journal.length;
    set.restarting = true;
    set.role = 'cut-off';
    const { plan } = set.step(1_000);
    for (const [key, made] of decided.services) {
      const served = plan.services.get(key)!;
      expect(served.tiers).toEqual(made.tiers);
      expect(served.local).toEqual(made.local);
      expect(served.failFast).toBe(made.failFast);
      expect(place(served)).toBe(place(made));
    }
    expect(plan.grants).toEqual(decided.grants);
    expect(set.journal.length).toBe(entries);
    // What its own view no longer has is left out.
    set.export({ b: 2, c: 2 }, [4, 10]);
    const later = set.step(1_000).plan.services.get(checkout)!;
    expect(later.tiers.flat().map(({ member }) => member)).not.toContain('a');
  });

  it('keeps what is remembered while our own membership is not known', () => {
    const set = new ClusterSet();
    set.step();
    const verdict = {
      state: set.state.health,
      verdicts: { members: new Map(), cells: new Map(), regions: new Map() },
      changed: { members: new Set<string>(), cells: new Set<never>(), regions: new Set<string>() },
      wakeAt: undefined,
    };
    const view = { ...set.view, members: new Map() };
    const made = decide(set.state, view, verdict, set.signals, set.policies, set.now + 1);
    expect(made.plan.services.size).toBe(0);
    expect(made.state.services).toBe(set.state.services);
    expect(initialState().services.size).toBe(0);
  });
});
