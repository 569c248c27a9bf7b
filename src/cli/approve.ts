/**
 * `isthmus approve`: the authority's half of a join. It waits for the request of a token, checks it, uses the token up, and answers with a
 * signed membership and an etcd certificate.
 *
 * The token is used up on this desk's disk before anything else happens, and membership and answer are written in one transaction that
 * compares what was read: of two that approve, on one desk or on two, one wins. A request that does not prove the secret uses nothing
 * up: anybody who writes to etcd could end every token that way.
 */
import { randomBytes } from 'node:crypto';
import { issueEtcdClient } from '../ca/etcd_request.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { StoreEntry } from '../core/store.ts';
import { realClock } from '../ops/clock.ts';
import { refusalText } from '../records/joining.ts';
import { storeKeys } from '../records/keys.ts';
import { shortFingerprint } from '../trust/bundle.ts';
import { agreedTerms, type Request, requestDigest, signAnswer, type Terms, verifyRequest } from '../trust/joining.ts';
import { claimsOf, type Member, signMembership } from '../trust/membership.ts';
import { checkTokenTime, tokenUser } from '../trust/tokens.ts';
import type { DeskOptions } from './authority_desk.ts';
import type { PassphraseOptions } from './authority_key.ts';
import { confirm, realTerminal, type Terminal } from './confirm.ts';
import { type Desk, isMember, type Known, membersOf, nextSequence, openDesk, othersOf } from './desk.ts';
import { type LedgerToken, usedError } from './desk_ledger.ts';
import { readNamed } from './files.ts';
import { step } from './output.ts';

export interface ApproveSettings {
  /** When to stop waiting for a request. */
  readonly untilMs: number;
  /** Take what the cluster says of itself where the token left it open. */
  readonly acceptProposed: boolean;
  /** How long the user of the token may still read the answer. */
  readonly collectMs?: number;
  readonly terminal?: Terminal;
}

const pollMs = 200;
const yearS = 365 * 86_400;
const forgeriesMax = 20;
const pause = (ms: number): Promise<void> => new Promise((resolve) => realClock.after(ms, resolve));

const entryAt = async (desk: Desk, key: string): Promise<StoreEntry | undefined> =>
  (await desk.store.list(key)).entries.find((entry) => entry.key === key);

/** The request that proves the secret; others are noted and taken away. @throws IsthmusError token/expired, join/refused */
const awaitRequest = async (
  desk: Desk,
  token: LedgerToken,
  untilMs: number,
): Promise<{ readonly entry: StoreEntry; readonly request: Request }> => {
  const key = storeKeys(desk.clusterset).joinRequest(token.id);
  for (let forgeries = 0; ; ) {
    const entry = await entryAt(desk, key);
    const inTime = checkTokenTime(token, realClock.wallMs());
    if (!inTime.ok) throw inTime.error;
    if (entry !== undefined) {
      const verified = verifyRequest(entry.value, token);
      if (verified.ok) return { entry, request: verified.value };
      if (verified.error.code !== 'join/refused') throw new Proven(entry, verified.error);
      note(desk, token, verified.error);
      if (++forgeries >= forgeriesMax) throw verified.error;
      await desk.store.commit({ compare: [{ key, modRevision: entry.modRevision }], puts: [], deletes: [key] });
    }
    if (realClock.wallMs() >= untilMs) {
      throw new IsthmusError('join/timeout', `nobody asked to join with token ${token.id} yet`, {
        hint: `run "isthmus join --token-file …" there, then: isthmus approve ${token.id}`,
        subject: { token: token.id },
      });
    }
    await pause(pollMs);
  }
};

/** Refused although its sender has the token: the sender is told, and the token is used up. */
class Proven extends Error {
  readonly entry: StoreEntry;
  readonly error: IsthmusError;
  constructor(entry: StoreEntry, error: IsthmusError) {
    super(error.message);
    this.entry = entry;
    this.error = error;
  }
}

const note = (desk: Desk, token: LedgerToken, error: IsthmusError): void =>
  desk.ledger.audit({
    ...{ action: 'join', outcome: 'refused', cluster: token.cluster, token: token.id },
    ...{ code: error.code, detail: error.message },
  });

const complete = (terms: Terms): void => {
  const missing = (['region', 'network'] as const).filter((name) => terms[name] === '');
  const none = terms.addressRanges.length === 0 ? ['address-range'] : [];
  if (missing.length + none.length === 0) return;
  throw new IsthmusError('join/refused', `neither token nor cluster says: ${[...missing, ...none].join(', ')}`, {
    hint: `make a token with ${[...missing, ...none].map((name) => `--${name}`).join(' ')}`,
  });
};

