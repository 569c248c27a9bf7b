/**
 * Whom a Kubernetes token speaks for: asked of the API server (TokenReview), remembered for at most a minute.
 *
 * While the API server is dark, a token is checked against its signing keys, which were fetched when it was not; and only an
 * identity that the API server has confirmed before is accepted so. Known workloads keep renewing their certificates; a new
 * pod, whose existence nobody can confirm, waits.
 */
import { createHash, type JsonWebKey } from 'node:crypto';
import type { Clock, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { KubeApi, Log } from './api.ts';
import { flag, isRecord, type Json, count as number, record, records, text, texts } from './json.ts';
import { type KeySet, parseSubject, parseToken, type TokenIdentity, verifyToken } from './jwt.ts';

export type { TokenIdentity } from './jwt.ts';

export interface TokenReviewerOptions {
  readonly api: Pick<KubeApi, 'request'>;
  readonly clock: Clock;
  readonly log: Log;
  /** A token must be for one of these. */
  readonly audiences: readonly string[];
  /** What `snapshot` returned before a restart. Unreadable bytes are ignored with a warning. */
  readonly saved?: Uint8Array;
  /** The snapshot changed: keys rotated, or an identity was confirmed for the first time. */
  onChange?(): void;
}

export interface TokenReviewer {
  /**
   * @throws IsthmusError 'auth/unauthenticated': the token is bad. 'kube/unavailable': nobody can say now, try again.
   * 'kube/denied': this controller may not create TokenReviews.
   */
  review(token: string): Promise<TokenIdentity>;
  /** Signing keys and confirmed identities, to be kept over a restart. No secrets, but integrity matters: keep it under a MAC. */
  snapshot(): Uint8Array;
  /** True once signing keys are known. */
  readonly keysKnown: boolean;
  close(): void;
}

interface Cached {
  readonly outcome: Promise<TokenIdentity>;
  untilMs: number;
}

const requestTimeoutMs = 2_000;
const darkMs = 2_000;
const refusedMs = 5_000;
const refreshMs = 300_000;
const retryMs = 5_000;
const inFlightMax = 256;
const keysMax = 64;

const refused = (reason: string): IsthmusError =>
  new IsthmusError('auth/unauthenticated', `the token is refused: ${reason}`, {
    hint: 'present a service account token of this cluster, projected for the audience of this controller',
  });

const idOf = (who: TokenIdentity): string =>
  [who.namespace, who.serviceAccount, who.accountUid, who.pod?.uid ?? '', who.node ?? ''].join('/');

const isKey = (key: Json): boolean => text(key, 'kty') !== '' && text(key, 'kid') !== '' && key.d === undefined;

/** A map that forgets its oldest entries. */
const remember = <V>(map: Map<string, V>, key: string, value: V): void => {
  map.delete(key);
  map.set(key, value);
  for (const oldest of map.keys()) {
    if (map.size <= limits.tokenCacheEntriesMax) break;
    map.delete(oldest);
  }
};

/** The answer of a TokenReview as an identity. */
const identityOf = (answer: unknown, audiences: readonly string[]): TokenIdentity => {
  const status = isRecord(answer) ? record(answer, 'status') : {};
  if (flag(status, 'authenticated') !== true) throw refused(text(status, 'error') || 'the API server does not know it');
  // A server that knows no audiences returns none; then nobody has checked them.
  if (!texts(status, 'audiences').some((audience) => audiences.includes(audience))) {
    throw refused(`it is not for the audience ${audiences.join(' or ')}`);
  }
  const user = record(status, 'user');
  const subject = parseSubject(text(user, 'username'));
  if (subject === undefined) throw refused('it is not of a service account');
  const extra = (name: string) => texts(record(user, 'extra'), `authentication.kubernetes.io/${name}`)[0] ?? '';
  const uid = extra('pod-uid');
  return {
    ...subject,
    accountUid: text(user, 'uid'),
    pod: uid === '' ? undefined : { name: extra('pod-name'), uid },
    node: extra('node-name') || undefined,
  };
};

const restore = (saved: Uint8Array | undefined, log: Log): { set: KeySet; seen: Map<string, true> } => {
  const nothing = { set: { issuer: '', keys: [] }, seen: new Map<string, true>() };
  if (saved === undefined || saved.length === 0) return nothing;
  try {
    const value: unknown = JSON.parse(Buffer.from(saved).toString('utf8'));
    if (!isRecord(value) || value.version !== 1) throw new Error('unknown version');
    const keys = records(value, 'keys').filter(isKey).slice(0, keysMax) as readonly JsonWebKey[];
    const seen = new Map(texts(value, 'seen').map((id) => [id, true] as const));
    return { set: { issuer: text(value, 'issuer'), keys }, seen };
  } catch (error) {
    log('warn', 'saved token keys cannot be read; starting without', { error });
    return nothing;
  }
};

export const openTokenReviewer = (options: TokenReviewerOptions): TokenReviewer => {
  const { api, clock, log, audiences } = options;
  const restored = restore(options.saved, log);
  let set = restored.set;
  const seen = restored.seen;
  const cache = new Map<string, Cached>();
  let darkUntil = Number.NEGATIVE_INFINITY;
  let inFlight = 0;
  let fetchedAt = Number.NEGATIVE_INFINITY;
  let fetching = false;
  let told = '';
  let timer: Timer | undefined;
  let closed = false;

  const refresh = async (): Promise<void> => {
    if (fetching || closed) return;
    fetching = true;
    timer?.cancel();
    let againMs = refreshMs;
    try {
      const [about, jwks] = await Promise.all([
        api.request({ method: 'GET', path: '/.well-known/openid-configuration' }),
        api.request({ method: 'GET', path: '/openid/v1/jwks' }),
      ]);
      const issuer = isRecord(about) ? text(about, 'issuer') : '';
      const keys = isRecord(jwks)
        ? (records(jwks, 'keys').filter(isKey).slice(0, keysMax) as readonly JsonWebKey[])
        : [];
      if (issuer === '' || keys.length === 0) throw new Error('the API server publishes no issuer or no keys');
      const changed = JSON.stringify(set) !== JSON.stringify({ issuer, keys });
      set = { issuer, keys };
      fetchedAt = clock.monotonicMs();
      if (changed) options.onChange?.();
    } catch (error) {
      againMs = retryMs;
      const cause = error instanceof IsthmusError ? error.code : 'malformed';
      const quiet = cause === told || cause === 'kube/unavailable';
      log(quiet ? 'debug' : 'warn', 'the token signing keys could not be fetched', { error });
      told = cause;
    } finally {
      fetching = false;
      if (!closed) timer = clock.after(againMs, () => void refresh());
    }
  };
  void refresh();

  const confirm = (token: string, who: TokenIdentity): void => {
    const id = idOf(who);
    if (!seen.has(id)) {
      remember(seen, id, true);
      options.onChange?.();
    } else remember(seen, id, true);
    const kid = text(parseToken(token)?.header ?? {}, 'kid');
    const known = set.keys.some((key) => key.kid === kid);
    if (!known && clock.monotonicMs() - fetchedAt > retryMs) void refresh();
  };

  const offline = (token: string, cause: IsthmusError): TokenIdentity => {
    if (set.keys.length === 0) throw cause;
    const result = verifyToken(token, set, audiences, clock.wallMs());
    if (!result.ok) throw result.error;
    if (seen.has(idOf(result.value))) return result.value;
    const { namespace, serviceAccount } = result.value;
    throw new IsthmusError(
      'kube/unavailable',
      `the API server is dark, and ${namespace}/${serviceAccount} was never confirmed by it in this pod`,
      { hint: 'it is confirmed as soon as the API server answers', subject: { namespace, serviceAccount }, cause },
    );
  };

  const ask = async (token: string): Promise<TokenIdentity> => {
    const dark = new IsthmusError('kube/unavailable', 'the API server did not answer a moment ago');
    if (clock.monotonicMs() < darkUntil) return offline(token, dark);
    if (inFlight >= inFlightMax)
      throw new IsthmusError('kube/unavailable', `${inFlightMax} token reviews are under way`);
    inFlight++;
    try {
      const answer = await api.request({
        method: 'POST',
        path: '/apis/authentication.k8s.io/v1/tokenreviews',
        body: { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token, audiences } },
        timeoutMs: requestTimeoutMs,
      });
      darkUntil = Number.NEGATIVE_INFINITY;
      const who = identityOf(answer, audiences);
      confirm(token, who);
      return who;
    } catch (error) {
      if (!(error instanceof IsthmusError) || error.code !== 'kube/unavailable') throw error;
      darkUntil = clock.monotonicMs() + darkMs;
      return offline(token, error);
    } finally {
      inFlight--;
    }
  };

  const review = (token: string): Promise<TokenIdentity> => {
    const key = createHash('sha256').update(token).digest('base64');
    const known = cache.get(key);
    const now = clock.monotonicMs();
    if (known !== undefined && now < known.untilMs) return known.outcome;
    const entry: Cached = { outcome: ask(token), untilMs: now + requestTimeoutMs * 2 };
    remember(cache, key, entry);
    entry.outcome.then(
      () => {
        const expires = number(parseToken(token)?.claims ?? {}, 'exp');
        const leftMs = expires === undefined ? limits.tokenCacheMs : expires * 1_000 - clock.wallMs();
        entry.untilMs = clock.monotonicMs() + Math.min(limits.tokenCacheMs, leftMs);
      },
      (error) => {
        // A bad token stays bad for a moment; anything else is asked again.
        const bad = error instanceof IsthmusError && error.code === 'auth/unauthenticated';
        entry.untilMs = clock.monotonicMs() + (bad ? refusedMs : 0);
      },
    );
    return entry.outcome;
  };

  return {
    review: async (token) => {
      if (token === '') throw refused('there is none');
      if (Buffer.byteLength(token) > limits.tokenBytesMax)
        throw refused(`it is larger than ${limits.tokenBytesMax} bytes`);
      return review(token);
    },
    snapshot: () =>
      Buffer.from(JSON.stringify({ version: 1, issuer: set.issuer, keys: set.keys, seen: [...seen.keys()] })),
    get keysKnown() {
      return set.keys.length > 0;
    },
    close: () => {
      closed = true;
      timer?.cancel();
    },
  };
};
