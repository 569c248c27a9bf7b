import { describe, expect, it } from 'vitest';
import { ClusterSet, checkout, home, memberView, place, shares, told } from './set.ts';

const guards = (set: ClusterSet): string[] =>
  set.plan.held.map(({ guard, member }) => `${guard} ${member ?? ''}`.trim());
const cluster = (member: string) => ({ scope: 'cluster', member }) as const;

describe('a drain', () => {
  it('of another cluster goes in steps, and tells who and why', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.drain(cluster('eu'));
    expect(shares(set.plan)).toEqual({ eu: 75, 'us-west': 25 });
    expect(set.journal.map(({ kind, author, service }) => `${kind} ${author} ${service ?? '-'}`)).toEqual([
      'drain kim -',
      'drain kim shop/checkout',
    ]);
    const seen = [];
    for (let i = 0; i < 3; i++) {
      set.run(10_000);
      seen.push(shares(set.plan)['eu']);
    }
    expect(seen).toEqual([50, 25, undefined]);
    expect(place(set.plan)).toBe('100 | us-west');
    const standing = set.plan.standings.find(({ member }) => member === 'eu')!;
    expect(standing).toMatchObject({ reason: 'Draining', percent: 0 });
    expect(standing.detail).toContain('kim: kernel update');
    expect(set.plan.tunnelAgeMs).toBe(120_000);
    expect(set.last!.plan.draining.cluster).toBe(false);
  });

  it('ends with an undrain, which goes back in steps without a hold-down', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.drain(cluster('eu'), { overMs: 0, graceMs: 5_000 });
    expect(place(set.plan)).toBe('100 | us-west');
    expect(set.plan.tunnelAgeMs).toBe(5_000);
    set.run(30_000);
    expect(told(set.undrain(cluster('eu')).journal)).toEqual(['undrain Command eu', 'undrain Command service eu']);
    expect(place(set.plan)).toBe('100 | eu@10 us-west');
    expect(set.plan.tunnelAgeMs).toBeUndefined();
    set.run(31_000);
    expect(place(set.plan)).toBe('100 | eu > us-west');
    expect(set.undrain(cluster('eu')).journal[0]).toMatchObject({
      kind: 'hold',
      detail: 'cluster eu is not drained here',
    });
  });

  it('is held back where nobody else can serve, and goes on when somebody can', () => {
    const set = new ClusterSet({ local: undefined });
    set.member('us-west', 'quarantined');
    set.step();
    set.drain(cluster('eu'), { overMs: 0 });
    expect(place(set.plan)).toBe('100 | eu');
    expect(guards(set)).toEqual(['LastCell eu']);
    set.member('us-west', 'fresh');
    set.run(16_000);
    expect(place(set.plan)).toBe('100 | us-west');
  });

  it('gives the cell back at once when the others fail under it', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.drain(cluster('eu'), { overMs: 0 });
    set.member('us-west', 'quarantined');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | eu');
    set.member('us-west', 'fresh');
    set.run(16_000);
    expect(place(set.plan)).toBe('100 | us-west');
  });

  it('does not let what failed meanwhile past its hold-down', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.member('eu', 'quarantined');
    set.step(1_000);
    set.drain(cluster('eu'));
    set.member('eu', 'fresh');
    set.run(60_000);
    set.undrain(cluster('eu'));
    expect(place(set.plan)).toBe('100 | us-west');
    set.run(16_000);
    expect(place(set.plan)).toBe('100 | eu@10 us-west');
  });

  it('of one service leaves the others where they are; of a region takes all of it', () => {
    const set = new ClusterSet({ local: undefined, services: [checkout, 'shop/cart'] });
    set.step();
    set.drain({ scope: 'service', member: 'eu', service: 'shop/cart' }, { overMs: 0 });
    expect(place(set.plan)).toBe('100 | eu > us-west');
    expect(place(set.planOf('shop/cart'))).toBe('100 | us-west');
    set.drain({ scope: 'region', region: 'eu' }, { overMs: 0 });
    expect(place(set.plan)).toBe('100 | us-west');
  });

  it('of our own cluster is told to the others, moves our traffic too, and leaves what was granted', () => {
    const set = new ClusterSet();
    set.policy = { ...set.policy, capacity: { ...set.policy.capacity, perEndpoint: 10 } };
    set.step();
    expect(set.last!.plan.grants.length).toBe(2);
    set.drain(cluster(home));
    expect(set.last!.plan.draining.cluster).toBe(true);
    expect(place(set.plan)).toBe('75 | eu > us-west');
    expect(set.last!.plan.grants.map(({ perSecond }) => perSecond)).toEqual([8, 8]);
    set.run(31_000);
    expect(place(set.plan)).toBe('0 | eu > us-west');
    set.undrain(cluster(home));
    set.run(40_000);
    expect(place(set.plan)).toBe('100 | eu > us-west');
    expect(set.last!.plan.draining.cluster).toBe(false);
  });

  it("of our own gateway or service is told; of another cluster's gateway it is refused", () => {
    const set = new ClusterSet();
    set.step();
    set.drain({ scope: 'gateway', member: home, gateway: 'g0' });
    set.drain({ scope: 'service', member: home, service: checkout }, { overMs: 0 });
    expect(set.last!.plan.draining).toEqual({
      cluster: false,
      gateways: new Set(['g0']),
      services: new Set([checkout]),
    });
    expect(set.plan.local.percent).toBe(0);
    const { journal } = set.drain({ scope: 'gateway', member: 'eu', gateway: 'g1' });
    expect(journal[0]).toMatchObject({ kind: 'hold', rule: 'Command', author: 'kim' });
    expect(set.state.drains.length).toBe(2);
  });

  it("by a peer's own word is followed like one of ours", () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    const control = new Map([['eu', { ageMs: 100, shuttingDown: false, draining: true }]]);
    set.signals = { ...set.signals, control };
    const { journal } = set.step(1_000);
    expect(journal[0]).toMatchObject({ kind: 'drain', author: 'eu', member: 'eu' });
    set.run(31_000);
    expect(place(set.plan)).toBe('100 | us-west');
    set.signals = { ...set.signals, control: new Map() };
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | eu@10 us-west');
  });

  it('of all its gateways puts a cluster behind all others at once', () => {
    const set = new ClusterSet({ local: undefined });
    set.step();
    set.members.set('eu', memberView('eu', 'eu', [true, true]));
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | us-west');
    set.member('us-west', 'quarantined');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | eu');
  });
});

