/**
 * The manifest: one signature for everything a member has published.
 *
 * A record by itself proves nothing; it is used once a manifest covers the whole set. So one signature a tick is enough,
 * and what an attacker deletes, withholds or replays shows as a root that does not match.
 */
import type { KeyObject } from 'node:crypto';
import { toBinary } from '@bufbuild/protobuf';
import { fail, ok, type Result } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { type JournalHead, type Manifest, ManifestSchema } from '../gen/isthmus/v1/records_pb.ts';
import { criticalField, decoding, numberMax, readCritical, want, wantKnown, wantLabel } from './fields.ts';
import { decodeSigned, encodeSigned, signatureHolds } from './signed.ts';
import { shown, WireReader } from './wire.ts';

const rootBytes = 32;
const chainName = /^[0-9a-f]{16}$/;

const parseHead = (reader: WireReader, of: 'journal' | 'audit'): JournalHead => {
  const head: JournalHead = { $typeName: 'isthmus.v1.JournalHead', chain: '', sequence: 0n, hash: new Uint8Array() };
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) head.chain = reader.once('chain').text('chain', 16);
    else if (field === 2) head.sequence = reader.once('sequence').uint64('sequence', numberMax);
    else if (field === 3) head.hash = reader.once('hash').bytes('hash', rootBytes);
    else reader.skip();
  }
  want(chainName.test(head.chain), `manifest.${of}.chain`, head.chain, '16 hexadecimal digits');
  want(head.sequence > 0n, `manifest.${of}.sequence`, head.sequence, 'above 0');
  want(head.hash.length === rootBytes, `manifest.${of}.hash`, head.hash.length, '32 bytes');
  return head;
};

const parse = (bytes: Uint8Array): Manifest => {
  const manifest: Manifest = {
    $typeName: 'isthmus.v1.Manifest',
    clusterset: '',
    member: '',
    epoch: 0n,
    sequence: 0n,
    root: new Uint8Array(),
    count: 0,
    wallMs: 0n,
    shuttingDown: false,
    critical: [],
  };
  const reader = new WireReader(bytes, 'manifest');
  for (let field = reader.next(); field !== 0; field = reader.next()) {
    if (field === 1) manifest.clusterset = reader.once('clusterset').text('clusterset', limits.nameLengthMax);
    else if (field === 2) manifest.member = reader.once('member').text('member', limits.nameLengthMax);
    else if (field === 3) manifest.epoch = reader.once('epoch').uint64('epoch', numberMax);
    else if (field === 4) manifest.sequence = reader.once('sequence').uint64('sequence', numberMax);
    else if (field === 5) manifest.root = reader.once('root').bytes('root', rootBytes);
    else if (field === 6) manifest.count = reader.once('count').uint32('count', limits.recordsPerMemberMax);
    else if (field === 7) manifest.wallMs = reader.once('wall_ms').uint64('wall_ms', numberMax);
    else if (field === 8) manifest.shuttingDown = reader.once('shutting_down').bool('shutting_down');
    else if (field === 9) manifest.journal = reader.once('journal').message('journal', (r) => parseHead(r, 'journal'));
    else if (field === 10) manifest.audit = reader.once('audit').message('audit', (r) => parseHead(r, 'audit'));
    else if (field === criticalField) readCritical(reader, manifest.critical);
    else reader.skip();
  }
  wantKnown('manifest', manifest.critical, 10);
  wantLabel('manifest.clusterset', manifest.clusterset);
  wantLabel('manifest.member', manifest.member);
  want(manifest.epoch > 0n, 'manifest.epoch', manifest.epoch, 'above 0');
  want(manifest.root.length === rootBytes, 'manifest.root', manifest.root.length, '32 bytes');
  return manifest;
};

/** For what is already trusted or signed elsewhere; what comes from the store goes through `verifyManifest`. */
export const decodeManifest = (bytes: Uint8Array): Result<Manifest> =>
  decoding('manifest', bytes, limits.manifestBytesMax, () => parse(bytes));

/** @param key - the member's Ed25519 private record key */
export const signManifest = (manifest: Manifest, key: KeyObject): Result<Uint8Array> => {
  const payload = toBinary(ManifestSchema, manifest);
  const back = decodeManifest(payload);
  return back.ok ? encodeSigned('manifest', payload, limits.manifestBytesMax, key) : back;
};

/** Who must have signed a manifest. */
export interface ManifestSigner {
  readonly clusterset: string;
  readonly member: string;
  readonly key: KeyObject;
}

/** A manifest that its member has signed. Whether it is new enough and covers the records is for the caller to see. */
export const verifyManifest = (bytes: Uint8Array, signer: ManifestSigner): Result<Manifest> => {
  const signed = decodeSigned(bytes, limits.manifestBytesMax);
  if (!signed.ok) return unreadable(signed.error);
  if (!signatureHolds('manifest', signed.value, signer.key)) {
    return fail('manifest/signature', `manifest of ${signer.member}: the signature is not by its record key`, {
      hint: 'compare the record key in the membership with the one the controller signs with',
      subject: { member: signer.member },
    });
  }
  const manifest = decodeManifest(signed.value.payload);
  if (!manifest.ok) return manifest.error.code === 'record/frozen' ? manifest : unreadable(manifest.error);
  const { clusterset, member } = manifest.value;
  if (clusterset !== signer.clusterset || member !== signer.member) {
    return fail(
      'manifest/signature',
      `manifest of ${signer.member} names ${shown(member)} of cluster set ${shown(clusterset)}`,
      { subject: { member: signer.member } },
    );
  }
  return ok(manifest.value);
};

const unreadable = (cause: Error): Result<never> => fail('manifest/malformed', cause.message, { cause });
