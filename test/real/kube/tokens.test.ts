/** Tokens made by a real API server (TokenRequest, bound to pods), reviewed with it and without it. */
import { createSign, generateKeyPairSync } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Clock } from '../../../src/core/clock.ts';
import { openKubeApi } from '../../../src/kube/api.ts';
import { openTokenReviewer, type TokenReviewer } from '../../../src/kube/tokens.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { eventually, world } from './objects.ts';
import { startRelay } from './relay.ts';

let api: ApiServer;
let make: ReturnType<typeof world>;
let podUid: string;
const opened: { close(): unknown }[] = [];

const tokenFor = async (account: string, audience: string, pod?: { name: string; uid: string }): Promise<string> => {
  const answer = await api.call<{ status: { token: string } }>(
    'POST',
    `/api/v1/namespaces/shop/serviceaccounts/${account}/token`,
    {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        audiences: [audience],
        expirationSeconds: 600,
        ...(pod && { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', ...pod } }),
      },
    },
  );
  return answer.status.token;
};

const reviewer = (port: number, more: { saved?: Uint8Array; clock?: Clock } = {}): TokenReviewer => {
  const clock = more.clock ?? realClock;
  const kube = openKubeApi(api.configFor({ port }), realClock);
  const made = openTokenReviewer({
    api: kube,
    clock,
    log: () => {},
    audiences: ['istio-ca'],
    ...(more.saved && { saved: more.saved }),
  });
  opened.push(made, kube);
  return made;
};
const code = (outcome: Promise<unknown>): Promise<string> =>
  outcome.then(
    () => 'accepted',
    (error) => String(error.code),
  );
/** The same signature over other claims. */
const tamper = (token: string, change: (claims: Record<string, unknown>) => void): string => {
  const [head, body, signature] = token.split('.');
  const claims = JSON.parse(Buffer.from(body ?? '', 'base64url').toString('utf8'));
  change(claims);
  return [head, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.');
};

beforeAll(async () => {
  api = await startApiServer();
  make = world(api);
  await make.namespace('shop');
  await make.node('n1');
  for (const account of ['payer', 'other']) {
    await make.create('/api/v1/namespaces/shop/serviceaccounts', { metadata: { name: account } });
  }
  await make.pod('shop', 'pay-1', 'n1', '10.1.0.1', { spec: { serviceAccountName: 'payer' } });
  podUid = (await api.call<{ metadata: { uid: string } }>('GET', '/api/v1/namespaces/shop/pods/pay-1')).metadata.uid;
});
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});
afterAll(async () => {
  await api?.stop();
});

describe('while the API server answers', () => {
  test('a token bound to a pod names its account, pod and node', async () => {
    const token = await tokenFor('payer', 'istio-ca', { name: 'pay-1', uid: podUid });
    const who = await reviewer(api.port).review(token);
    expect(who).toMatchObject({
      namespace: 'shop',
      serviceAccount: 'payer',
      pod: { name: 'pay-1', uid: podUid },
      node: 'n1',
    });
  });

  test('an unbound token has no pod', async () => {
    expect(await reviewer(api.port).review(await tokenFor('other', 'istio-ca'))).toMatchObject({
      pod: undefined,
      node: undefined,
    });
  });

  test.each([
    ['another audience', async () => tokenFor('payer', 'vault')],
    [
      'tampered claims',
      async () =>
        tamper(await tokenFor('payer', 'istio-ca'), (claims) => {
          claims.sub = 'system:serviceaccount:shop:other';
        }),
    ],
    ['garbage', async () => 'not a token'],
    ['nothing', async () => ''],
    ['too long', async () => 'x'.repeat(20_000)],
    ['control characters', async () => 'a\r\nX-Evil: 1'],
  ])('%s is refused', async (_, token) => {
    expect(await code(reviewer(api.port).review(await token()))).toBe('auth/unauthenticated');
  });

  test('a token of a pod that is gone is refused', async () => {
    await make.pod('shop', 'short', 'n1', '10.1.0.2', { spec: { serviceAccountName: 'payer' } });
    const { metadata } = await api.call<{ metadata: { uid: string } }>('GET', '/api/v1/namespaces/shop/pods/short');
    const token = await tokenFor('payer', 'istio-ca', { name: 'short', uid: metadata.uid });
    await make.remove('/api/v1/namespaces/shop/pods/short?gracePeriodSeconds=0');
    await eventually('refused', async () => (await code(reviewer(api.port).review(token))) === 'auth/unauthenticated');
  });
});

