import { describe, expect, it } from 'vitest';
import { discreet } from '../../../src/controller/discretion.ts';
import type { Decided } from '../../../src/federation/decided.ts';
import type { MemberView } from '../../../src/federation/view.ts';
import type { StatePart } from '../../../src/gen/isthmus/v1/records_pb.ts';
import { openState, sealState } from '../../../src/records/sealed_state.ts';
import { someService } from '../records/arbitrary.ts';
import { memberView } from './shop.ts';

const secret = new Uint8Array(32).fill(7);
const [self, peer] = ['us-east', 'us-west'];
const open = Buffer.from('{"services":{}}');
const decided: Decided = {
  summary: [undefined, 'shop/cart', 'shop/secret'].flatMap((service) =>
    [self, peer].map((member) => ({ service, member, state: 'suspect', reason: 'Probes' })),
  ),
  frozen: false,
  state: open,
  atMs: 1,
  wallMs: 2,
};
const records = (...names: string[]) =>
  new Map(names.map((name) => [`shop/${name}`, someService({ namespace: 'shop', name })]));
const part = (data: Uint8Array): StatePart => ({ $typeName: 'isthmus.v1.StatePart', data, critical: [] });
const told = (own: Partial<MemberView>, other: Partial<MemberView>, named: readonly string[] = []) => {
  const members = new Map([
    [self, memberView(self, own)],
    [peer, memberView(peer, other)],
  ]);
  return discreet(decided, { self, members, named: new Map(named.map((key) => [key, true])), secret });
};
const says = ({ summary }: Decided) => summary.map(({ service, member }) => `${service ?? '*'} ${member}`);
const everywhere = [`* ${self}`, `* ${peer}`];

describe('what everybody is told of decisions', () => {
  it('is all of it, while nothing is for some alone', () => {
    expect(told({}, { services: records('cart', 'secret') })).toBe(decided);
  });

  it('leaves out an export that names its readers, and the state is sealed', () => {
    const made = told({ services: records('cart') }, { services: records('cart') }, ['shop/secret']);
    expect(says(made)).toEqual([...everywhere, `shop/cart ${self}`, `shop/cart ${peer}`]);
    const opened = openState([secret], made.state!);
    expect(opened.ok && Buffer.from(opened.value).equals(open)).toBe(true);
    expect(Buffer.from(made.state!).includes('services')).toBe(false);
  });

  it('leaves out what a member publishes for us alone', () => {
    const other = { services: records('cart', 'secret'), forUs: records('secret') };
    const both = [...everywhere, `shop/cart ${self}`, `shop/cart ${peer}`];
    expect(says(told({ services: records('cart') }, other))).toEqual(both);
    // Of ours that is for all, everybody knows the name.
    expect(says(told({ services: records('cart', 'secret') }, other))).toEqual([...both, `shop/secret ${self}`]);
  });

  it('stays discreet after all that was withdrawn: the state still knows of it', () => {
    const stateParts = new Map([[0, part(sealState(secret, open))]]);
    const made = told({ stateParts }, { services: records('cart') });
    expect(says(made)).not.toContain(`shop/secret ${peer}`);
    expect(openState([], made.state!).ok).toBe(false);
    expect(told({ stateParts: new Map([[0, part(open)]]) }, {})).toBe(decided);
  });
});
