/**
 * Whether one record of a member may be used.
 *
 * A manifest proves that the member wrote the record; the membership says what a member may write. A record that oversteps is
 * refused alone: its last good value stays in use, or there is none, and the member's other records are not touched.
 */
import { fail, IsthmusError, ok, type Result } from '../core/errors.ts';
import type { ServiceKey } from '../core/names.ts';
import type { KeysRecord } from '../gen/isthmus/v1/keys_pb.ts';
import type {
  GatewaysRecord,
  GrantsRecord,
  LoadedRecord,
  ReadersRecord,
  ServiceRecord,
  StatePart,
  TrustRecord,
  VantageRecord,
  VerdictsRecord,
  VotesRecord,
} from '../gen/isthmus/v1/records_pb.ts';
import { codec } from '../records/codec.ts';
import { decodeStatePart } from '../records/verdicts.ts';
import { intern, shown } from '../records/wire.ts';
import { AddressRanges, addressProblem } from '../trust/addresses.ts';
import { checkBundle } from '../trust/bundle.ts';
import { type Grants, grantsOf } from '../trust/grants.ts';
import type { Member } from '../trust/membership.ts';

/** What a record is, by its key relative to the member's prefix. Other kinds belong to later versions. */
export type RecordKind =
  | { readonly kind: 'service'; readonly key: ServiceKey }
  | { readonly kind: 'grants'; readonly reader: string }
  | { readonly kind: 'statePart'; readonly part: number }
  | { readonly kind: SingleKind | 'other' };

/** Of which a member has one each. */
export type SingleKind = 'gateways' | 'trust' | 'vantage' | 'votes' | 'verdicts' | 'keys' | 'loaded' | 'readers';

const servicesPrefix = 'services/';
const grantsPrefix = 'grants/';
const partsPrefix = 'verdicts/';
const singleKinds: ReadonlyMap<string, RecordKind> = new Map(
  (['gateways', 'trust', 'vantage', 'votes', 'verdicts', 'keys', 'loaded', 'readers'] as const).map((kind) => [
    kind,
    { kind },
  ]),
);
const other: RecordKind = { kind: 'other' };

export const kindOf = (relativeKey: string): RecordKind => {
  if (relativeKey.startsWith(servicesPrefix)) {
    return { kind: 'service', key: intern(relativeKey.slice(servicesPrefix.length)) };
  }
  const single = singleKinds.get(relativeKey);
  if (single !== undefined) return single;
  if (relativeKey.startsWith(grantsPrefix)) return { kind: 'grants', reader: relativeKey.slice(grantsPrefix.length) };
  if (!relativeKey.startsWith(partsPrefix)) return other;
  const part = relativeKey.slice(partsPrefix.length);
  return /^(0|[1-9]\d?)$/.test(part) ? { kind: 'statePart', part: Number(part) } : other;
};

export interface AdmissionContext {
  /** Our own member name: of grants only those to us are read, of shipped states only our own. */
  readonly self: string;
  readonly trustDomain: string;
  /** `namespace/account` under which gateways answer in every cluster of the set. */
  readonly gatewayAccount: string;
  /** This cluster's ranges as they are now, in which no peer may name an address. Undefined when the records are our own. */
  ownRanges(): AddressRanges | undefined;
}

const sameRoots = (a: TrustRecord, b: TrustRecord): boolean =>
  a.roots.length === b.roots.length && a.roots.every((root, i) => Buffer.compare(root, b.roots[i]!) === 0);

const within = (some: TrustRecord, all: TrustRecord): boolean =>
  some.roots.every((root) => all.roots.some((other) => Buffer.compare(root, other) === 0));

/** What is in use may be what was left of that very bundle when a root was taken back: then the whole of it may come again. */
const staleBundle = (next: TrustRecord, inUse: TrustRecord): string | undefined =>
  next.sequence > inUse.sequence || sameRoots(next, inUse) || (next.sequence === inUse.sequence && within(inUse, next))
    ? undefined
    : `its sequence ${next.sequence} is not above ${inUse.sequence}, which is in use with other roots`;

