import { describe, expect, it } from 'vitest';
import { parseMemberSpec } from '../../../src/cli/init.ts';
import { age, table } from '../../../src/cli/output.ts';
import { run } from '../../../src/cli/program.ts';
import { renderStatus } from '../../../src/cli/status.ts';
import type { StatusReport } from '../../../src/core/report.ts';

const report: StatusReport = {
  apiVersion: 'isthmus.dev/v1',
  kind: 'Status',
  clusterset: 'prod',
  member: 'us-east',
  replica: 'isthmus-controller-0',
  version: '0.1.0',
  writer: true,
  store: {
    connected: false,
    endpoint: '',
    version: '',
    revision: '12',
    reason: 'connection refused',
    readBackSeconds: 700,
  },
  saved: { ageSeconds: 3, servingFromDisk: true },
  kubernetes: { staleSeconds: 0.2, pending: [] },
  gateways: [
    { pod: 'isthmus-gateway-0', healthy: true },
    { pod: 'isthmus-gateway-1', healthy: false },
  ],
  peers: [
    {
      member: 'us-west',
      region: 'us-west',
      network: 'net-b',
      control: { state: 'unknown', ageSeconds: 700, epoch: '5', sequence: '9', shuttingDown: false },
      data: { state: 'reachable', rttMs: 62.4, gateways: 2 },
      services: 3,
      capacity: { ready: 7, total: 9 },
      problems: [{ code: 'record/not-granted', message: 'services/bank/vault: namespace bank is not granted' }],
    },
  ],
  services: [
    {
      service: 'shop/checkout',
      mode: 'gateway',
      exported: true,
      local: { ready: 0, total: 2 },
      remotes: [{ member: 'us-west', tier: 0, ready: 7, total: 9 }],
      serving: 'us-west',
      problems: [],
    },
  ],
  proxies: [
    {
      node: 'isthmus-gateway-0~0',
      role: 'gateway',
      connectedSeconds: 65,
      state: 'rejected',
      types: [{ type: 'Cluster', sent: 'a', acked: '' }],
      rejected: [{ resource: 'class/x', reason: 'bad weight' }],
    },
  ],
  problems: [],
};

describe('status', () => {
  const text = renderStatus(report, false);
  it('says that the store is dark and how old what is served is', () => {
    expect(text).toContain('dark: connection refused');
    expect(text).toContain('serving from it');
    expect(text).toContain('1/2 answer');
  });
  it('shows the two planes of a peer apart, each with its age', () => {
    const row = text.split('\n').find((line) => line.startsWith('us-west'))!;
    expect(row).toMatch(/unknown 11m40s\s+reachable 62ms\s+2\s+3\s+7\/9/);
  });
  it('says who serves each service', () => {
    expect(text).toMatch(/shop\/checkout\s+gateway\s+yes\s+0\/2\s+us-west 7\/9\s+us-west/);
  });
  it('lists refused records and rejected resources as problems', () => {
    expect(text).toContain('us-west: record/not-granted');
    expect(text).toContain('isthmus-gateway-0~0 rejected class/x: bad weight');
  });
});

describe('output', () => {
  it('aligns tables without trailing blanks, and shows empty cells', () => {
    expect(
      table(
        ['A', 'LONGER', 'C'],
        [
          ['x', '', 'z'],
          ['wide cell', '1', ''],
        ],
      ),
    ).toBe('A          LONGER  C\nx          -       z\nwide cell  1       -');
  });
  it('shows ages as people say them', () => {
    expect([0.4, 3.21, 42, 130, 7_260, 200_000].map(age)).toEqual(['400ms', '3.2s', '42s', '2m10s', '2h1m', '2d7h']);
    expect(age(null)).toBe('never');
  });
});

describe('a member on the command line', () => {
  it('is read whole', () => {
    expect(parseMemberSpec('us-east,region=us,network=n1,range=10.1.0.0/16+10.2.0.0/16,namespaces=shop+bank')).toEqual({
      name: 'us-east',
      region: 'us',
      zone: '',
      network: 'n1',
      ranges: ['10.1.0.0/16', '10.2.0.0/16'],
      namespaces: ['shop', 'bank'],
    });
  });
  it.each([
    ['US', /not a DNS label/],
    ['a,region=r,network=n,namespaces=x', /range is missing/],
    ['a,regoin=r', /"regoin=r" is not one of/],
    ['a,region=r,region=s', /given twice/],
    ['a,region', /"region" is not one of/],
  ])('%s is refused', (text, message) => expect(() => parseMemberSpec(text)).toThrow(message));
});

describe('the program', () => {
  const quiet = async (argv: string[]): Promise<{ code: number; err: string; out: string }> => {
    const { write: writeErr } = process.stderr;
    const { write: writeOut } = process.stdout;
    let err = '';
    let out = '';
    process.stderr.write = ((text: string) => {
      err += text;
      return true;
    }) as typeof process.stderr.write;
    process.stdout.write = ((text: string) => {
      out += text;
      return true;
    }) as typeof process.stdout.write;
    let code: number;
    try {
      code = await run(['node', 'isthmus', ...argv]);
    } finally {
      process.stderr.write = writeErr;
      process.stdout.write = writeOut;
    }
    return { code, err, out };
  };
  it('refuses an unknown format by name, and says which there are', async () => {
    const { code, err } = await quiet(['status', '-o', 'xml']);
    expect(code).toBe(64);
    expect(String(err)).toMatch(/'xml' is invalid.*table, wide, json, yaml/);
  });
  it('answers usage errors with 64', async () => {
    expect((await quiet(['nonsense'])).code).toBe(64);
    expect((await quiet(['status', '-o', 'xml'])).code).toBe(64);
    expect((await quiet(['init', '--clusterset', 'x'])).code).toBe(64);
  });
  it('answers an unreachable controller with 75', async () => {
    const { code, err } = await quiet(['status', '--controller', 'http://127.0.0.1:1']);
    expect(code).toBe(75);
    expect(err).toMatch(/controller\/unreachable.*ECONNREFUSED[\s\S]*next: /);
  });
  it('answers a kubeconfig that is not there with 65', async () => {
    expect((await quiet(['status', '--kubeconfig', '/nonexistent/config'])).code).toBe(65);
  });
  it('answers a wrong configuration with 65', async () => {
    expect((await quiet(['config', 'check', '--set', 'clusterset=a'])).code).toBe(65);
  });
  it('prints its version and its schema', async () => {
    expect((await quiet(['version'])).code).toBe(0);
    expect((await quiet(['config', 'schema'])).code).toBe(0);
    expect((await quiet(['--help'])).code).toBe(0);
  });
});
