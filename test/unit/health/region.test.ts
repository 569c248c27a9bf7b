import { describe, expect, it } from 'vitest';
import { ownVotes } from '../../../src/health/region.ts';
import type { Vote } from '../../../src/health/signals.ts';
import { badProbe, memberView, probe, Scene, self, talks, viewOf } from './scene.ts';

// Our own region is named as we are; three members in west, two in eu, one in asia.
const members: Record<string, string> = { w1: 'west', w2: 'west', w3: 'west', e1: 'eu', e2: 'eu', a1: 'asia' };
const view = viewOf(Object.entries(members).map(([name, region]) => memberView(name, region)));

const vote = (voter: string, accused: string, change: Partial<Vote> = {}): Vote => ({
  voter,
  voterRegion: members[voter] ?? '',
  accused,
  down: true,
  ageMs: 500,
  ...change,
});
const probes = (now: number, down: readonly string[] = []) =>
  Object.keys(members).map((name) => (down.includes(name) ? badProbe(name, now) : probe(name, now)));
const westDown = (now: number) => ({ probes: probes(now, ['w1', 'w2', 'w3']) });

const decide = (votes: readonly Vote[], down: readonly string[] = [], of = view) => {
  const s = new Scene(of);
  s.run(0, 10_000, (now) => ({ votes, probes: probes(now, down) }));
  return [...s.last!.verdicts.regions.keys()];
};

describe('our own votes', () => {
  it('are the regions of which all members are out', () => {
    const s = new Scene(view);
    s.run(0, 10_000, (now) => ({ probes: probes(now, ['w1', 'w2']) }));
    expect(ownVotes(view, s.last!.verdicts.members)).toEqual([]);
    s.run(11_000, 20_000, westDown);
    expect(ownVotes(view, s.last!.verdicts.members)).toEqual(['west']);
    s.run(21_000, 23_000, (now) => ({ probes: probes(now, ['w1', 'w2']) }));
    expect(ownVotes(view, s.last!.verdicts.members)).toEqual([]);
  });

  it('are never against our own region', () => {
    const near = viewOf([memberView('near', self), memberView('far', 'far')]);
    const s = new Scene(near);
    s.run(0, 10_000, (now) => ({ probes: [badProbe('near', now), badProbe('far', now)] }));
    expect(ownVotes(near, s.last!.verdicts.members)).toEqual(['far']);
  });
});

describe('a region is down', () => {
  const all = ['w1', 'w2', 'w3'];

  it('when a strict majority of the other regions say so, our own by what we see', () => {
    expect(decide([vote('e1', 'west'), vote('e2', 'west')], all)).toEqual(['west']);
    // We alone are one of three.
    expect(decide([], all)).toEqual([]);
    // We see it well, and two others do not.
    expect(decide([vote('e1', 'west'), vote('e2', 'west'), vote('a1', 'west')])).toEqual(['west']);
    expect(decide([vote('a1', 'west')])).toEqual([]);
  });

  it('by more than half of the others', () => {
    const three = viewOf([memberView('w1', 'west'), memberView('e1', 'eu')]);
    // One of two, though it is all that is left to speak.
    expect(decide([], ['w1'], three)).toEqual([]);
    expect(decide([vote('e1', 'west')], ['w1'], three)).toEqual(['west']);
  });

  it('by one vote a region, however many members vote', () => {
    expect(decide([vote('w1', 'eu'), vote('w2', 'eu'), vote('w3', 'eu')])).toEqual([]);
  });

  it('when most members of a voting region say so: half of them is not most', () => {
    expect(decide([vote('e1', 'west')], all)).toEqual([]);
    expect(decide([vote('e1', 'west'), vote('e2', 'west', { down: false })], all)).toEqual([]);
  });

  it('by the votes of those who are heard: the silent are neither for nor against', () => {
    const s = new Scene(view);
    const silent = new Map([['e2', { ...talks(), ageMs: 60_000 }]]);
    s.run(0, 10_000, (now) => ({ ...westDown(now), votes: [vote('e1', 'west')], control: silent }));
    expect([...s.last!.verdicts.regions.keys()]).toEqual(['west']);
  });

  it('with our own word for our region, which is what we see, against that of a neighbour', () => {
    const near = viewOf([
      ...Object.entries(members).map(([n, region]) => memberView(n, region)),
      memberView('n2', self),
    ]);
    const accusing = ['n2', 'e1', 'e2'].map((voter) => vote(voter, 'west'));
    expect(decide(accusing, [], near)).toEqual([]);
    expect(decide(accusing, all, near)).toEqual(['west']);
  });

  it('not by a member that takes its word back, against one that stays with it', () => {
    expect(decide([vote('e1', 'west'), vote('e2', 'west', { down: false }), vote('a1', 'west')], [])).toEqual([]);
  });

  it('without the votes of the accused, of strangers, and of those who said it long ago', () => {
    expect(decide([vote('w1', 'west'), vote('w2', 'west'), vote('w3', 'west')], all)).toEqual([]);
    expect(decide([vote('x1', 'west', { voterRegion: 'eu' }), vote('x2', 'west', { voterRegion: 'eu' })], all)).toEqual(
      [],
    );
    // What region it is of is not the voter's to say.
    expect(
      decide([vote('w1', 'west', { voterRegion: 'eu' }), vote('w2', 'west', { voterRegion: 'asia' })], all),
    ).toEqual([]);
    const stale = { ageMs: 15_001 };
    expect(decide([vote('e1', 'west', stale), vote('e2', 'west', stale)], all)).toEqual([]);
  });

  it('only where there are three regions', () => {
    const two = viewOf([memberView('w1', 'west')]);
    expect(decide([vote('w1', 'west')], ['w1'], two)).toEqual([]);
  });

  it('only if it exists', () => {
    expect(decide([vote('e1', 'moon'), vote('e2', 'moon'), vote('a1', 'moon')])).toEqual([]);
  });

  it('with an age and a reason, and changes when the votes do', () => {
    const s = new Scene(view);
    const votes = [vote('e1', 'west'), vote('e2', 'west')];
    s.run(0, 10_000, westDown);
    const turned = s.step(11_000, { ...westDown(11_000), votes });
    expect([...turned.changed.regions]).toEqual(['west']);
    s.run(12_000, 15_000, (now) => ({ ...westDown(now), votes }));
    expect(s.last!.verdicts.regions.get('west')).toMatchObject({
      state: 'quarantined',
      reason: 'RegionCondemned',
      sinceMs: 11_000,
      detail: '2 of 3 other regions hold it for down: eu, us-east',
    });
    expect(s.last!.changed.regions.size).toBe(0);
    expect([...s.step(16_000, westDown(16_000)).changed.regions]).toEqual(['west']);
    expect(s.last!.verdicts.regions.size).toBe(0);
    s.step(17_000, { ...westDown(17_000), votes });
    // Down, up and down again.
    expect(s.last!.verdicts.regions.get('west')?.penalty).toBeGreaterThan(2_500);
  });
});
