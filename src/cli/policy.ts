/**
 * `isthmus policy check` and `isthmus policy set`: what a FailoverPolicy amounts to, and the cluster set's default.
 *
 * The default is the authority's word, so it is signed here with its key and only carried by the store. Checking is the same code as
 * in the controllers: what is accepted here is accepted there.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { parseDocument } from 'yaml';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { isDnsLabel } from '../core/names.ts';
import type { Store } from '../core/store.ts';
import { defaultPolicy } from '../failover/policy.ts';
import { policyFields, readField } from '../failover/policy_fields.ts';
import { type ParsedPolicy, parsePolicySpec, specText } from '../failover/policy_object.ts';
import { realClock } from '../ops/clock.ts';
import { storeKeys } from '../records/keys.ts';
import { signSetPolicy, verifySetPolicy } from '../records/set_policy.ts';
import { decodeSigned, signatureHolds } from '../records/signed.ts';
import { connectStore } from '../store/etcd.ts';
import { type PassphraseOptions, readAuthority } from './authority_key.ts';
import { type EtcdFlags, flaggedEtcd } from './etcd_access.ts';
import { readNamed } from './files.ts';
import { type Format, print, printData, step, table } from './output.ts';

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

interface ReadPolicy {
  /** `namespace/name`, or `default` for a spec alone. */
  readonly name: string;
  readonly spec: Json;
}

/** A FailoverPolicy object or the spec of one, as YAML or JSON. */
const readPolicy = (path: string): ReadPolicy => {
  const document = parseDocument(readNamed('file', path));
  const [problem] = document.errors;
  if (problem !== undefined) {
    throw new IsthmusError('files/invalid', `"${path}" is not YAML: ${problem.message}`, { hint: 'correct the file' });
  }
  const value: unknown = document.toJS();
  if (!isObject(value)) {
    throw new IsthmusError('files/invalid', `"${path}" holds no object`, {
      hint: 'write a FailoverPolicy, or the spec of one',
    });
  }
  if (value['kind'] === undefined && value['apiVersion'] === undefined) return { name: 'default', spec: value };
  if (value['kind'] !== 'FailoverPolicy') {
    throw new IsthmusError('files/invalid', `"${path}" holds a ${String(value['kind'])}, not a FailoverPolicy`, {
      hint: 'write a FailoverPolicy, or the spec of one',
    });
  }
  const metadata = isObject(value['metadata']) ? value['metadata'] : {};
  const name = `${String(metadata['namespace'] ?? 'default')}/${String(metadata['name'] ?? '')}`;
  return { name, spec: isObject(value['spec']) ? value['spec'] : {} };
};

const parse = ({ name, spec }: ReadPolicy): ParsedPolicy => {
  const parsed = parsePolicySpec(spec, defaultPolicy, name);
  if (!parsed.ok) throw parsed.error;
  return parsed.value;
};

const show = (read: ReadPolicy, { policy, targets, given }: ParsedPolicy, output: Format): void => {
  const values = policyFields.map((field) => ({
    field: field.path,
    value: specText(field.type, readField(field, policy)),
    from: given.has(field.path) ? 'the file' : 'the default',
  }));
  if (output === 'json' || output === 'yaml') printData(output, { name: read.name, targets, values });
  else {
    const shown = output === 'wide' ? values : values.filter(({ field }) => given.has(field));
    const rows = shown.map(({ field, value, from }) => [field, value, from]);
    print(table(['FIELD', 'VALUE', 'FROM'], rows));
  }
};

/** Prints what a policy sets; with `-o wide` also what it leaves to the built-in default. Fails with everything that is wrong. */
export const policyCheck = (path: string, options: { readonly output: Format }): void => {
  const read = readPolicy(path);
  show(read, parse(read), options.output);
};

export interface PolicySetOptions extends PassphraseOptions, EtcdFlags {
  readonly clusterset: string;
  readonly authority: string;
  readonly output: Format;
}

/** Another authority's word would only be refused by everybody. A cluster set without members has none to ask. */
const mustBeTheAuthority = async (store: Store, clusterset: string, key: KeyObject): Promise<void> => {
  const { entries } = await store.list(storeKeys(clusterset).membersPrefix);
  const own = entries.some(({ value }) => {
    const signed = decodeSigned(value, limits.membershipBytesMax);
    return signed.ok && signatureHolds('membership', signed.value, key);
  });
  if (own || entries.length === 0) return;
  throw new IsthmusError('policy/signature', `--authority is not the authority of cluster set ${clusterset}`, {
    hint: 'name the authority-key.pem that signed its members',
  });
};

/** Signs a spec and puts it in the place of the one that stands, whatever member wrote meanwhile. */
export const policySet = async (path: string, options: PolicySetOptions): Promise<void> => {
  const { clusterset } = options;
  if (!isDnsLabel(clusterset)) {
    throw new IsthmusError('usage/invalid', `--clusterset "${clusterset}" is not a DNS label`, {
      hint: 'use a-z, 0-9 and -, at most 63',
    });
  }
  const read = readPolicy(path);
  if (read.name !== 'default') {
    throw new IsthmusError('usage/invalid', `"${path}" is the object ${read.name}, not a spec alone`, {
      hint: 'leave out apiVersion, kind and metadata: the cluster set has one default, without targets',
    });
  }
  const parsed = parse(read);
  const key = await readAuthority('--authority', options.authority, options);
  const store = connectStore(flaggedEtcd(options));
  try {
    await step('etcd answers, and its version is safe', () => store.check());
    await step('the key is the authority’s', () => mustBeTheAuthority(store, clusterset, createPublicKey(key)));
    await step(`the default of cluster set ${clusterset}`, async () => {
      const { policy: at } = storeKeys(clusterset);
      const standing = (await store.list(at)).entries.find((entry) => entry.key === at);
      const context = { clusterset, authorityKey: createPublicKey(key), highWater: undefined };
      const before = standing === undefined ? undefined : verifySetPolicy(standing.value, context);
      // Higher than what stands; and, should that have been deleted, higher than what a reader remembers.
      const least = before?.ok === true ? before.value.mark.sequence + 1n : 0n;
      const sequence = [least, BigInt(realClock.wallMs())].reduce((a, b) => (a > b ? a : b));
      const signed = signSetPolicy({ clusterset, sequence, spec: read.spec }, key);
      if (!signed.ok) throw signed.error;
      const done = await store.commit({
        compare: [{ key: at, modRevision: standing?.modRevision ?? 0n }],
        puts: [{ key: at, value: signed.value }],
        deletes: [],
      });
      if (done.ok) return;
      throw new IsthmusError('store/conflict', 'somebody else set the policy at the same moment', {
        hint: 'look at what they set, and run this again',
      });
    });
  } finally {
    await store.close();
  }
  show(read, parsed, options.output);
  process.stderr.write('every controller takes it up when it sees it; "{}" goes back to the built-in default\n');
};