/** The checks of one member, compiled from its membership. */
export class Admission {
  readonly #member: Member;
  readonly #grants: Grants;
  readonly #ranges: AddressRanges;
  readonly #context: AdmissionContext;

  constructor(member: Member, context: AdmissionContext) {
    const ranges = AddressRanges.parse(member.addressRanges);
    if (!ranges.ok) throw ranges.error;
    this.#member = member;
    this.#grants = grantsOf(member);
    this.#ranges = ranges.value;
    this.#context = context;
  }

  get self(): string {
    return this.#context.self;
  }

  service(key: ServiceKey, bytes: Uint8Array): Result<ServiceRecord> {
    const namespace = key.slice(0, key.indexOf('/'));
    // Before the record is read: what is not granted costs nothing.
    if (!this.#grants.namespace(namespace)) {
      return this.#refuse(
        'record/not-granted',
        `services/${key}`,
        `namespace ${shown(namespace)} is not granted to it`,
      );
    }
    const record = this.#named(`services/${key}`, codec.service.decode(bytes));
    if (!record.ok) return record;
    const { namespace: ns, name, accounts } = record.value;
    const same = key.length === ns.length + 1 + name.length && key.startsWith(ns) && key.endsWith(name);
    if (!same || key[ns.length] !== '/') {
      return this.#refuse('record/malformed', `services/${key}`, `holds a record of ${ns}/${name}`);
    }
    if (accounts.length > 0 && !accounts.some((account) => this.#grants.account(account))) {
      return this.#refuse('record/not-granted', `services/${key}`, `account ${accounts[0]} is not granted to it`);
    }
    return record;
  }