const agree = async (token: LedgerToken, request: Request, settings: ApproveSettings): Promise<Terms> => {
  const { terms, open } = agreedTerms(token.terms, request.proposed);
  complete(terms);
  if (open.length === 0) return terms;
  process.stderr.write(`the cluster says of itself: ${open.join(', ')}\n`);
  if (settings.acceptProposed) return terms;
  await confirm(
    `let ${token.cluster} in with this`,
    token.cluster,
    'look at it, then run it with --accept-proposed; or make a token that says these itself',
    settings.terminal ?? realTerminal,
  );
  return terms;
};

/** Keys that somebody else has, or had, let nobody else in. @throws IsthmusError member/duplicate */
const mustBeAlone = (member: Member, known: ReadonlyMap<string, Known>): void => {
  const own = known.get(member.name);
  if (own !== undefined && isMember(own)) {
    throw new IsthmusError('member/duplicate', `"${member.name}" is a member already`, {
      hint: `isthmus leave --cluster ${member.name}, or another name`,
    });
  }
  const claims = claimsOf(member).filter(({ what }) => what !== 'name');
  for (const [name, other] of known) {
    if (other.member === undefined) continue;
    const theirs = new Set(claimsOf(other.member).map(({ claim }) => claim));
    const taken = claims.find(({ claim }) => theirs.has(claim));
    if (taken !== undefined) {
      throw new IsthmusError('member/duplicate', `${member.name} brings the ${taken.what} of ${name}`, {
        hint: 'whoever made this request has keys of another cluster: find out how',
      });
    }
  }
};

const memberOf = (desk: Desk, token: LedgerToken, request: Request, terms: Terms, known: Known | undefined): Member => {
  const nowMs = realClock.wallMs();
  return {
    clusterset: desk.clusterset,
    name: token.cluster,
    sequence: nextSequence(known),
    ...terms,
    federationCa: request.federationCa,
    recordKey: request.recordKey,
    notBeforeMs: nowMs - limits.membershipBackdateMs,
    notAfterMs: nowMs + 10 * yearS * 1_000,
  };
};

const issue = (desk: Desk, token: LedgerToken, request: Request) => {
  const { ca, caKey } = desk.file.etcd;
  return issueEtcdClient(
    { cert: readNamed('etcd.ca', ca), key: readNamed('etcd.caKey', caKey) },
    request.etcdRequest,
    { commonName: token.cluster, ttlS: yearS, nowMs: realClock.wallMs() },
    (bytes) => new Uint8Array(randomBytes(bytes)),
  );
};

const answered = (token: LedgerToken): IsthmusError => usedError(token.id, 'somebody else answered it');

/** Everything that follows from a request that holds. */
const letIn = async (
  desk: Desk,
  token: LedgerToken,
  { entry, request }: { readonly entry: StoreEntry; readonly request: Request },
  settings: ApproveSettings,
): Promise<Member> => {
  const keys = storeKeys(desk.clusterset);
  const known = await membersOf(desk.store, desk.clusterset, desk.authority);
  const terms = await agree(token, request, settings);
  const member = memberOf(desk, token, request, terms, known.get(token.cluster));
  mustBeAlone(member, known);
  const membership = signMembership(member, desk.authority);
  if (!membership.ok) throw membership.error;
  const { cert, serial } = await issue(desk, token, request);
  const { writes, gateways } = desk.file.etcd;
  const writeEndpoints = writes === 'gateways' ? gateways : [];
  const approval = { refused: '', membership: membership.value, etcdCert: cert, writeEndpoints };
  const answer = signAnswer(token, entry.value, approval, desk.authority);
  if (!answer.ok) throw answer.error;
  desk.ledger.use(token.id, `approved request ${Buffer.from(requestDigest(entry.value)).toString('hex').slice(0, 16)}`);
  desk.ledger.certificate(token.cluster, serial);
  await step(`etcd user and role of ${token.cluster}`, () =>
    desk.admin.ensureMembers(desk.clusterset, [token.cluster], othersOf(known, token.cluster), desk.file.etcd.writes),
  );
  await step(`membership of ${token.cluster}, signed`, async () => {
    const at = { member: keys.member(token.cluster), answer: keys.joinAnswer(token.id) };
    const done = await desk.store.commit({
      compare: [
        { key: keys.joinRequest(token.id), modRevision: entry.modRevision },
        { key: at.answer, modRevision: 0n },
        { key: at.member, modRevision: known.get(token.cluster)?.modRevision ?? 0n },
      ],
      puts: [
        { key: at.member, value: membership.value },
        { key: at.answer, value: answer.value },
      ],
      deletes: [],
    });
    if (!done.ok) throw answered(token);
  });
  return member;
};

