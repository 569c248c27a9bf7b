import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { authorOf } from '../../../src/cli/author.ts';
import { complete } from '../../../src/cli/completion.ts';
import { confirm } from '../../../src/cli/confirm.ts';
import { mergeDecisions } from '../../../src/cli/decisions.ts';
import { drainCommand, parseTarget, progressOf } from '../../../src/cli/drain.ts';
import { wrap } from '../../../src/cli/output.ts';
import { run } from '../../../src/cli/program.ts';
import { renderStatus } from '../../../src/cli/status.ts';
import { lengthOf, timeOf } from '../../../src/cli/times.ts';
import type { DecisionReport, ExplainReport } from '../../../src/core/failover_report.ts';
import type { StatusReport } from '../../../src/core/report.ts';
import { type Desk, openDesk } from '../controller/desk.ts';
import { serviceView, viewOf, wallMs } from '../controller/shop.ts';

const remotes = { 'us-west': [4, 4], 'eu-central': [3, 3] } as const;
const view = viewOf([serviceView([3, 3], remotes), serviceView([2, 2], {}, 'ledger')]);

let desk: Desk;
let out = '';
let err = '';
beforeEach(async () => {
  desk = await openDesk(view);
  out = '';
  err = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += text;
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    err += text;
    return true;
  });
});
afterEach(async () => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
  await desk.close();
});
const isthmus = async (...argv: string[]): Promise<number> => {
  process.exitCode = undefined;
  return run(['node', 'isthmus', ...argv, '--controller', desk.url]);
};
const terminal = (typed: string) => ({ interactive: true, ask: vi.fn(async () => typed) });
const nobody = { interactive: false, ask: vi.fn(async () => '') };
const options = (over: object = {}) => ({
  controller: [desk.url],
  namespace: 'isthmus-system',
  dryRun: false,
  yes: false,
  output: 'table' as const,
  ...over,
});

describe('explain', () => {
  it('says where the traffic goes and why, in one page', async () => {
    desk.see(viewOf([serviceView([0, 3], remotes)]));
    expect(await isthmus('explain', 'shop/checkout')).toBe(0);
    const lines = out.split('\n');
    expect(lines[0]).toBe(
      'Calls of shop/checkout from us-east are answered by us-west, because none of us-east’s 3 endpoints is ready.',
    );
    expect(lines[2]).toMatch(/^CLUSTER +TIER +SHARE +STATE +AGE +REASON +READY +UNTIL$/);
    expect(out).toMatch(/^us-east +local +0 % .* 0\/3/m);
    expect(out).toMatch(/^us-west +1 +100 % .* 4\/4/m);
    expect(out).toMatch(/^Policy default\n {2}order/m);
    expect(out).toMatch(/^ {2}14:32:10Z +shift .*us-east itself → us-west; Readiness.*\(by controller, entry 1\)/m);
  });
  it('is data for programs', async () => {
    expect(await isthmus('explain', 'shop/checkout', '-o', 'json')).toBe(0);
    expect((JSON.parse(out) as ExplainReport).standings).toHaveLength(3);
  });
  it.each([
    [['explain', 'nope'], /service "nope" is not a service[\s\S]*next: /],
    [['explain', 'shop/checkout', '--at', 'soon'], /--at "soon" is not a time[\s\S]*next: /],
    [['explain', 'shop/checkout', '--from', 'mars'], /"mars" is no member[\s\S]*next: it has /],
    [['observe', '--days', 'many'], /--days "many"[\s\S]*next: /],
  ])('%o is refused with 64', async (argv, message) => {
    expect(await isthmus(...argv)).toBe(64);
    expect(err).toMatch(message);
  });
});

