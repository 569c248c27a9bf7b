import { describe, expect, it } from 'vitest';
import type { LoadedReport, MemberTrust, RootReport } from '../../../src/core/trust_report.ts';
import { judgeRotation, type Rotation, rotationAfter } from '../../../src/trust/rotation.ts';

const [old, fresh, foreign] = ['aa'.repeat(32), 'bb'.repeat(32), 'cc'.repeat(32)] as const;

const root = (name: string, change: Partial<RootReport> = {}): RootReport => ({
  ...{ root: name, given: true, issuing: false, lacking: 0, lackingUntilMs: 0, lackingNames: [] },
  ...{ inUse: 0, inUseUntilMs: 0, inUseNames: [], probed: [], probeFailed: [] },
  ...change,
});
const member = (name: string, loaded: Partial<LoadedReport>, change: Partial<MemberTrust> = {}): MemberTrust => ({
  ...{ member: name, ageSeconds: 0.5, fresh: true, bundle: [old, fresh], sequence: '2', registered: [] },
  loaded: { roots: [], partners: [], unknown: [], ...loaded },
  ...change,
});
const shared: Rotation = { stage: 'added', back: false, clusters: ['east', 'west'], from: [old], to: [fresh] };
const added = (partner: string, change: Partial<RootReport> = {}): Partial<LoadedReport> => ({
  roots: [root(old, { issuing: true }), root(fresh, { probed: [partner], ...change })],
  partners: [partner],
});
const said = (rotation: Rotation, members: readonly MemberTrust[]) => {
  const { step, waiting } = judgeRotation(rotation, members);
  return [step, ...waiting.map(({ member, what }) => `${member}: ${what}`)];
};

describe('a rotation of a shared root', () => {
  it('goes on to the new issuer when every proxy of every member has loaded the root and probes pass', () => {
    expect(said(shared, [member('east', added('west')), member('west', added('east'))])).toEqual(['switch']);
  });

  it('waits for each that lacks it, by name and until when, for who is silent, and who says nothing', () => {
    const lacking = { lacking: 3, lackingUntilMs: 9_000, lackingNames: ['shop/cart in c-0'] };
    const west = member('west', added('east', lacking));
    const { waiting } = judgeRotation(shared, [member('east', added('west')), west]);
    expect(waiting).toEqual([
      { member: 'west', what: '3 without root bbbbbbbbbbbbbbbb: shop/cart in c-0 and 2 more', untilMs: 9_000 },
    ]);
    expect(
      said(shared, [member('east', added('west')), member('west', added('east'), { fresh: false, ageSeconds: 61 })]),
    ).toEqual(['switch', 'west: is silent for 61 s']);
    const { loaded: _, ...older } = member('west', {});
    expect(said(shared, [member('east', added('west')), older])).toEqual([
      'switch',
      'west: has not said what its proxies have loaded: an older version, or it was never up',
    ]);
    expect(said(shared, [member('east', added('west'))])).toEqual(['switch', 'west: is not known here']);
    expect(
      said(shared, [
        member('east', added('west')),
        member('west', { ...added('east'), unknown: ['gateway g: 1 of its 2 Envoys have answered'] }),
      ]),
    ).toEqual(['switch', 'west: gateway g: 1 of its 2 Envoys have answered']);
  });

  it('waits for a root that is not given, not in the bundle or not probed, and says why', () => {
    const problem = 'trust of west, root 1: not registered for west';
    const west = member('west', added('east'), { bundle: [old], problem });
    expect(said(shared, [member('east', added('west')), west])).toEqual([
      'switch',
      `west: its new root is not in the bundle that others use (${problem})`,
    ]);
    const unprobed = member('west', added('east', { probed: [], probeFailed: ['east'] }));
    expect(said(shared, [member('east', added('west', { given: false, probed: [] })), unprobed])).toEqual([
      'switch',
      'east: does not give root bbbbbbbbbbbbbbbb to its proxies',
      'east: west is not yet probed with bbbbbbbbbbbbbbbb',
      'west: a probe of east with a certificate of bbbbbbbbbbbbbbbb fails',
    ]);
  });

  it('removes the old root when no certificate of it is in use anywhere, and everybody issues under the new one', () => {
    const rotation = rotationAfter(shared, 'switch');
    expect(rotation.stage).toBe('switched');
    const done = { roots: [root(old), root(fresh, { issuing: true })] };
    const used = {
      roots: [root(old, { inUse: 1, inUseUntilMs: 5, inUseNames: ['shop/cart'] }), root(fresh, { issuing: true })],
    };
    const behind = { roots: [root(old, { issuing: true }), root(fresh)] };
    expect(said(rotation, [member('east', done), member('west', done)])).toEqual(['remove']);
    expect(said(rotation, [member('east', used), member('west', behind)])).toEqual([
      'remove',
      'east: 1 with a certificate of aaaaaaaaaaaaaaaa: shop/cart',
      'west: still issues under root aaaaaaaaaaaaaaaa',
      'west: does not issue under bbbbbbbbbbbbbbbb yet',
    ]);
    expect(said(rotationAfter(rotation, 'remove'), [])).toEqual([undefined]);
  });
});

