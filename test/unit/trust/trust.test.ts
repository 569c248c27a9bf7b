import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AddressRanges, addressProblem } from '../../../src/trust/addresses.ts';
import { parseBundle, parseRoot } from '../../../src/trust/bundle.ts';
import { acceptedIds, grantsOf } from '../../../src/trust/grants.ts';
import { memberId, parseMemberId, parseWorkloadId, workloadId } from '../../../src/trust/spiffe.ts';
import { label } from '../records/arbitrary.ts';
import { certificate, rsa, testMember } from './certificates.ts';

const ranges = (...list: string[]): AddressRanges => {
  const parsed = AddressRanges.parse(list);
  if (!parsed.ok) throw parsed.error;
  return parsed.value;
};

describe('SPIFFE ids', () => {
  it('come back from what they were built of', () => {
    fc.assert(
      fc.property(label, label, label, (trustDomain, namespace, account) => {
        const parsed = parseWorkloadId(workloadId(trustDomain, namespace, account));
        expect(parsed.ok && parsed.value).toEqual({ trustDomain, namespace, account });
        const cluster = parseMemberId(memberId(trustDomain, account));
        expect(cluster.ok && cluster.value).toEqual({ clusterset: trustDomain, member: account });
      }),
    );
  });

  it.each([
    'spiffe://td/ns/a/sa/b/c',
    'spiffe://td/ns/a/sa/',
    'spiffe://td/ns//sa/b',
    'spiffe://TD/ns/a/sa/b',
    'SPIFFE://td/ns/a/sa/b',
    'spiffe://td:80/ns/a/sa/b',
    'spiffe://u@td/ns/a/sa/b',
    'spiffe://td/ns/a/sa/b?x',
    'spiffe://td/ns/a/sa/%62',
    'spiffe://td/ns/../sa/b',
    'https://td/ns/a/sa/b',
    '',
    `spiffe://td/ns/a/sa/${'b'.repeat(3000)}`,
  ])('are refused when they are anything else: %s', (id) => {
    expect(parseWorkloadId(id).ok).toBe(false);
  });
});

describe('addresses', () => {
  const everything = ranges('0.0.0.0/0', '::/0');
  it.each([
    ['127.0.0.1', 'loopback'],
    ['::1', 'loopback'],
    ['0:0:0:0:0:0:0:1', 'loopback'],
    ['0.0.0.0', 'unspecified'],
    ['::', 'unspecified'],
    ['169.254.169.254', 'link-local'],
    ['fe80::1', 'link-local'],
    ['224.0.0.1', 'multicast'],
    ['ff02::1', 'multicast'],
    ['255.255.255.255', 'reserved'],
    ['fd00:ec2::254', 'metadata'],
    ['::ffff:10.0.0.1', 'IPv6 form'],
    ['::ffff:a00:1', 'IPv6 form'],
    ['64:ff9b::a00:1', 'IPv6 form'],
    ['::10.0.0.1', 'IPv6 form'],
    ['10.0.0.1%eth0', 'not an IP address'],
    ['fe80::1%eth0', 'not an IP address'],
    ['010.0.0.1', 'not an IP address'],
    ['gateway.example', 'not an IP address'],
  ])('%s is refused even where everything is granted', (address, why) => {
    expect(addressProblem(address, everything, undefined)).toContain(why);
  });

  it('must lie in the ranges of the member and outside ours', () => {
    const granted = ranges('10.2.0.0/16', 'fd00:2::/32');
    const ours = ranges('10.2.9.0/24');
    expect(addressProblem('10.2.0.5', granted, ours)).toBeUndefined();
    expect(addressProblem('fd00:2::5', granted, ours)).toBeUndefined();
    expect(addressProblem('10.3.0.5', granted, ours)).toContain('outside');
    expect(addressProblem('10.2.9.5', granted, ours)).toContain('own ranges');
    expect(addressProblem('10.2.0.5', ranges(), ours)).toContain('outside');
  });

  it.each([
    '10.0.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/08',
    '::/129',
    'x/8',
    '10.0/8',
    'fe80::%1/10',
  ])('ranges that are none are refused: %s', (range) => {
    const result = AddressRanges.parse([range]);
    expect(!result.ok && result.error.message).toContain(range);
  });
});

describe('trust bundles', () => {
  it('take EC and RSA roots', async () => {
    const roots = [await certificate('a'), await certificate('b', { algorithm: rsa(2048) })];
    expect(parseBundle(roots, 'trust of us-west').ok).toBe(true);
  });

  it('refuse what is no root, naming which one', async () => {
    const good = await certificate('a');
    const why = (der: Uint8Array): string => {
      const result = parseRoot(der, 'root 1');
      return result.ok ? 'ok' : `${result.error.code} ${result.error.message}`;
    };
    expect(why(await certificate('leaf', { ca: false }))).toContain('not a CA');
    expect(why(await certificate('weak', { algorithm: rsa(1024) }))).toContain('1024 bits');
    expect(why(Uint8Array.from([...good, 0]))).toContain('trust/root-refused root 1: not');
    expect(
      why(
        Buffer.from(
          `-----BEGIN CERTIFICATE-----\n${Buffer.from(good).toString('base64')}\n-----END CERTIFICATE-----\n`,
        ),
      ),
    ).toContain('in DER');
    expect(why(new Uint8Array(9_000))).toContain('9000 bytes');
    const bundle = (roots: Uint8Array[]) => {
      const result = parseBundle(roots, 'trust of us-west');
      return result.ok ? 'ok' : result.error.message;
    };
    expect(bundle([])).toContain('no root left');
    expect(bundle([good, good])).toBe('trust of us-west: root 1 is the same as root 0');
    expect(bundle(Array.from({ length: 9 }, () => good))).toContain('9 roots');
  });
});

describe('grants', () => {
  it('bind names and identities alike', async () => {
    const { member } = await testMember('us-west', {
      namespaces: ['shop'],
      serviceAccounts: ['shop/checkout', 'pay/card'],
    });
    const grants = grantsOf(member);
    expect([grants.namespace('shop'), grants.namespace('pay'), grants.namespace('*')]).toEqual([true, false, false]);
    expect(grants.account('shop/checkout')).toBe(true);
    expect(grants.account('shop/admin')).toBe(false);
    expect(grants.account('pay/card')).toBe(false);
    const all = (await testMember('us-east')).member;
    const exporters = [
      { member, accounts: ['shop/checkout', 'shop/admin', 'kube-system/root'] },
      { member: all, accounts: ['shop/b', 'shop/checkout'] },
    ];
    expect(acceptedIds('corp', exporters)).toEqual(['spiffe://corp/ns/shop/sa/b', 'spiffe://corp/ns/shop/sa/checkout']);
  });
});
