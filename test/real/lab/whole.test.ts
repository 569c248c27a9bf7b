/** The whole lab, small: two clusters joined by our own commands, one controller and one gateway each, a service that moves. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Load, threeClusters } from '../../../scenarios/lab/lab.ts';
import { clusterset } from '../../../scenarios/lab/local/bootstrap.ts';
import { LocalLab } from '../../../scenarios/lab/local/lab.ts';
import { clusterOf } from '../../../scenarios/lab/outcome.ts';
import { parseAccess } from '../../../scenarios/lab/ztunnel-rig.ts';
import type { StatusReport } from '../../../src/core/report.ts';

const namespace = 'shop';
let lab: LocalLab;
let load: Load;

/** Who answered the last ten calls. */
const answering = async () => {
  const last = (await load.calls()).slice(-10);
  return last.length < 10
    ? 'too few'
    : [...new Set(last.map((call) => (call.ok ? clusterOf(call.answeredBy) : call.error)))].join();
};

beforeAll(async () => {
  const clusters = threeClusters.slice(0, 2);
  lab = await LocalLab.start({ clusters, controllers: 1, gateways: 1, report: console.log });
  await Promise.all(
    lab.clusters.map((cluster) => cluster.deploy({ namespace, name: 'checkout', replicas: 1, exported: 'export' })),
  );
  await lab.cluster('us-east').deploy({ namespace, name: 'client', replicas: 1, kind: 'client' });
  load = await lab.cluster('us-east').load({ namespace, client: 'client', service: 'shop/checkout', perSecond: 10 });
});

afterAll(async () => {
  const { prefix } = lab.run;
  await lab.down();
  expect(readdirSync('/run/netns').filter((name) => name.startsWith(prefix))).toEqual([]);
});

test('a call is answered at home', async () => {
  await expect.poll(answering, { timeout: 20_000 }).toBe('us-east');
});

test('without pods at home the other cluster answers, and each workload knew the other', async () => {
  await lab.cluster('us-east').scale(namespace, 'checkout', 0);
  await expect.poll(answering, { timeout: 20_000 }).toBe('us-west');
  const entries = async () =>
    (await lab.cluster('us-west').log(namespace, 'checkout-0', 'ztunnel'))
      .split('\n')
      .flatMap((line) => parseAccess(line) ?? []);
  await expect.poll(async () => (await entries()).length, { timeout: 10_000 }).toBeGreaterThan(0);
  const [entry] = await entries();
  expect(entry!.srcIdentity).toBe('spiffe://cluster.local/ns/shop/sa/client');
  expect(entry!.dstIdentity).toBe('spiffe://cluster.local/ns/shop/sa/checkout');
});

test('the border audits of both tell who called, what answered, and hold', async () => {
  const audit = async (cluster: string, ...args: string[]) => {
    const { code, stdout } = await lab.cluster(cluster).isthmus(['audit', ...args, '-o', 'json']);
    return { code, ...(JSON.parse(stdout) as { entries: { connection: unknown }[] }) };
  };
  const list = (cluster: string, ...args: string[]) =>
    audit(cluster, 'list', '--service', 'shop/checkout', '--result', 'closed', ...args);
  const client = 'spiffe://cluster.local/ns/shop/sa/client';
  const first = async (cluster: string, side: string) => (await list(cluster, '--side', side)).entries[0]?.connection;
  await expect
    .poll(() => first('us-east', 'egress'), { timeout: 20_000 })
    .toMatchObject({
      source: client,
      member: 'us-west',
      status: 200,
    });
  await expect
    .poll(() => first('us-west', 'ingress'), { timeout: 20_000 })
    .toMatchObject({ source: 'us-east', claim: client, status: 200 });
  for (const cluster of ['us-east', 'us-west'])
    expect(await audit(cluster, 'verify')).toMatchObject({ code: 0, holds: true });
});

