/**
 * The cluster set's default FailoverPolicy, signed by the authority. Here it is bytes under a signature; what they ask for is
 * read by `failover/policy_object.ts`, the same way as the objects of a cluster.
 */
import { createHash, type KeyObject } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type SetPolicy, SetPolicySchema } from '../gen/isthmus/v1/records_pb.ts';
import { criticalField, decoding, encoded, numberMax, readCritical, want, wantKnown, wantLabel } from './fields.ts';
import { decodeSigned, encodeSigned, signatureHolds } from './signed.ts';
import { malformed, WireReader } from './wire.ts';

const parse = (bytes: Uint8Array): SetPolicy => {
  const policy: SetPolicy = {
    $typeName: 'isthmus.v1.SetPolicy',
    clusterset: '',
    sequence: 0n,
    spec: new Uint8Array(),
    critical: [],
  };
  const reader = new WireReader(bytes, 'policy');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) policy.clusterset = reader.once('clusterset').text('clusterset', limits.nameLengthMax);
    else if (field === 2) policy.sequence = reader.once('sequence').uint64('sequence', numberMax);
    else if (field === 3) policy.spec = reader.once('spec').bytes('spec', limits.setPolicyBytesMax);
    else if (field === criticalField) readCritical(reader, policy.critical);
    else reader.skip();
  }
  wantKnown('policy', policy.critical, 3);
  wantLabel('policy.clusterset', policy.clusterset);
  want(policy.sequence > 0n, 'policy.sequence', policy.sequence, 'above 0');
  specOf(policy.spec);
  return policy;
};

const specOf = (bytes: Uint8Array): Readonly<Record<string, unknown>> => {
  let spec: unknown;
  try {
    spec = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw malformed(`policy.spec: not JSON: ${cause instanceof Error ? cause.message.slice(0, 120) : 'unreadable'}`);
  }
  if (typeof spec !== 'object' || spec === null || Array.isArray(spec))
    throw malformed('policy.spec: not a JSON object');
  return spec as Readonly<Record<string, unknown>>;
};

export const decodeSetPolicy = (bytes: Uint8Array): Result<SetPolicy> =>
  decoding('policy', bytes, limits.setPolicyBytesMax + 1024, () => parse(bytes));

const envelopeMax = limits.setPolicyBytesMax + 1024;

/**
 * The bytes to store. Whether the spec is one is for the caller to check first, with `parsePolicySpec`.
 * @param authorityKey - Ed25519, private
 */
export const signSetPolicy = (
  policy: { readonly clusterset: string; readonly sequence: bigint; readonly spec: Readonly<Record<string, unknown>> },
  authorityKey: KeyObject,
): Result<Uint8Array> => {
  const spec = new TextEncoder().encode(JSON.stringify(policy.spec));
  const { clusterset, sequence } = policy;
  const message: SetPolicy = { $typeName: 'isthmus.v1.SetPolicy', clusterset, sequence, spec, critical: [] };
  const payload = encoded(toBinary(SetPolicySchema, message), decodeSetPolicy);
  return payload.ok ? encodeSigned('policy', payload.value, envelopeMax, authorityKey) : payload;
};

/** The newest one that a reader has seen: no older one is taken, and no other one of the same number. */
export interface SetPolicyMark {
  readonly sequence: bigint;
  /** SHA-256 of the signed payload, hexadecimal. */
  readonly digest: string;
}

export interface VerifiedSetPolicy {
  readonly mark: SetPolicyMark;
  readonly spec: Readonly<Record<string, unknown>>;
}

/** Errors: `policy/signature`, `policy/stale`, `record/…`. */
export const verifySetPolicy = (
  bytes: Uint8Array,
  context: {
    readonly clusterset: string;
    readonly authorityKey: KeyObject;
    readonly highWater: SetPolicyMark | undefined;
  },
): Result<VerifiedSetPolicy> => {
  const signed = decodeSigned(bytes, envelopeMax);
  if (!signed.ok) return signed;
  if (!signatureHolds('policy', signed.value, context.authorityKey)) {
    return fail('policy/signature', `the cluster set's policy is not signed by its authority`, {
      hint: 'the last one stays in force; sign it with the key that "isthmus init" made',
    });
  }
  const policy = decodeSetPolicy(signed.value.payload);
  if (!policy.ok) return policy;
  const { clusterset, sequence, spec } = policy.value;
  if (clusterset !== context.clusterset) {
    return fail('policy/signature', `the cluster set's policy is for cluster set ${clusterset}`);
  }
  const mark = { sequence, digest: createHash('sha256').update(signed.value.payload).digest('hex') };
  const seen = context.highWater;
  if (seen !== undefined && (sequence < seen.sequence || (sequence === seen.sequence && mark.digest !== seen.digest))) {
    const what = sequence === seen.sequence ? 'differs from the one already seen' : 'is older than one seen';
    return fail('policy/stale', `the cluster set's policy, sequence ${sequence}, ${what} (${seen.sequence})`, {
      hint: 'the last one stays in force; sign it again with a higher sequence',
    });
  }
  return ok({ mark, spec: specOf(spec) });
};