  /** Said of a record that names accounts its member may not use: those are left out of what readers accept. */
  remark(record: ServiceRecord): IsthmusError | undefined {
    if (record.accounts.every((account) => this.#grants.account(account))) return undefined;
    const ungranted = record.accounts.filter((account) => !this.#grants.account(account));
    const key = `services/${record.namespace}/${record.name}`;
    const message = `${this.#member.name}, ${key}: accounts not granted to it are left out: ${ungranted.join(', ')}`;
    return new IsthmusError('record/not-granted', message, { subject: { member: this.#member.name, key } });
  }

  gateways(bytes: Uint8Array): Result<GatewaysRecord> {
    const record = this.#named('gateways', codec.gateways.decode(bytes));
    if (!record.ok) return record;
    const { account, gateways } = record.value;
    if (account !== this.#context.gatewayAccount && !this.#grants.account(account)) {
      return this.#refuse('record/not-granted', 'gateways', `account ${account} is not granted to it`);
    }
    for (const { id, address } of gateways) {
      const problem = addressProblem(address, this.#ranges, this.#context.ownRanges());
      if (problem !== undefined) {
        return this.#refuse('record/address-refused', 'gateways', `address ${address} of gateway ${id} ${problem}`);
      }
    }
    return record;
  }

  /**
   * @param inUse - the bundle that is used now: an older one does not follow it
   * Errors: `trust/root-refused`, `trust/stale`, `trust/invalid`, `record/…`; the bundle in use stays.
   */
  trust(bytes: Uint8Array, inUse?: TrustRecord): Result<TrustRecord> {
    const record = this.#named('trust', codec.trust.decode(bytes));
    if (!record.ok) return record;
    const { trustDomain, roots } = record.value;
    if (trustDomain !== this.#context.trustDomain) {
      const why = `trust domain ${trustDomain}, ours is ${this.#context.trustDomain}: one cluster set has one`;
      return this.#refuse('trust/invalid', 'trust', why);
    }
    const bundle = checkBundle(roots, this.#member);
    if (!bundle.ok) return bundle;
    const stale = inUse === undefined ? undefined : staleBundle(record.value, inUse);
    return stale === undefined ? ok(record.value) : this.#refuse('trust/stale', 'trust', stale);
  }

  /**
   * What is left of a bundle that was in use when the authority has named the roots anew: a root that it does not name goes at once,
   * the others stay. Undefined when none is left.
   */
  trustLeft(bytes: Uint8Array): TrustRecord | undefined {
    const record = codec.trust.decode(bytes);
    if (!record.ok) return undefined;
    const roots = record.value.roots.filter((root) => checkBundle([root], this.#member).ok);
    return roots.length === 0 ? undefined : { ...record.value, roots };
  }

  loaded(bytes: Uint8Array): Result<LoadedRecord> {
    return this.#named('loaded', codec.loaded.decode(bytes));
  }

  vantage(bytes: Uint8Array): Result<VantageRecord> {
    return this.#named('vantage', codec.vantage.decode(bytes));
  }

  /** @returns undefined for what another reader is granted */
  grants(reader: string, bytes: Uint8Array): Result<GrantsRecord | undefined> {
    if (reader !== this.#context.self) return ok(undefined);
    const key = `grants/${reader}`;
    const record = this.#named(key, codec.grants.decode(bytes));
    if (!record.ok || record.value.reader === reader) return record;
    return this.#refuse('record/malformed', key, `holds what is granted to ${record.value.reader}`);
  }

  /** Nobody is asked about itself: an accusation of the voter's own region is left out. */
  votes(bytes: Uint8Array): Result<VotesRecord> {
    const record = this.#named('votes', codec.votes.decode(bytes));
    if (!record.ok) return record;
    const accused = record.value.accused.filter((region) => region !== this.#member.region);
    return ok(accused.length === record.value.accused.length ? record.value : { ...record.value, accused });
  }

  /** Said of votes that accuse the voter's own region. */
  voteRemark(bytes: Uint8Array): IsthmusError | undefined {
    const record = codec.votes.decode(bytes);
    const { name, region } = this.#member;
    if (!record.ok || !record.value.accused.includes(region)) return undefined;
    const message = `${name}, votes: it accuses its own region ${region}: that is left out`;
    return new IsthmusError('record/not-granted', message, { subject: { member: name, key: 'votes' } });
  }

  verdicts(bytes: Uint8Array): Result<VerdictsRecord> {
    return this.#named('verdicts', codec.verdicts.decode(bytes));
  }

  /** How far it follows the keys of others; its own chain is read as it stands in the store (`succession.ts`). */
  keys(bytes: Uint8Array): Result<KeysRecord> {
    return this.#named('keys', codec.keys.decode(bytes));
  }

  readers(bytes: Uint8Array): Result<ReadersRecord> {
    return this.#named('readers', codec.readers.decode(bytes));
  }

  /** @returns undefined for a part of another member's state: that is for its own replicas */
  statePart(part: number, bytes: Uint8Array): Result<StatePart | undefined> {
    if (this.#member.name !== this.#context.self) return ok(undefined);
    return this.#named(`verdicts/${part}`, decodeStatePart(bytes));
  }

  /** The codec does not know whose record it read. */
  #named<T>(key: string, result: Result<T>): Result<T> {
    if (result.ok) return result;
    const { code, message, hint } = result.error;
    return {
      ok: false,
      error: new IsthmusError(code, `${this.#member.name}, ${key}: ${message}`, {
        ...(hint === undefined ? {} : { hint }),
        subject: { member: this.#member.name, key },
        cause: result.error,
      }),
    };
  }

  #refuse(
    code: 'record/malformed' | 'record/not-granted' | 'record/address-refused' | 'trust/invalid' | 'trust/stale',
    key: string,
    why: string,
  ): Result<never> {
    const name = this.#member.name;
    return fail(code, `${name}, ${key}: ${why}`, {
      hint: 'the last good value, if any, stays in use',
      subject: { member: name, key },
    });
  }
}