test('calls go on while the controller is dead, and it comes back', async () => {
  const place = { kind: 'pod', cluster: 'us-east', namespace: 'isthmus-system', name: 'isthmus-controller-0' } as const;
  const fault = await lab.inject({ kind: 'kill', target: { place, process: 'controller' } });
  const before = (await load.calls()).length;
  await expect.poll(async () => (await load.calls()).length, { timeout: 10_000 }).toBeGreaterThan(before + 20);
  expect(await answering()).toBe('us-west');
  await fault.lift();
  await expect
    .poll(
      () =>
        lab
          .cluster('us-east')
          .pods('isthmus-system')
          .every(({ ready }) => ready),
      { timeout: 40_000 },
    )
    .toBe(true);
});

test('who is put out stays out where etcd does not say so: a gateway of a peer does, and a restart in the dark forgets nothing', async () => {
  const [east, west] = [lab.cluster('us-east'), lab.cluster('us-west')];
  const { ca, caKey, rootCert, rootKey } = lab.etcd.files;
  const authority = join(lab.run.dir, 'bundles');
  const must = async (...args: string[]) => {
    const { code, stderr } = await west.isthmus(args);
    expect([0, 79], stderr).toContain(code);
  };
  const members = async (cluster: typeof east) => {
    const { stdout } = await cluster.isthmus(['status', '-o', 'json']);
    return (JSON.parse(stdout) as StatusReport).peers.map(({ member }) => member).join();
  };
  await must(
    ...['init', '--no-passphrase', '--clusterset', clusterset, '--out', authority, '--etcd', ...lab.etcd.endpoints],
    ...['--etcd-ca', ca, '--etcd-ca-key', caKey, '--etcd-cert', rootCert, '--etcd-key', rootKey],
    ...['--member', 'thief,region=thief,network=thief,range=10.250.0.0/16,namespaces=shop'],
  );
  await expect.poll(() => members(east), { timeout: 20_000 }).toBe('thief,us-west');
  const place = { kind: 'pod', cluster: 'us-east', namespace: 'isthmus-system', name: 'isthmus-controller-0' } as const;
  const dark = await Promise.all(
    ['us-east', 'us-west'].map((cluster) => lab.inject({ kind: 'refuse', from: place, to: { kind: 'etcd', cluster } })),
  );
  await must('revoke', 'thief', '--yes', '--authority-dir', authority);
  await expect.poll(() => members(west), { timeout: 20_000 }).toBe('us-east');
  await expect.poll(() => members(east), { timeout: 20_000 }).toBe('us-west');
  const killed = await lab.inject({ kind: 'kill', target: { place, process: 'controller' } });
  await killed.lift();
  await expect.poll(() => members(east).catch(() => 'nothing yet'), { timeout: 40_000 }).toBe('us-west');
  await Promise.all(dark.map((fault) => fault.lift()));
});

test('the clock of a controller is shifted, as its own log tells, and set right again', async () => {
  const place = { kind: 'pod', cluster: 'us-west', namespace: 'isthmus-system', name: 'isthmus-controller-0' } as const;
  const stampOf = async () => {
    const log = await lab.cluster('us-west').log('isthmus-system', 'isthmus-controller-0', 'controller');
    const last = log.trimEnd().split('\n').at(-1) ?? '{}';
    return Date.parse((JSON.parse(last) as { time: string }).time) - Date.now();
  };
  // A cut from the store makes it write a line in either case.
  const provoke = async () => {
    const cut = await lab.inject({ kind: 'refuse', from: place });
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await cut.lift();
  };
  const skew = await lab.inject({ kind: 'clock-skew', target: { place, process: 'controller' }, skewMs: 3_600_000 });
  await provoke();
  await expect.poll(stampOf, { timeout: 20_000 }).toBeGreaterThan(3_000_000);
  await skew.lift();
  await provoke();
  await expect.poll(stampOf, { timeout: 20_000 }).toBeLessThan(60_000);
});
