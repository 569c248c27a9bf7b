import { expect, it } from 'vitest';
import type { Caller } from '../../../src/ca/service.ts';
import { IssuedCertificates } from '../../../src/controller/issued.ts';
import { parseReport, ReplicaReports, reportText } from '../../../src/controller/replica_reports.ts';
import type { ReplicaReport } from '../../../src/trust/loaded.ts';

const [old, fresh] = ['aa'.repeat(32), 'bb'.repeat(32)] as const;
const before = { roots: [old], issuer: old };
const after = { roots: [old, fresh], issuer: fresh };
const caller = (pod: string, serviceAccount = 'ztunnel'): Caller => ({
  ...{ namespace: 'istio-system', serviceAccount, node: 'node-1' },
  pod: { name: pod, uid: `uid-${pod}` },
});
const issued = (account: string, notAfterMs: number, given = before) => ({
  ...{ identity: `spiffe://cluster.local/ns/shop/sa/${account}`, chain: [], notAfterMs },
  ...given,
});

it('keeps of each holder the newest certificate, and names holders as people know them', () => {
  const all = new IssuedCertificates();
  all.note(issued('cart', 500), caller('z-1'), 0);
  all.note(issued('pay', 900), caller('z-1'), 1);
  all.note(issued('cart', 800, after), caller('z-1'), 2);
  all.note(
    { ...issued('ztunnel', 700), identity: 'spiffe://cluster.local/ns/istio-system/sa/ztunnel' },
    caller('z-1'),
    3,
  );
  const told = all.tell(10, 10);
  expect(told.certificates.map(({ holder, issuer }) => [holder, issuer === fresh])).toEqual([
    ['istio-system/ztunnel in z-1', false],
    ['shop/cart on node-1', true],
    ['shop/pay on node-1', false],
  ]);
  expect([all.uniform(after, 10), all.uniform(after, 850), all.uniform(after, 900)]).toEqual([false, false, true]);
});

it('tells the rest by what it came with, when there are too many', () => {
  const all = new IssuedCertificates();
  for (let i = 0; i < 5; i++) all.note(issued(`a${i}`, 100 + i), caller(`p-${i}`), i);
  const { certificates, earlier } = all.tell(10, 2);
  expect(certificates.map(({ untilMs }) => untilMs)).toEqual([104, 103]);
  expect(earlier).toEqual([expect.objectContaining({ roots: [old], untilMs: 102 })]);
});

it('crosses between replicas as it was', () => {
  const report: ReplicaReport = {
    ...{ replica: 'c-0', atMs: 5, closed: false, gives: after },
    certificates: [{ holder: 'shop/cart in p', pod: 'u', issuedMs: 1, untilMs: 9, ...before }],
    earlier: [{ ...after, untilMs: 7 }],
    gateways: [{ node: 'g~a', seenMs: 3, ...after }],
  };
  expect(parseReport('c-0', reportText(report))).toEqual(report);
  for (const text of ['', '{}', '[]', reportText(report).replace('"version":1', '"version":2')]) {
    expect(parseReport('c-0', text)).toBeUndefined();
  }
});

it('is written by each replica and read by all, and a dark API server only delays it', async () => {
  const maps = new Map<string, Record<string, unknown>>();
  let dark = true;
  const request = async ({
    method,
    path,
    body,
  }: {
    method: string;
    path: string;
    body?: unknown;
  }): Promise<unknown> => {
    if (dark) throw new Error('dark');
    if (method === 'GET') return { items: [...maps.values()] };
    const { metadata } = body as { metadata: { name: string } };
    maps.set(metadata.name, body as Record<string, unknown>);
    expect(path).toContain('/namespaces/isthmus-system/configmaps');
    return body;
  };
  let nowMs = 0;
  const clock = { wallMs: () => nowMs, monotonicMs: () => nowMs, after: () => ({ cancel: () => {} }) };
  const replica = (name: string) =>
    new ReplicaReports({ api: { request }, namespace: 'isthmus-system', replica: name, clock, log: () => {} });
  const [a, b] = [replica('c-0'), replica('c-1')];
  const own: ReplicaReport = {
    ...{ replica: 'c-0', atMs: 1, closed: false, gives: after },
    certificates: [],
    earlier: [],
    gateways: [],
  };
  await a.write(own);
  await b.read();
  expect([b.known, b.all, b.idle]).toEqual([false, [], true]);
  dark = false;
  nowMs = 10;
  await a.write(own);
  await b.read();
  expect([b.known, b.all, b.sinceReadMs]).toEqual([true, [own], 0]);
});