describe('while the API server is dark', () => {
  const darkened = async () => {
    const relay = await startRelay(api.port);
    opened.push(relay);
    const mine = await tokenFor('payer', 'istio-ca', { name: 'pay-1', uid: podUid });
    let jumpMs = 0;
    const clock: Clock = {
      ...realClock,
      monotonicMs: () => realClock.monotonicMs() + jumpMs,
      wallMs: () => realClock.wallMs() + jumpMs,
    };
    const review = reviewer(relay.port, { clock });
    await review.review(mine);
    await eventually('keys are fetched', () => review.keysKnown);
    // A fresh token of the same pod, as a kubelet projects it, and others made while there is someone to make them.
    const renewed = await tokenFor('payer', 'istio-ca', { name: 'pay-1', uid: podUid });
    const vault = await tokenFor('payer', 'vault', { name: 'pay-1', uid: podUid });
    const stranger = await tokenFor('other', 'istio-ca');
    const unbound = await tokenFor('payer', 'istio-ca');
    relay.mode('refuse');
    relay.cut();
    return {
      relay,
      review,
      mine,
      renewed,
      vault,
      stranger,
      unbound,
      jump: (ms: number) => {
        jumpMs += ms;
      },
    };
  };

  test('a known identity renews, also after a restart; a new one waits; bad ones are refused', async () => {
    const { relay, review, renewed, vault, stranger, unbound } = await darkened();
    expect(await review.review(renewed)).toMatchObject({ serviceAccount: 'payer', pod: { uid: podUid }, node: 'n1' });
    expect(await code(review.review(stranger))).toBe('kube/unavailable');
    expect(await code(review.review(unbound))).toBe('kube/unavailable');
    expect(await code(review.review(vault))).toBe('auth/unauthenticated');
    const restarted = reviewer(relay.port, { saved: review.snapshot() });
    expect(await code(restarted.review(renewed))).toBe('accepted');
    expect(await code(restarted.review(stranger))).toBe('kube/unavailable');
    const blank = reviewer(relay.port);
    expect(await code(blank.review(renewed))).toBe('kube/unavailable');
    const corrupt = reviewer(relay.port, { saved: review.snapshot().subarray(0, 40) });
    expect(await code(corrupt.review(renewed))).toBe('kube/unavailable');
    relay.mode('pass');
    await eventually('the stranger is confirmed', async () => (await code(review.review(stranger))) === 'accepted');
  });

  test('tampered, forged, unsigned and expired tokens are refused', async () => {
    const { review, renewed, jump } = await darkened();
    expect(
      await code(
        review.review(
          tamper(renewed, (claims) => {
            claims.exp = 4_000_000_000;
          }),
        ),
      ),
    ).toBe('auth/unauthenticated');
    expect(
      await code(
        review.review(
          tamper(renewed, (claims) => {
            claims.iss = 'https://other';
          }),
        ),
      ),
    ).toBe('auth/unauthenticated');
    const [head = '', body = ''] = renewed.split('.');
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const forge = (header: object) => {
      const signed = `${Buffer.from(JSON.stringify(header)).toString('base64url')}.${body}`;
      return `${signed}.${createSign('RSA-SHA256').update(signed).sign(privateKey).toString('base64url')}`;
    };
    const header = JSON.parse(Buffer.from(head, 'base64url').toString('utf8'));
    expect(await code(review.review(forge(header)))).toBe('auth/unauthenticated');
    expect(await code(review.review(forge({ ...header, kid: 'unknown' })))).toBe('auth/unauthenticated');
    expect(await code(review.review(forge({ ...header, alg: 'none' })))).toBe('auth/unauthenticated');
    expect(await code(review.review(forge({ ...header, alg: 'HS256' })))).toBe('auth/unauthenticated');
    expect(await code(review.review(renewed))).toBe('accepted');
    jump(3_600_000);
    expect(await code(review.review(renewed))).toBe('auth/unauthenticated');
  });
});