describe('a rotation of one cluster’s own root', () => {
  const own: Rotation = { stage: 'added', back: false, clusters: ['west'], from: [old], to: [fresh] };
  const west = member('west', added('east'));

  it('asks whoever trades with it, as either says, and nobody else', () => {
    const stranger = member('far', { partners: ['east'] }, { bundle: [foreign] });
    const east = member(
      'east',
      { roots: [root(foreign, { issuing: true }), root(fresh)], partners: ['west', 'far'] },
      { bundle: [foreign] },
    );
    expect(judgeRotation(own, [west, east, stranger])).toEqual({
      step: 'switch',
      waiting: [],
      concerned: ['east', 'west'],
    });
    const behind = member('east', { partners: [] }, { bundle: [foreign] });
    expect(said(own, [west, behind])).toEqual(['switch', 'east: does not give root bbbbbbbbbbbbbbbb to its proxies']);
  });

  it('asks it alone before the old root goes: nobody else issues under it', () => {
    const done = member('west', { roots: [root(old), root(fresh, { issuing: true })], partners: ['east'] });
    const east = member('east', { roots: [root(fresh, { lacking: 4 })], partners: ['west'] }, { fresh: false });
    expect(said(rotationAfter(own, 'switch'), [done, east])).toEqual(['remove']);
  });
});

describe('a rotation that is aborted', () => {
  it('takes the new root away when nothing was issued under it', () => {
    const back: Rotation = { ...shared, back: true };
    const both = [member('east', added('west')), member('west', added('east'))];
    expect(said(back, both)).toEqual(['withdraw']);
    const used = member('west', added('east', { inUse: 2, inUseNames: ['shop/cart', 'shop/pay'] }));
    expect(said(back, [both[0]!, used])).toEqual([
      'withdraw',
      'west: 2 with a certificate of bbbbbbbbbbbbbbbb: shop/cart, shop/pay',
    ]);
  });

  it('goes back to the old issuer first, which everybody must still trust', () => {
    const back: Rotation = { ...rotationAfter(shared, 'switch'), back: true };
    const switched = { roots: [root(old), root(fresh, { issuing: true })], partners: [] };
    expect(said(back, [member('east', switched), member('west', switched)])).toEqual(['switch-back']);
    const lost = { roots: [root(old, { lacking: 1, lackingNames: ['shop/cart'] }), root(fresh, { issuing: true })] };
    expect(said(back, [member('east', switched), member('west', lost)])).toEqual([
      'switch-back',
      'west: 1 without root aaaaaaaaaaaaaaaa: shop/cart',
    ]);
    expect(rotationAfter(back, 'switch-back')).toEqual({ ...shared, back: true });
  });
});
