import { describe, expect, it } from 'vitest';
import { LivenessState, livenessTimes } from '../../../src/gateway/liveness_state.ts';

const two = (): LivenessState => {
  const state = new LivenessState();
  state.setPods(['a', 'b']);
  for (const pod of ['a', 'b']) good(state, pod, 0);
  return state;
};
const good = (state: LivenessState, pod: string, nowMs: number) => [
  ...state.connected(pod, true, nowMs),
  ...state.runner(pod, 'ready', nowMs),
];
const healthy = (state: LivenessState): string[] =>
  [...state.health]
    .filter(([, h]) => h)
    .map(([name]) => name)
    .sort();

describe('a pod', () => {
  it('counts as healthy until it shows otherwise', () => {
    expect(healthy(two())).toEqual(['a', 'b']);
  });

  it('is dead by two signals, any two', () => {
    const pairs: ((s: LivenessState) => void)[][] = [
      [(s) => s.connected('a', false, 1), (s) => s.runner('a', 'silent', 1)],
      [(s) => s.connected('a', false, 1), (s) => s.streams('a', 0, 1)],
      [(s) => s.runner('a', 'silent', 1), (s) => s.streams('a', 0, 1)],
    ];
    for (const pair of pairs) {
      const state = two();
      state.streams('a', 2, 0);
      pair[0]!(state);
      expect(healthy(state)).toEqual(['a', 'b']);
      pair[1]!(state);
      expect(healthy(state)).toEqual(['b']);
    }
  });

  it('that never had a discovery stream here is not blamed for having none', () => {
    const state = two();
    state.streams('a', 0, 1);
    state.connected('a', false, 1);
    expect(healthy(state)).toEqual(['a', 'b']);
  });

  it('whose discovery streams have moved to the other replica is not dead by one more signal later', () => {
    const state = two();
    state.streams('a', 2, 0);
    state.streams('a', 0, 1_000);
    const later = 1_000 + livenessTimes.streamsEndedMs + 1;
    state.streams('a', 0, later);
    state.connected('a', false, later);
    state.connected('a', true, later + 60);
    state.runner('a', 'silent', later + 60);
    expect(healthy(state)).toEqual(['a', 'b']);
    state.runner('a', 'ready', later + 120);
    state.streams('a', 1, later + 120);
    state.streams('a', 0, later + 200);
    state.connected('a', false, later + 200 + livenessTimes.streamsEndedMs);
    expect(healthy(state)).toEqual(['b']);
  });

  it('that says it is unready is out at once', () => {
    const state = two();
    expect(state.runner('a', 'unready', 1)).toMatchObject([{ pod: 'a', healthy: false }]);
  });

  it('whose runner alone is silent stays', () => {
    const state = two();
    for (let t = 0; t < 60_000; t += 60) state.runner('a', 'silent', t);
    expect(healthy(state)).toEqual(['a', 'b']);
  });

  it('whose connections alone fail is out after a while, not after one', () => {
    const state = two();
    state.connected('a', false, 100);
    state.connected('a', true, 150);
    state.connected('a', false, 200);
    state.connected('a', false, 200 + livenessTimes.connectAloneMs - 1);
    expect(healthy(state)).toEqual(['a', 'b']);
    state.connected('a', false, 200 + livenessTimes.connectAloneMs);
    expect(healthy(state)).toEqual(['b']);
  });

  it('returns after several good rounds in a row', () => {
    const state = two();
    state.connected('a', false, 1);
    state.runner('a', 'silent', 1);
    const rounds = (n: number): void => {
      for (let i = 0; i < n; i++) good(state, 'a', 2);
    };
    rounds(livenessTimes.goodRoundsToReturn - 1);
    state.connected('a', false, 3);
    rounds(livenessTimes.goodRoundsToReturn - 1);
    expect(healthy(state)).toEqual(['b']);
    rounds(1);
    expect(healthy(state)).toEqual(['a', 'b']);
  });

  it('does not return by answering one of the two questions many times', () => {
    const state = two();
    state.connected('a', false, 1);
    state.runner('a', 'silent', 1);
    for (let i = 0; i < 50; i++) state.connected('a', true, 2);
    expect(healthy(state)).toEqual(['b']);
  });
});

describe('the last healthy pod', () => {
  const kill = (state: LivenessState, pod: string, nowMs: number): void => {
    state.connected(pod, false, nowMs);
    state.runner(pod, 'silent', nowMs);
  };

  it('is kept however it looks', () => {
    const state = two();
    kill(state, 'a', 1);
    kill(state, 'b', 2);
    expect(healthy(state)).toEqual(['b']);
    const alone = new LivenessState();
    alone.setPods(['only']);
    alone.runner('only', 'unready', 1);
    expect(healthy(alone)).toEqual(['only']);
  });

  it('gives way once another one answers again', () => {
    const state = two();
    kill(state, 'a', 1);
    kill(state, 'b', 2);
    for (let i = 0; i < livenessTimes.goodRoundsToReturn; i++) good(state, 'a', 3);
    expect(healthy(state)).toEqual(['a']);
  });

  it('is chosen among those that exist', () => {
    const state = two();
    kill(state, 'a', 1);
    expect(state.setPods(['a'])).toMatchObject([{ pod: 'a', healthy: true }]);
    expect(healthy(state)).toEqual(['a']);
  });
});

describe('pods that come and go', () => {
  it('start anew when replaced, and are forgotten when gone', () => {
    const state = two();
    state.connected('a', false, 1);
    state.runner('a', 'silent', 1);
    state.setPods(['a', 'b'], new Set(['a']));
    expect(healthy(state)).toEqual(['a', 'b']);
    state.setPods(['b']);
    expect(state.connected('a', false, 2)).toEqual([]);
    expect([...state.health.keys()]).toEqual(['b']);
  });
});