/** Tells the cluster why not, as far as etcd still can. */
const refuse = async (desk: Desk, token: LedgerToken, entry: StoreEntry, error: IsthmusError): Promise<void> => {
  const keys = storeKeys(desk.clusterset);
  const refused = refusalText(`${error.code}: ${error.message}`);
  const signed = signAnswer(
    token,
    entry.value,
    { refused, membership: new Uint8Array(), etcdCert: '' },
    desk.authority,
  );
  if (!signed.ok) throw signed.error;
  const key = keys.joinAnswer(token.id);
  await desk.store.commit({ compare: [{ key, modRevision: 0n }], puts: [{ key, value: signed.value }], deletes: [] });
};

/** The cluster has read its answer, or had its time; then nothing of the token is left in etcd. */
const collected = async (desk: Desk, token: LedgerToken, withinMs: number): Promise<void> => {
  const { joinDone, joinPrefix, joinRequest } = storeKeys(desk.clusterset);
  const endMs = realClock.monotonicMs() + withinMs;
  while (realClock.monotonicMs() < endMs && (await entryAt(desk, joinDone(token.id))) === undefined)
    await pause(pollMs);
  await desk.admin.removeJoiner(token.id);
  const { entries } = await desk.store.list(joinPrefix(token.id));
  // Who came second left a note beside the request.
  const later = entries.filter(({ key }) => key.startsWith(`${joinRequest(token.id)}/`));
  if (later.length > 0) note(desk, token, usedError(token.id, `${later.length} more tried to join with it`));
  const deletes = [...entries.map(({ key }) => key), storeKeys(desk.clusterset).writeNote(tokenUser(token.id))];
  await desk.store.commit({ compare: [], puts: [], deletes });
};

/** Waits for the request of a token and answers it. @throws IsthmusError token/…, join/…, member/duplicate, … */
export const approveWhenAsked = async (desk: Desk, token: LedgerToken, settings: ApproveSettings): Promise<Member> => {
  const used = desk.ledger.used(token.id);
  let entry: StoreEntry | undefined;
  try {
    if (used !== undefined) throw usedError(token.id, used);
    const asked = await step(`${token.cluster} asks to join, and proves that it has the token`, () =>
      awaitRequest(desk, token, settings.untilMs),
    );
    entry = asked.entry;
    const member = await letIn(desk, token, asked, settings);
    desk.ledger.audit({
      ...{ action: 'join', outcome: 'done', cluster: token.cluster, token: token.id },
      detail: `sequence ${member.sequence}, ranges ${member.addressRanges.join(' ')}, namespaces ${member.namespaces.join(' ') || 'none'}, roots ${member.trustRoots?.map(shortFingerprint).join(' ') || 'not registered'}`,
    });
    await step(`${token.cluster} took its answer, and the token's user is gone`, () =>
      collected(desk, token, settings.collectMs ?? 30_000),
    );
    return member;
  } catch (thrown) {
    const error = thrown instanceof Proven ? thrown.error : thrown;
    if (thrown instanceof Proven) entry = thrown.entry;
    if (error instanceof IsthmusError) await turnAway(desk, token, entry, error);
    throw error;
  }
};

/** A person who does not confirm, or etcd in the middle of it, ends nothing: it may be tried again. */
const turnAway = async (
  desk: Desk,
  token: LedgerToken,
  entry: StoreEntry | undefined,
  error: IsthmusError,
): Promise<void> => {
  const { code } = error;
  if (code === 'join/timeout' || code === 'command/confirm' || code.startsWith('store/')) return;
  note(desk, token, error);
  if (entry !== undefined && code !== 'token/used' && desk.ledger.used(token.id) === undefined) {
    desk.ledger.use(token.id, `refused: ${code}`);
    await refuse(desk, token, entry, error);
    await collected(desk, token, 2_000);
  } else if (code === 'token/expired') await desk.admin.removeJoiner(token.id);
};

export interface ApproveOptions extends DeskOptions, PassphraseOptions {
  readonly acceptProposed: boolean;
  readonly wait: boolean;
}

/** @param id - a token's; without one, the one that is open */
export const approve = async (id: string | undefined, options: ApproveOptions): Promise<void> => {
  const desk = await openDesk(options);
  try {
    const token = id === undefined ? onlyOpen(desk) : desk.ledger.token(id);
    const untilMs = options.wait ? token.expiresMs : realClock.wallMs();
    const member = await approveWhenAsked(desk, token, { untilMs, acceptProposed: options.acceptProposed });
    process.stderr.write(`${member.name} is a member of ${desk.clusterset}\n`);
  } finally {
    await desk.close();
  }
};

const onlyOpen = (desk: Desk): LedgerToken => {
  const open = desk.ledger.tokens().filter(({ id, expiresMs }) => {
    return expiresMs > realClock.wallMs() && desk.ledger.used(id) === undefined;
  });
  if (open.length === 1) return open[0]!;
  throw new IsthmusError('usage/invalid', `${open.length} tokens are open, so one must be named`, {
    hint: open.length === 0 ? 'isthmus token create' : `one of ${open.map((t) => `${t.id} (${t.cluster})`).join(', ')}`,
  });
};
