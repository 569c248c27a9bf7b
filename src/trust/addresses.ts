/**
 * Which addresses a member may name as its own.
 *
 * The authority registers ranges for each member. Without them a member could send the others' traffic to a metadata service,
 * to a loopback listener or to pods of the reader's own cluster. Refused wherever they are registered: addresses that mean
 * something else to every host that reads them, and IPv6 spellings of IPv4 addresses, which would walk around the ranges.
 */
import { BlockList, isIP } from 'node:net';
import { fail, ok, type Result } from '../core/errors.ts';

const special: readonly (readonly [string, string])[] = [
  ['0.0.0.0/8', 'unspecified'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved'],
  ['100.100.100.200/32', 'a cloud metadata service'],
  ['168.63.129.16/32', 'a cloud metadata service'],
  ['192.0.0.192/32', 'a cloud metadata service'],
  ['fd00:ec2::254/128', 'a cloud metadata service'],
  ['fd20:ce::254/128', 'a cloud metadata service'],
  ['::1/128', 'loopback'],
  ['::/96', 'unspecified or an IPv4 address in IPv6 form'],
  ['::ffff:0:0/96', 'an IPv4 address in IPv6 form'],
  ['64:ff9b::/96', 'an IPv4 address in IPv6 form'],
  ['64:ff9b:1::/48', 'an IPv4 address in IPv6 form'],
  ['2002::/16', 'an IPv4 address in IPv6 form'],
  ['fe80::/10', 'link-local'],
  ['fec0::/10', 'site-local'],
  ['ff00::/8', 'multicast'],
];

/** A compiled set of CIDRs. One list for each family: a mixed one takes mapped IPv6 addresses for IPv4. */
export class AddressRanges {
  readonly #v4 = new BlockList();
  readonly #v6 = new BlockList();

  private constructor() {}

  /** Errors: `trust/invalid`, naming the range. */
  static parse(ranges: readonly string[]): Result<AddressRanges> {
    const list = new AddressRanges();
    for (const range of ranges) {
      const slash = range.indexOf('/');
      const base = range.slice(0, slash);
      const length = range.slice(slash + 1);
      const family = slash < 0 ? 0 : isIP(base);
      const bits = /^(0|[1-9][0-9]{0,2})$/.test(length) ? Number(length) : 999;
      if (family === 0 || base.includes('%') || bits > (family === 4 ? 32 : 128)) {
        return fail('trust/invalid', `address range ${JSON.stringify(range)} is not a CIDR`, {
          hint: 'write it as 10.1.0.0/16 or fd00:1::/48',
        });
      }
      if (family === 4) list.#v4.addSubnet(base, bits, 'ipv4');
      else list.#v6.addSubnet(base, bits, 'ipv6');
    }
    return ok(list);
  }

  contains(address: string): boolean {
    const family = isIP(address);
    if (family === 4) return this.#v4.check(address, 'ipv4');
    return family === 6 && !address.includes('%') && this.#v6.check(address, 'ipv6');
  }
}

const compiled = special.map(([range, meaning]) => {
  const ranges = AddressRanges.parse([range]);
  if (!ranges.ok) throw ranges.error;
  return { ranges: ranges.value, meaning, range };
});

/**
 * Why an address may not be used, undefined when it may.
 * @param granted - the ranges registered for the member that names the address
 * @param ours - this cluster's own ranges, in which no peer may name an address
 */
export const addressProblem = (
  address: string,
  granted: AddressRanges,
  ours: AddressRanges | undefined,
): string | undefined => {
  if (isIP(address) === 0 || address.includes('%')) return 'is not an IP address';
  for (const { ranges, meaning, range } of compiled) {
    if (ranges.contains(address)) return `is ${meaning} (${range})`;
  }
  if (ours?.contains(address)) return "is inside this cluster's own ranges";
  return granted.contains(address) ? undefined : "is outside the member's registered ranges";
};