describe('a freeze', () => {
  const freeze = { kind: 'freeze', author: 'kim', reason: 'bank holiday' } as const;
  const thaw = { kind: 'thaw', author: 'kim', reason: '' } as const;

  it('keeps the plan as it is, whatever happens, and goes on deciding with the thaw', () => {
    const set = new ClusterSet({ local: [2, 2] });
    set.step();
    const before = set.last!.plan;
    expect(told(set.command(freeze).journal)).toEqual(['freeze Command']);
    set.member('eu', 'quarantined');
    set.cell('us-west', 'quarantined', 'GrayFailure');
    set.export({ eu: 4, 'us-west': 0 }, [0, 2]);
    set.drain({ scope: 'cluster', member: home });
    set.run(30_000);
    expect(set.last!.plan).toBe(before);
    expect(told(set.command(thaw).journal).slice(0, 3)).toEqual([
      'thaw Command',
      'state ProbeFailed eu',
      'state GrayFailure service us-west',
    ]);
    expect(set.last!.plan.draining.cluster).toBe(true);
    expect(set.last!.plan).not.toBe(before);
  });

  it('lets go of a cluster that is no longer in the view, and never leaves nobody', () => {
    const set = new ClusterSet({ members: { a: 'x', b: 'x', c: 'y' }, local: undefined });
    set.member('c', 'quarantined');
    set.step();
    set.command(freeze);
    set.export({ b: 2, c: 2 }, undefined);
    const { journal } = set.step(1_000);
    expect(place(set.plan)).toBe('100 | b');
    expect(journal[0]).toMatchObject({ kind: 'shift', rule: 'Withdrawn', guards: [{ guard: 'Frozen' }] });
    set.export({ c: 2 }, undefined);
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | c');
  });

  it('refuses a failback instead of keeping it', () => {
    const set = new ClusterSet();
    set.step();
    set.command(freeze);
    const back = { kind: 'failback', member: 'eu', service: undefined, author: 'kim', reason: '' } as const;
    expect(set.command(back).journal[0]).toMatchObject({ kind: 'hold', guards: [{ guard: 'Frozen' }] });
    expect(set.command(freeze).journal[0]).toMatchObject({ kind: 'hold', detail: 'frozen already, by kim' });
  });
});

