/** What a user may get wrong before anything runs: each has an error that names it, and an exit code or a named pending task. */
import { cp, mkdtemp, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { memberRole } from '../../../src/store/admin.ts';
import { eventually, openCrd } from '../kube/objects.ts';
import { newTestCa } from '../pki.ts';
import { startFakeEtcd } from '../store/fake-etcd.ts';
import type { TestCluster } from './cluster.ts';
import { Harness } from './harness.ts';
import { isthmus } from './isthmus.ts';
import { fetchText, type Replica } from './replica.ts';

let harness: Harness;
let east: TestCluster;
const started: Replica[] = [];

beforeAll(async () => {
  harness = await Harness.start({ clusters: ['east'], replicas: 0 });
  east = harness.cluster('east');
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((r) => r.stop('SIGKILL')));
});
afterAll(() => harness?.stop());

const controller = async (set: readonly string[] = []): Promise<Replica> => {
  const replica = await east.replica({ set });
  started.push(replica);
  replica.start();
  return replica;
};
/** The process ends by itself; its exit code and its output. */
const refused = async (set: readonly string[]): Promise<{ code: number | null; log: string }> => {
  const replica = await controller(set);
  const code = await replica.ended();
  return { code, log: replica.log() };
};
/** It runs, is not ready, and says why. */
const pending = async (set: readonly string[], why: RegExp): Promise<Replica> => {
  const replica = await controller(set);
  let text = '';
  await eventually(`/readyz says ${why}`, async () => {
    text = (await fetchText(replica.ports.health, '/readyz?verbose').catch(() => undefined))?.text ?? '';
    return why.test(text);
  }).catch((error: Error) => {
    throw new Error(`${error.message}\n${text}\n${replica.log()}`);
  });
  expect((await fetchText(replica.ports.health, '/readyz')).status).toBe(503);
  expect((await fetchText(replica.ports.health, '/livez')).status).toBe(200);
  return replica;
};
const strayCertificate = async (ca: Awaited<ReturnType<typeof newTestCa>>, commonName: string) => {
  const dir = await mkdtemp(join(harness.dir, 'stray-'));
  const { cert, key } = await ca.issue({ commonName });
  await Promise.all([writeFile(join(dir, 'cert.pem'), cert), writeFile(join(dir, 'key.pem'), key)]);
  await writeFile(join(dir, 'ca.pem'), ca.cert);
  return {
    ca: `store.caFile=${join(dir, 'ca.pem')}`,
    pair: [`store.certFile=${join(dir, 'cert.pem')}`, `store.keyFile=${join(dir, 'key.pem')}`],
  };
};

describe('the configuration', () => {
  it.each([
    ['an unknown key', ['lease.tttlMs=3'], 'config/unknown-key', 'lease.tttlMs'],
    ['a malformed value', ['publish.heartbeatMs=soon'], 'config/invalid', 'publish.heartbeatMs'],
    ['a missing bundle', ['memberDir=/nonexistent'], 'config/invalid', 'clusterset'],
    ['a missing key file', ['keys.recordKeyFile=nothing.pem'], 'config/file', 'keys.recordKeyFile'],
    ['a key file of another kind', ['keys.recordKeyFile=etcd-client-key.pem'], 'files/invalid', 'keys.recordKeyFile'],
    ['no CA', ['mesh.cacertsDir=/nonexistent'], '', '/nonexistent'],
    ['a kubeconfig that is not there', ['kube.kubeconfig=/nonexistent/config'], 'kube/config', '/nonexistent/config'],
    ['an address in use', [], 'config/invalid', 'cannot listen'],
  ])('with %s ends the process with 65', async (what, set, code, named) => {
    const more = what === 'an address in use' ? [`listen.healthAddress=127.0.0.1:${east.api.port}`] : [];
    const ended = await refused([...set, ...more]);
    expect(ended.log).toContain(code);
    expect(ended.log).toContain(named);
    expect(ended.code).toBe(65);
  });
});

describe('the store', () => {
  it('that is down leaves the controller pending', async () => {
    const replica = await pending(
      ['store.endpoints=https://127.0.0.1:1'],
      /records pending: .*(ECONNREFUSED|127\.0\.0\.1:1)/,
    );
    const status = await replica.status();
    expect(status.store).toMatchObject({ connected: false });
  });

  it('of another CA is not trusted', async () => {
    const { ca } = await strayCertificate(await newTestCa('another CA'), 'east');
    await pending([ca], /records pending: .*no trusted connection/);
  });

  it('does not let another user read', async () => {
    const { pair } = await strayCertificate(harness.etcd.ca, 'stranger');
    await pending(pair, /records pending: .*(refused|permission)/i);
  });

  it('of an unknown cluster set cannot be read either', async () => {
    await pending(['clusterset=elsewhere'], /records pending: .*(refused|permission)/i);
  });

  it('that is too old is refused, unless a flag says otherwise', async () => {
    const old = await startFakeEtcd(harness.etcd.ca);
    old.version = '3.5.21';
    try {
      await pending([`store.endpoints=${old.url}`], /records pending: .*version 3\.5\.21.*CVE-2026/);
      await pending([`store.endpoints=${old.url}`, 'store.allowUnsafeVersion=true'], /no valid membership of east/);
    } finally {
      await old.close();
    }
  });
});

