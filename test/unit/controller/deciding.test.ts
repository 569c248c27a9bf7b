import { describe, expect, it } from 'vitest';
import { Deciding, type DecidingOptions } from '../../../src/controller/deciding.ts';
import type { StepInputs } from '../../../src/controller/replay.ts';
import { IsthmusError } from '../../../src/core/errors.ts';
import type { Decision } from '../../../src/failover/decision.ts';
import { defaultPolicies } from '../../../src/failover/policy.ts';
import type { View } from '../../../src/federation/view.ts';
import { type Command, noSignals } from '../../../src/health/signals.ts';
import { SimClock } from '../../sim/clock.ts';
import { serviceView, viewOf } from './shop.ts';

const both = viewOf([serviceView([0, 0], { 'us-west': [4, 4], 'eu-central': [3, 3] })]);
const westUnready = viewOf([serviceView([0, 0], { 'us-west': [0, 4], 'eu-central': [3, 3] })]);
const drain: Command = {
  kind: 'drain',
  target: { scope: 'cluster', member: 'us-west' },
  author: 'kim',
  reason: 'kernel update',
  overMs: 0,
  graceMs: undefined,
};

/** A replica with a journal whose disk answers when the test says so. */
const replica = (over: Partial<DecidingOptions> = {}) => {
  const clock = new SimClock();
  const happened: string[] = [];
  const journalled: { decisions: readonly Decision[]; inputs: StepInputs }[] = [];
  let disk = Promise.withResolvers<void>();
  const deciding = new Deciding({
    clock,
    rng: () => 0.5,
    log: () => {},
    policies: () => defaultPolicies,
    standing: () => {
      const peers = [...both.members.keys()].filter((name) => name !== both.self);
      const control = new Map(peers.map((name) => [name, { ageMs: 300, shuttingDown: false, draining: false }]));
      const { probes: _p, traffic: _t, gray: _g, commands: _c, ...rest } = noSignals;
      return { ...rest, readBackMs: 300, control };
    },
    chosen: () => true,
    hearsWriter: () => true,
    append: async (decisions, inputs) => {
      journalled.push({ decisions, inputs });
      happened.push('append');
      await disk.promise;
      happened.push('on disk');
      return { durable: true, first: 1, last: 1 };
    },
    save: async () => void happened.push('save'),
    wake: () => {},
    onDecided: () => happened.push('told'),
    ...over,
  });
  return {
    clock,
    deciding,
    happened,
    journalled,
    answer: () => disk.resolve(),
    refuse: (error: Error) => {
      const before = disk;
      disk = Promise.withResolvers();
      before.reject(error);
    },
    serves: (): string[] =>
      (deciding.plan.services.get('shop/checkout')?.tiers ?? []).flat().map(({ member }) => member),
  };
};
const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const decide = async ({ deciding, clock }: ReturnType<typeof replica>, view: View): Promise<void> => {
  await clock.advance(1_000);
  await deciding.decide(view);
};

describe('a decision', () => {
  it('takes effect when it is in the journal, and the state that it leads to on the disk', async () => {
    const one = replica();
    expect(one.deciding.decide(both)).not.toBeInstanceOf(Promise);
    expect(one.serves()).toContain('us-west');
    await one.clock.advance(1_000);
    const decided = one.deciding.decide(westUnready);
    expect(decided).toBeInstanceOf(Promise);
    await soon();
    expect(one.happened).toEqual(['append']);
    expect(one.serves()).toContain('us-west');
    one.answer();
    await decided;
    expect(one.happened).toEqual(['append', 'on disk', 'save', 'told']);
    expect(one.serves()).toEqual(['eu-central']);
  });

  it('that a person asked for and the journal refused is not made; what the controller decides goes on', async () => {
    const one = replica();
    one.deciding.decide(both);
    const asked = one.deciding.command(drain);
    const refused = expect(asked).rejects.toMatchObject({ code: 'journal/unwritable' });
    await one.clock.advance(1_000);
    const decided = one.deciding.decide(westUnready);
    one.refuse(new IsthmusError('journal/unwritable', 'the disk is full'));
    one.answer();
    await decided;
    await refused;
    expect(one.deciding.state.drains).toEqual([]);
    expect(one.serves()).toEqual(['eu-central']);
  });
});