describe('a policy that observes', () => {
  it('tells what it would do, and does nothing', () => {
    const set = new ClusterSet({ local: [2, 2], policy: { mode: 'observe' } });
    set.step();
    set.member('eu', 'quarantined');
    const { journal } = set.step(1_000);
    expect(place(set.plan)).toBe('100 | eu > us-west');
    expect(journal.filter(({ service }) => service !== undefined)).toMatchObject([
      { kind: 'shift', rule: 'ProbeFailed', observed: true },
    ]);
    set.member('eu', 'fresh');
    set.run(60_000);
    const observed = set.journal.filter((d) => d.observed).map(({ kind }) => kind);
    expect(observed).toEqual(['shift', 'hold', 'failback']);
    expect(set.plan.standings.find(({ member }) => member === 'eu')).toMatchObject({ tier: 0, percent: 100 });
  });

  it('goes by readiness, and says so as done', () => {
    const set = new ClusterSet({ local: [2, 2], policy: { mode: 'observe' } });
    set.step();
    set.export({ eu: 0, 'us-west': 2 }, [0, 2]);
    const { journal } = set.step(1_000);
    expect(place(set.plan)).toBe('100 | us-west');
    expect(journal.map(({ observed }) => observed)).toEqual([true, false]);
  });

  it('begins to act where its story is', () => {
    const set = new ClusterSet({ local: undefined, policy: { mode: 'observe' } });
    set.step();
    set.member('eu', 'quarantined');
    set.step(1_000);
    set.policy = { ...set.policy, mode: 'act' };
    const { journal } = set.step(1_000);
    expect(place(set.plan)).toBe('100 | us-west');
    expect(journal[0]).toMatchObject({ kind: 'shift', observed: false });
    set.policy = { ...set.policy, mode: 'observe' };
    expect(set.step(1_000).journal[0]).toMatchObject({ rule: 'Policy', observed: false });
    expect(place(set.plan)).toBe('100 | eu > us-west');
  });
});

describe('a replica that is cut off', () => {
  it('withdraws, and brings nothing back', () => {
    const set = new ClusterSet({ members: { a: 'x', b: 'x', c: 'x' }, local: undefined });
    set.step();
    set.member('a', 'quarantined');
    set.step(1_000);
    set.role = 'cut-off';
    set.member('a', 'fresh');
    set.member('b', 'quarantined');
    set.run(120_000);
    expect(place(set.plan)).toBe('100 | c');
    expect(guards(set)).toContain('CutOff a');
    set.drain({ scope: 'cluster', member: 'c' });
    expect(set.state.drains).toEqual([]);
    set.role = 'writer';
    set.run(1_000);
    expect(place(set.plan)).toBe('100 | a@10 c');
  });

  it('uses the last one that is good although it waits, and does not call it back', () => {
    const set = new ClusterSet({ members: { a: 'x', b: 'x' }, local: undefined });
    set.step();
    set.member('a', 'quarantined');
    set.step(1_000);
    set.member('a', 'fresh');
    set.step(1_000);
    set.role = 'cut-off';
    set.member('b', 'quarantined');
    set.step(1_000);
    expect(place(set.plan)).toBe('100 | a');
    expect(set.state.services.get(checkout)?.cells.get('a')?.phase).toBe('held');
    expect(set.journal.some(({ kind }) => kind === 'failback')).toBe(false);
    set.role = 'writer';
    set.step(1_000);
    expect(set.state.services.get(checkout)?.cells.has('a')).toBe(false);
  });

  it('raises no local share', () => {
    const set = new ClusterSet({ local: [4, 10] });
    set.step();
    expect(set.plan.local.percent).toBe(60);
    set.role = 'cut-off';
    set.export({ eu: 2, 'us-west': 2 }, [10, 10]);
    set.step(1_000);
    expect(set.plan.local.percent).toBe(60);
    set.export({ eu: 2, 'us-west': 2 }, [2, 10]);
    set.step(1_000);
    expect(set.plan.local.percent).toBe(30);
  });
});