describe('the API server', () => {
  it('that does not answer leaves the controller pending', async () => {
    const replica = await east.replica({ kubePort: 1 });
    started.push(replica);
    replica.start();
    await eventually('/readyz names what is waited for', async () =>
      /kubernetes pending: .*services/.test(
        (await fetchText(replica.ports.health, '/readyz?verbose').catch(() => undefined))?.text ?? '',
      ),
    );
    await eventually('the log names the server', () => replica.log().includes('kube/unavailable'));
  });

  it('with a policy that cannot be translated ends the process, and names it', async () => {
    const crds = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
    const plural = 'authorizationpolicies';
    await east.objects.create(crds, openCrd('security.istio.io', 'AuthorizationPolicy', plural, ['v1']));
    const path = `/apis/security.istio.io/v1/namespaces/shop/${plural}`;
    const policy = {
      apiVersion: 'security.istio.io/v1',
      kind: 'AuthorizationPolicy',
      metadata: { name: 'deny-all' },
      spec: {},
    };
    await eventually('the kind is served', () =>
      east.objects.create(path, policy).then(
        () => true,
        () => false,
      ),
    );
    const ended = await refused([]);
    expect(ended.code).toBe(65);
    expect(ended.log).toContain('policy/untranslatable');
    expect(ended.log).toContain('shop/deny-all');
    await east.objects.remove(`${path}/deny-all`);
    const replica = await controller();
    await replica.ready();
  });
});

describe('isthmus init', () => {
  const spec = (name: string, range = '10.9.0.0/16') =>
    `${name},region=r,network=n-${name},range=${range},namespaces=shop`;
  const init = async (set: string, ...members: string[]) => {
    const out = await mkdtemp(join(harness.dir, 'out-'));
    const ran = await isthmus([
      ...harness.initArgs(join(out, 'bundles'), set),
      ...members.flatMap((m) => ['--member', m]),
    ]);
    return { ...ran, out };
  };

  it('refuses two members with one name', async () => {
    const twice = await init('other', spec('one'), spec('one', '10.10.0.0/16'));
    expect(twice).toMatchObject({ code: 65, stdout: '' });
    expect(twice.stderr).toMatch(/member\/duplicate: .*"one"/);
    expect(await readdir(twice.out)).toEqual([]);
    const taken = await init('test', spec('east'));
    expect(taken.code).toBe(65);
    expect(taken.stderr).toMatch(/member\/duplicate: .*"east"/);
  });

  it('refuses what is no member, no CIDR or no cluster set', async () => {
    const [noRegion, noRange, noSet] = await Promise.all([
      init('other', 'one,network=n,range=10.9.0.0/16,namespaces=shop'),
      init('other', spec('one', '10.9.0.0')),
      init('Other_', spec('one')),
    ]);
    expect(noRegion).toMatchObject({ code: 64 });
    expect(noRegion.stderr).toContain('region is missing');
    expect(noRange?.code).toBeGreaterThan(1);
    expect(noRange?.stderr).toContain('10.9.0.0');
    expect(noSet).toMatchObject({ code: 64 });
  });

  it('says which credentials of etcd are wrong', async () => {
    const args = harness.initArgs(join(harness.dir, 'nowhere'));
    const { pair } = await strayCertificate(harness.etcd.ca, 'stranger');
    args[args.indexOf('--etcd-cert') + 1] = pair[0]!.split('=')[1]!;
    args[args.indexOf('--etcd-key') + 1] = pair[1]!.split('=')[1]!;
    const ran = await isthmus([...args, '--member', spec('two')]);
    expect(ran.code).toBe(65);
    expect(ran.stderr).toContain('store/denied');
  });

  it('gives a member rights under its own name only', async () => {
    expect(memberRole('test', 'east')).toBe('isthmus-test-east');
    const made = await init('third', spec('one'), spec('two', '10.10.0.0/16'));
    expect(made.code).toBe(0);
    const bundle = join(made.out, 'bundles', 'one');
    const names = await readdir(bundle);
    expect(names.sort()).toEqual([
      'authority.pem',
      'etcd-ca.pem',
      'etcd-client-key.pem',
      'etcd-client.pem',
      'federation-ca-key.pem',
      'federation-ca.pem',
      'member.yaml',
      'record-key.pem',
    ]);
  });
});

describe('isthmus join', () => {
  it('refuses a bundle that is incomplete, a CA that does not fit, a cluster that is not there', async () => {
    const bundle = join(harness.dir, 'bundles', 'east');
    const cacerts = join(harness.dir, 'trust', 'east');
    const kube = ['--kubeconfig', east.kubeconfig];
    const half = await mkdtemp(join(harness.dir, 'half-'));
    await cp(join(bundle, 'member.yaml'), join(half, 'member.yaml'));
    const [incomplete, wrongCa, nowhere] = await Promise.all([
      isthmus(['join', '--bundle', half, '--cacerts', cacerts, ...kube]),
      isthmus(['join', '--bundle', bundle, '--cacerts', bundle, ...kube]),
      isthmus(['join', '--bundle', bundle, '--cacerts', cacerts, '--kubeconfig', '/nonexistent']),
    ]);
    expect(incomplete.code).toBe(65);
    expect(incomplete.stderr).toContain('has no authority.pem');
    expect(wrongCa.code).toBe(65);
    expect(wrongCa.stderr).toContain('ca-cert.pem');
    expect(nowhere.code).toBe(65);
    expect(nowhere.stderr).toContain('kube/config');
  });

  it('changes nothing when it is run again', async () => {
    const args = ['--bundle', join(harness.dir, 'bundles', 'east'), '--cacerts', join(harness.dir, 'trust', 'east')];
    const { code, stdout } = await isthmus(['join', ...args, '--kubeconfig', east.kubeconfig]);
    expect(code).toBe(0);
    expect(stdout).toContain('unchanged');
    expect(stdout).not.toMatch(/configured|created/);
  });
});