describe('explain --at and observe', () => {
  // The journal of the tests is of a day in the past of whoever runs them, or in their future.
  beforeEach(() => vi.spyOn(Date, 'now').mockReturnValue(wallMs + 3_600_000));

  it('tell the past from the journals of all replicas, whichever of them decided', async () => {
    const other = await openDesk(view, 'isthmus-controller-1');
    try {
      other.writer = false;
      desk.pass(60_000);
      desk.see(viewOf([serviceView([0, 3], remotes)]));
      const explain = async (at: string): Promise<string> => {
        out = '';
        expect(
          await run(['node', 'isthmus', 'explain', 'shop/checkout', '--at', at, '--controller', other.url, desk.url]),
        ).toBe(0);
        return out;
      };
      expect(await explain('14:32:40')).toMatch(
        /went to us-east itself: nothing had been decided about it until 2026-11-21 14:33:10Z/,
      );
      const after = await explain('14:33:40');
      expect(after).toMatch(/went to us-west, as the controller had decided 30s before \(Readiness/);
      expect(after).toMatch(/^us-west +1 +100 %/m);
    } finally {
      await other.close();
    }
  });
  it('leave another cluster’s past to that cluster', async () => {
    expect(await isthmus('explain', 'shop/checkout', '--at', '14:40', '--from', 'us-west')).toBe(64);
    expect(err).toMatch(/keeps a journal of its own[\s\S]*--context/);
  });
  it('have a line for every day', async () => {
    expect(await isthmus('observe', '--days', '3')).toBe(0);
    expect(out).toMatch(/No policy of us-east only observes now/);
    expect(out).toMatch(/^2026-11-19 {2}nothing\n\n2026-11-20 {2}nothing\n\n2026-11-21/m);
  });
  it('put decisions of replicas in order, each once', () => {
    const at = (entry: string, second: number, replica = 'a') =>
      ({ entry, replica, at: `2026-11-21T14:00:0${second}.000Z`, detail: '' }) as DecisionReport;
    const merged = mergeDecisions([
      [at('2', 1), at('1', 1)],
      [at('9', 0, 'b'), at('2', 1)],
    ]);
    expect(merged.map((d) => d.replica + d.entry)).toEqual(['a2', 'a1', 'b9']);
  });
});

describe('drain', () => {
  it('prints what would move and does nothing, with --dry-run', async () => {
    expect(await isthmus('drain', 'cluster', 'us-east', '--dry-run')).toBe(0);
    expect(out).toMatch(
      /^shop\/checkout +us-east +us-east 100 → 0 % +us-west 0 → 100 % +4\/4 +unknown +not declared$/m,
    );
    expect(out).toMatch(/To do it: isthmus drain cluster us-east --controller/);
    expect(desk.commands).toEqual([]);
  });
  it('ends with 81 when guards would hold all of it', async () => {
    expect(await isthmus('drain', 'service', 'shop/ledger', '--dry-run')).toBe(81);
    expect(out).toMatch(/Guards would hold back all of it/);
  });
  it('does nothing without a terminal or --yes, and names the command that would', async () => {
    await expect(drainCommand('drain', 'cluster', 'us-east', options({ over: '10s' }), nobody)).rejects.toMatchObject({
      code: 'command/confirm',
      exit: 64,
      hint: expect.stringMatching(/^isthmus drain cluster us-east --over 10s --controller \S+ --yes$/),
    });
    expect(desk.commands).toEqual([]);
  });
  it('asks for the name, after it has shown what would move', async () => {
    const wrong = terminal('us-west');
    await expect(drainCommand('drain', 'cluster', 'us-east', options(), wrong)).rejects.toMatchObject({ exit: 64 });
    expect(err).toMatch(/shop\/checkout/);
    expect(desk.commands).toEqual([]);
    await drainCommand('drain', 'cluster', 'us-east', options({ reason: 'upgrade' }), terminal('us-east'));
    expect(desk.commands).toMatchObject([{ kind: 'drain', reason: 'upgrade', author: expect.stringMatching(/.@./) }]);
  });
  it('is done at once with --yes, as it was asked', async () => {
    expect(await isthmus('drain', 'gateway', 'us-east-gateway-0', '--over', '1m', '--grace', '0s', '--yes')).toBe(0);
    expect(desk.commands).toMatchObject([
      { target: { scope: 'gateway', member: 'us-east', gateway: 'us-east-gateway-0' }, overMs: 60_000, graceMs: 0 },
    ]);
    expect(out).toMatch(/drain gateway us-east-gateway-0: asked of us-east by /);
  });
  it('is refused while the journal cannot be written', async () => {
    desk.journalFull = true;
    expect(await isthmus('drain', 'cluster', 'us-east', '--yes')).toBe(75);
    expect(err).toMatch(/journal\/unwritable.*ENOSPC[\s\S]*next: free the disk/);
  });
  it('ends with 81 when it is not to be had', async () => {
    expect(await isthmus('undrain', 'cluster', 'us-west', '--yes')).toBe(81);
    expect(out).toMatch(/cluster us-west is not drained here/);
  });
  it('goes to the replica that decides', async () => {
    const other = await openDesk(view);
    other.writer = false;
    try {
      expect(await run(['node', 'isthmus', 'freeze', '--controller', other.url, '--controller', desk.url])).toBe(0);
      expect([other.commands.length, desk.commands.length]).toEqual([0, 1]);
    } finally {
      await other.close();
    }
  });
  it.each([
    [['drain'], /nothing to drain is named/],
    [['drain', 'pod', 'x'], /"pod" is not something to drain/],
    [['drain', 'cluster'], /the name of the cluster is missing/],
    [['drain', 'cluster', 'us-east', '--region', 'us'], /--region "us" is all clusters/],
    [['drain', 'cluster', 'us-east', '--over', 'soon', '--yes'], /--over "soon" is not a length of time/],
    [['drain', 'cluster', 'us-east', '--grace', '48h', '--yes'], /--grace "48h" is too long/],
    [['drain', 'cluster', 'mars', '--yes'], /target\.member "mars"/],
  ])('%o is refused with 64 and the next step', async (argv, message) => {
    expect(await isthmus(...argv)).toBe(64);
    expect(err).toMatch(message);
    expect(err).toMatch(/next: /);
    expect(desk.commands).toEqual([]);
  });
  it('takes a region whole', () => {
    expect(parseTarget('drain', undefined, undefined, { region: 'us' })).toEqual({ scope: 'region', region: 'us' });
    expect(parseTarget('drain', 'service', 'a/b', { cluster: 'us-west' })).toEqual({
      scope: 'service',
      member: 'us-west',
      service: 'a/b',
    });
  });
  it('follows the ramp by what the status says', async () => {
    const target = { scope: 'cluster', member: 'us-east' } as const;
    await drainCommand('drain', 'cluster', 'us-east', options({ yes: true }));
    const progress = async () =>
      progressOf('drain', target, (await (await fetch(`${desk.url}/v1/status`)).json()) as StatusReport);
    expect(await progress()).toEqual({ done: false, text: '25 % moved', held: [] });
    desk.pass(31_000);
    expect(await progress()).toEqual({ done: true, text: '100 % moved', held: [] });
  });
});

describe('freeze, thaw and failback', () => {
  it('carry who asked and why', async () => {
    expect(await isthmus('freeze', '--reason', 'network change')).toBe(0);
    expect(await isthmus('thaw')).toBe(0);
    expect(await isthmus('failback', 'shop/checkout', '--cluster', 'us-west')).toBe(0);
    expect(desk.commands.map((c) => [c.kind, c.reason])).toEqual([
      ['freeze', 'network change'],
      ['thaw', ''],
      ['failback', ''],
    ]);
    expect(desk.commands[2]).toMatchObject({ service: 'shop/checkout', member: 'us-west' });
  });
  it('ask for the name before a withdrawal is believed', async () => {
    expect(await isthmus('confirm-withdrawal', '--cluster', 'us-west')).toBe(64);
    expect(err).toMatch(/next: isthmus confirm-withdrawal --cluster us-west --yes/);
    expect(await isthmus('confirm-withdrawal', '--cluster', 'us-west', '--yes')).toBe(0);
    expect(desk.commands).toMatchObject([{ kind: 'confirm-withdrawal', member: 'us-west', service: undefined }]);
  });
});

describe('status', () => {
  it('has a banner while frozen, drains with their progress, and the journal', async () => {
    await isthmus('freeze', '--reason', 'network change');
    out = '';
    expect(await isthmus('status')).toBe(0);
    expect(out).toMatch(/^FROZEN for \S+ by \S+@\S+ \(network change\): .*isthmus thaw\n/);
    expect(out).toMatch(/^ {2}journal +on disk, newest entry 1s old$/m);
  });
  it('says that changes are refused while the journal is not writable', async () => {
    const report = (await (await fetch(`${desk.url}/v1/status`)).json()) as StatusReport;
    const journal = { state: 'unwritable', spooled: 1, ageSeconds: 5, reason: 'ENOSPC' } as const;
    expect(renderStatus({ ...report, failover: { ...report.failover!, journal } }, false)).toMatch(
      /journal +not writable: ENOSPC; 1 entry waits in memory, and changes by people are refused/,
    );
  });
});

describe('completion', () => {
  const names = vi.fn(async () => ['us-east', 'us-west']);
  const program = (): Command => {
    const root = new Command('isthmus');
    root.command('drain').argument('[what]').argument('[name]').option('--over <time>').option('--cluster <name>');
    root.command('status').addOption(new Option('-o, --output <format>').choices(['json', 'yaml']));
    return root;
  };
  it.each([
    [[''], ['drain', 'status']],
    [['dr'], ['drain']],
    [['drain', 'c'], ['cluster']],
    [['drain', 'cluster', 'us-w'], ['us-west']],
    [['drain', 'cluster', 'x', ''], []],
    [['drain', '--over', '30s', 'cluster', 'us-e'], ['us-east']],
    [['drain', '--c'], ['--cluster']],
    [
      ['drain', 'gateway', 'g', '--cluster', ''],
      ['us-east', 'us-west'],
    ],
    [
      ['status', '-o', ''],
      ['json', 'yaml'],
    ],
  ])('of %o is %o', async (words, found) => expect(await complete(program(), words, names)).toEqual(found));
  it('goes on without a controller, and knows three shells', async () => {
    expect(await complete(program(), ['drain', 'cluster', ''], () => Promise.reject(new Error('dark')))).toEqual([]);
    expect(await isthmus('status')).toBe(0);
    for (const shell of ['bash', 'zsh', 'fish']) {
      out = '';
      expect(await run(['node', 'isthmus', 'completion', shell])).toBe(0);
      expect(out).toContain('isthmus __complete');
    }
    expect(await run(['node', 'isthmus', 'completion', 'tcsh'])).toBe(64);
  });
});

describe('who asks', () => {
  it('is whom the API server says, and the user of the machine where it does not', async () => {
    let status = 201;
    const api = createServer((request, response) => {
      request.resume();
      expect(request.url).toBe('/apis/authentication.k8s.io/v1/selfsubjectreviews');
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ status: { userInfo: { username: 'alice@example.com' } } }));
    });
    await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
    const dir = mkdtempSync(join(tmpdir(), 'isthmus-author-'));
    try {
      const kubeconfig = join(dir, 'config');
      const server = `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
      const config = {
        clusters: [{ name: 'c', cluster: { server, 'insecure-skip-tls-verify': true } }],
        users: [{ name: 'u', user: {} }],
      };
      const contexts = [{ name: 'x', context: { cluster: 'c', user: 'u' } }];
      writeFileSync(
        kubeconfig,
        JSON.stringify({ apiVersion: 'v1', kind: 'Config', ...config, contexts, 'current-context': 'x' }),
      );
      expect(await authorOf({ kubeconfig, namespace: 'isthmus-system' })).toBe('alice@example.com');
      status = 404;
      expect(await authorOf({ kubeconfig, namespace: 'isthmus-system' })).toMatch(/^.+@.+$/);
      expect(await authorOf({ controller: ['http://127.0.0.1:1'], namespace: 'isthmus-system' })).not.toContain(
        'alice',
      );
    } finally {
      rmSync(dir, { recursive: true });
      await new Promise((resolve) => api.close(resolve));
    }
  });
});

describe('what people give', () => {
  const now = Date.UTC(2026, 10, 21, 14, 32, 10);
  it.each([
    ['2026-11-21T14:00:00Z', '2026-11-21T14:00:00.000Z'],
    ['2026-11-21T14:00:00+02:00', '2026-11-21T12:00:00.000Z'],
    ['2026-11-21 14:00', '2026-11-21T14:00:00.000Z'],
    ['2026-11-20', '2026-11-20T00:00:00.000Z'],
    ['14:31:05', '2026-11-21T14:31:05.000Z'],
    ['23:00', '2026-11-20T23:00:00.000Z'],
    ['5m', '2026-11-21T14:27:10.000Z'],
    ['-1h30m', '2026-11-21T13:02:10.000Z'],
  ])('the time %s is read', (text, iso) => expect(new Date(timeOf('--at', text, now)).toISOString()).toBe(iso));
  it.each(['yesterday', '25:00', '2026-13-01', '2026-11-21T14:00:00Zx', ''])('the time "%s" is refused', (text) =>
    expect(() => timeOf('--at', text, now)).toThrow(/--at/),
  );
  it('lengths of time have units and bounds', () => {
    expect(lengthOf('--over', '1m30s', 0, 3_600_000)).toBe(90_000);
    expect(() => lengthOf('--over', '30', 0, 3_600_000)).toThrow(/--over "30" is not a length of time/);
  });
  it('a name that is typed must be the name', async () => {
    await expect(confirm('drain cluster a', 'a', 'x --yes', terminal('b'))).rejects.toMatchObject({
      code: 'command/confirm',
    });
    await expect(confirm('drain cluster a', 'a', 'x --yes', terminal(' a '))).resolves.toBeUndefined();
  });
});

describe('prose', () => {
  it('is cut at words, with its second line indented', () => {
    expect(wrap('  one two three', '    ', 10)).toBe('  one two\n    three');
    expect(wrap('one two three', '  ')).toBe('one two three');
  });
});
