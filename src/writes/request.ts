/**
 * A transaction as members send it, read strictly: comparisons of revisions, puts of keys, deletions of single keys, and in the other
 * branch nothing but reading what was compared.
 *
 * etcd's own API can do far more with one request (ranges, nested transactions, leases, former values), and each of these is a way to
 * read or to harm. So what is forwarded is not the request that came but one made anew of what is here; a field that is not known is
 * an error, never passed on.
 */
import { fail, type IsthmusError, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { StoreTxn } from '../core/store.ts';
import { decoding } from '../records/fields.ts';
import { malformed, shown, WireReader as Wire, type WireReader } from '../records/wire.ts';

interface Parsed {
  readonly compare: { readonly key: string; readonly modRevision: bigint }[];
  readonly puts: { readonly key: string; readonly value: Uint8Array }[];
  readonly deletes: string[];
  readonly reads: string[];
}

const revisionMax = 2n ** 63n - 1n;
const modified = 2;
const printable = /^[\x21-\x7e]+$/;

const unknown = (what: string, field: number): IsthmusError => malformed(`${what}: field ${field} is not served here`);

const keyOf = (reader: WireReader): string => {
  const key = Buffer.from(reader.once('key').bytes('key', limits.writeKeyLengthMax)).toString('latin1');
  if (!printable.test(key)) throw malformed(`key ${shown(key)} is not of printable characters`);
  return key;
};

const readCompare = (reader: WireReader, into: Parsed): void => {
  let key = '';
  let target = 0;
  let modRevision: bigint | undefined;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) reader.once('result').uint32('result', 0);
    else if (field === 2) target = reader.once('target').uint32('target', modified);
    else if (field === 3) key = keyOf(reader);
    else if (field === 6) modRevision = reader.once('mod_revision').uint64('mod_revision', revisionMax);
    else throw unknown('compare', field);
  }
  if (target !== modified || key === '') throw malformed('compare: only revisions of single keys are compared here');
  into.compare.push({ key, modRevision: modRevision ?? 0n });
};

const readPut = (reader: WireReader, into: Parsed): void => {
  let key = '';
  let value: Uint8Array = new Uint8Array();
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) key = keyOf(reader);
    else if (field === 2) value = reader.once('value').bytes('value', limits.writeBytesMax);
    else throw unknown('put', field);
  }
  if (key === '') throw malformed('put: it has no key');
  into.puts.push({ key, value });
};

/** Of one key, whatever else such a request could ask for. */
const readKey =
  (what: string) =>
  (reader: WireReader): string => {
    let key = '';
    for (let field = reader.next(); field !== 0; field = reader.next()) {
      if (field === 1) key = keyOf(reader);
      else throw unknown(what, field);
    }
    if (key === '') throw malformed(`${what}: it has no key`);
    return key;
  };

const readOperation = (reader: WireReader, into: Parsed, branch: 'success' | 'failure'): void => {
  let operations = 0;
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    operations++;
    if (branch === 'success' && field === 2) reader.once('put').message('put', (r) => readPut(r, into));
    else if (branch === 'success' && field === 3)
      into.deletes.push(reader.once('delete').message('delete', readKey('delete')));
    else if (branch === 'failure' && field === 1)
      into.reads.push(reader.once('range').message('range', readKey('range')));
    else throw unknown(branch, field);
  }
  if (operations !== 1) throw malformed(`${branch}: ${operations} requests in one operation`);
};

const parse = (bytes: Uint8Array): Parsed => {
  const into: Parsed = { compare: [], puts: [], deletes: [], reads: [] };
  const reader = new Wire(bytes, 'txn');
  const bounded = (what: string, count: number): void => {
    if (count > limits.txnOpsMax) throw malformed(`txn.${what}: more than ${limits.txnOpsMax} entries`);
  };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) reader.message('compare', (r) => readCompare(r, into));
    else if (field === 2) reader.message('success', (r) => readOperation(r, into, 'success'));
    else if (field === 3) reader.message('failure', (r) => readOperation(r, into, 'failure'));
    else throw unknown('txn', field);
    // What is compared is answered, and costs nobody's allowance: a publisher compares its manifest.
    if (into.compare.length > limits.writeComparesMax) {
      throw malformed(`txn.compare: more than ${limits.writeComparesMax} entries`);
    }
    bounded('success', into.puts.length + into.deletes.length);
    bounded('failure', into.reads.length);
  }
  return into;
};

const hint = 'send comparisons of revisions, puts and deletions of single keys; see docs/STORE.md';

/** Errors: `store/malformed`, `store/too-large`. Whose keys these are is for others to see. */
export const parseWrite = (bytes: Uint8Array): Result<StoreTxn> => {
  const parsed = decoding('txn', bytes, limits.writeBytesMax, () => parse(bytes));
  if (!parsed.ok) {
    const code = parsed.error.code === 'record/too-large' ? 'store/too-large' : 'store/malformed';
    return fail(code, parsed.error.message, { hint });
  }
  const { compare, puts, deletes, reads } = parsed.value;
  const written = [...puts.map(({ key }) => key), ...deletes];
  if (written.length === 0) return fail('store/malformed', 'txn: it writes nothing; read straight from etcd', { hint });
  const compared = new Set(compare.map(({ key }) => key));
  for (const [what, keys] of [
    ['write', written],
    ['compare', compare.map(({ key }) => key)],
    ['read', reads],
  ] as const) {
    if (new Set(keys).size !== keys.length)
      return fail('store/malformed', `txn: a key to ${what} is named twice`, { hint });
  }
  const other = reads.find((key) => !compared.has(key));
  if (other !== undefined) {
    return fail('store/malformed', `txn.failure: reads ${shown(other)}, which is not compared`, { hint });
  }
  return ok({ compare, puts, deletes });
};