describe('a replica that does not decide', () => {
  const shipped = async () => {
    const writer = replica();
    writer.answer();
    await decide(writer, both);
    void writer.deciding.command(drain);
    await decide(writer, both);
    expect(writer.serves()).toEqual(['eu-central']);
    return writer;
  };

  it('serves by the state that was shipped, and journals nothing while it hears the writer', async () => {
    const writer = await shipped();
    const other = replica({ chosen: () => false });
    other.deciding.follow({}, writer.deciding.encoded(), writer.deciding.scale.mark());
    await decide(other, both);
    expect(other.serves()).toEqual(['eu-central']);
    await decide(other, viewOf([serviceView([0, 0], { 'us-west': [4, 4], 'eu-central': [0, 3] })]));
    expect(other.journalled).toEqual([]);
  });

  it('takes no command, brings nothing back, and journals what it withdraws when the writer is not heard', async () => {
    const writer = replica();
    writer.answer();
    await decide(writer, both);
    const other = replica({ chosen: () => false, hearsWriter: () => false });
    other.answer();
    other.deciding.follow({}, writer.deciding.encoded(), writer.deciding.scale.mark());
    const refused = expect(other.deciding.command(drain)).rejects.toMatchObject({ code: 'command/not-writer' });
    await decide(other, both);
    await refused;
    expect(other.deciding.state.drains).toEqual([]);
    expect(other.serves()).toContain('us-west');
    await decide(other, westUnready);
    expect(other.serves()).toEqual(['eu-central']);
    expect(other.journalled.map(({ inputs }) => inputs.role)).toEqual(['cut-off']);
    for (let s = 0; s < 120; s++) await decide(other, both);
    expect(other.serves()).toEqual(['eu-central']);
  });
});

describe('a state that was shipped while a decision waited for the journal', () => {
  it('is what the decision is made on again, with what was seen and asked', async () => {
    const writer = replica();
    writer.answer();
    await decide(writer, both);
    void writer.deciding.command(drain);
    await decide(writer, both);
    const one = replica();
    one.deciding.decide(both);
    await one.clock.advance(1_000);
    const asked = one.deciding.command({ kind: 'freeze', author: 'sam', reason: '' });
    const decided = one.deciding.decide(both);
    await soon();
    const { atMs, wallMs } = writer.deciding.scale.mark();
    expect(one.deciding.follow({}, writer.deciding.encoded(), { atMs: atMs + 60_000, wallMs })).toMatchObject({
      value: 0,
    });
    one.answer();
    await decided;
    expect((await asked).map(({ kind }) => kind)).toEqual(['freeze']);
    expect(one.deciding.state.drains).toHaveLength(1);
    expect(one.deciding.state.frozen?.author).toBe('sam');
    expect(one.journalled).toHaveLength(2);
  });

  it('is not taken over when it is older than what is being decided', async () => {
    const writer = replica();
    await decide(writer, both);
    const old = { bytes: writer.deciding.encoded(), mark: writer.deciding.scale.mark() };
    const one = replica();
    one.deciding.decide(both);
    await one.clock.advance(5_000);
    const decided = one.deciding.decide(westUnready);
    await soon();
    expect(one.deciding.follow({}, old.bytes, old.mark)).toEqual({ ok: true, value: undefined });
    one.answer();
    await decided;
    expect(one.serves()).toEqual(['eu-central']);
  });
});

describe('a decision that was not made', () => {
  it('gives back what it was told', async () => {
    const one = replica();
    one.deciding.decide(both);
    await one.clock.advance(1_000);
    for (let n = 0; n < 3; n++) {
      one.deciding.probe({
        ...{ member: 'us-west', service: undefined, atMs: one.clock.monotonicMs() + n, ok: false, denied: false },
        ...{ failedAt: 'tcp', status: undefined, ms: undefined, head: undefined },
      });
    }
    const refused = one.deciding.decide(westUnready);
    one.refuse(new IsthmusError('journal/unwritable', 'the disk is full'));
    await expect(refused).rejects.toMatchObject({ code: 'journal/unwritable' });
    one.answer();
    await one.deciding.decide(westUnready);
    expect(one.journalled.at(-1)?.inputs.signals.probes).toHaveLength(3);
  });
});
