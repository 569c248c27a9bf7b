/** Which callers have a route of their own, and in which order Envoy looks at them. */
import { describe, expect, it } from 'vitest';
import { answeringFor } from '../../../src/translate/envoy/egress_members.ts';
import type { EgressRule } from '../../../src/trust/egress_policy.ts';
import { parseSource } from '../../../src/trust/egress_source.ts';

const account = (text: string) => parseSource('serviceAccounts', text, 'cluster.local')!;
const rule = (id: string, sources: readonly string[], members?: readonly string[]): EgressRule => ({
  ...{ id, sources: sources.map(account), services: undefined },
  ...(members !== undefined && { members }),
});
const told = (...allow: EgressRule[]) =>
  answeringFor({ deny: [], allow, limits: [] }, 'payments', 'ledger').map(({ source, members }) => [
    `${source?.text.split('/sa/')[1]}${source?.prefix === true ? '*' : ''}`,
    members ?? 'all',
  ]);

describe('callers that some members may answer', () => {
  it('go by the longest text that fits, an exact one before the beginning around it', () => {
    const rules = [
      rule('a', ['shop/checkout-*'], ['eu-central']),
      rule('b', ['shop/checkout-1', 'shop/checkout-'.concat('12')], ['us-west']),
      rule('c', ['shop/checkout-2']),
    ];
    expect(told(...rules)).toEqual([
      ['checkout-12', ['eu-central', 'us-west']],
      ['checkout-1', ['eu-central', 'us-west']],
      ['checkout-2', 'all'],
      ['checkout-*', ['eu-central']],
    ]);
  });

  it('have none where what is around them says the same', () => {
    expect(told(rule('a', ['shop/a*'], ['west']), rule('b', ['shop/ab'], ['west']))).toEqual([['a*', ['west']]]);
    expect(told(rule('a', ['shop/a*']), rule('b', ['shop/ab']))).toEqual([]);
  });
});
