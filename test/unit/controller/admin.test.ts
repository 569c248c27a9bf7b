import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type {
  CommandReport,
  DecisionListReport,
  DryRunReport,
  ExplainReport,
} from '../../../src/core/failover_report.ts';
import type { StatusReport } from '../../../src/core/report.ts';
import { type Desk, openDesk } from './desk.ts';
import { serviceView, viewOf, wallMs } from './shop.ts';

const remotes = { 'us-west': [4, 4], 'eu-central': [3, 3] } as const;
const view = viewOf([serviceView([3, 3], remotes)]);

let desk: Desk;
beforeEach(async () => {
  desk = await openDesk(view);
});
afterEach(() => desk.close());

const get = async <T>(path: string): Promise<{ status: number; body: T }> => {
  const answer = await fetch(`${desk.url}${path}`);
  return { status: answer.status, body: (await answer.json()) as T };
};
const post = async <T>(path: string, body: unknown): Promise<{ status: number; body: T }> => {
  const headers = { 'content-type': 'application/json', 'x-isthmus-cli': '1' };
  const answer = await fetch(`${desk.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  return { status: answer.status, body: (await answer.json()) as T };
};
interface Failure {
  readonly error: { readonly code: string; readonly message: string; readonly hint: string };
}
const drain = { kind: 'drain', target: { scope: 'cluster', member: 'us-east' }, author: 'alice', reason: 'upgrade' };

describe('a command', () => {
  it('is taken, decided upon and journalled with its author', async () => {
    const { status, body } = await post<CommandReport>('/v1/commands', drain);
    expect(status).toBe(200);
    expect(body.decisions[0]).toMatchObject({ kind: 'drain', author: 'alice', after: 'drained' });
    expect(desk.commands).toEqual([{ ...drain, overMs: undefined, graceMs: undefined }]);
    const explained = await get<ExplainReport>('/v1/explain?service=shop/checkout');
    expect(explained.body.decisions.map((d) => d.author)).toEqual(['alice', 'alice']);
  });
  it.each([
    ['kind', { ...drain, kind: 'drian' }, /kind "drian"/],
    ['author', { ...drain, author: '' }, /author "": must say who asks/],
    ['author', { ...drain, author: 'controller' }, /author "controller": is not a person/],
    ['author', { ...drain, author: 'alice\u001b[2J' }, /author .*must be printable/],
    ['target', { ...drain, target: 'us-east' }, /target "us-east"/],
    [
      'target.member',
      { ...drain, target: { scope: 'cluster', member: 'US' } },
      /target\.member "US": must be a DNS label/,
    ],
    ['target.service', { ...drain, target: { scope: 'service', service: 'checkout' } }, /target\.service "checkout"/],
    ['overMs', { ...drain, overMs: -1 }, /overMs -1/],
    ['reason', { ...drain, reason: 'x'.repeat(600) }, /reason "xxx/],
    ['what it does not know', { ...drain, force: true }, /[Uu]nrecognized key.*force/],
    ['what is no object', 'drain', /the command "drain"/],
  ])('is refused for its %s, by name and value', async (_field, body, message) => {
    const { status, body: answer } = await post<Failure>('/v1/commands', body);
    expect(status).toBe(422);
    expect(answer.error.code).toBe('usage/invalid');
    expect(answer.error.message).toMatch(message);
    expect(answer.error.hint).not.toBe('');
    expect(desk.commands).toEqual([]);
  });
  it.each([
    [{ scope: 'cluster', member: 'mars' }, /target\.member "mars" is no cluster/, /us-west/],
    [{ scope: 'region', region: 'moon' }, /target\.region "moon" is no region/, /eu/],
    [{ scope: 'gateway', gateway: 'nope' }, /target\.gateway "nope" is no gateway of us-east/, /us-east-gateway-0/],
    [
      { scope: 'service', service: 'shop/cart' },
      /target\.service "shop\/cart" is no service of us-east/,
      /shop\/checkout/,
    ],
  ])('is refused when %o is not there, with what is', async (target, message, hint) => {
    const { body } = await post<Failure>('/v1/commands', { ...drain, target });
    expect(body.error.message).toMatch(message);
    expect(body.error.hint).toMatch(hint);
    expect(desk.commands).toEqual([]);
  });
  it('ends a drain also of what has gone meanwhile', async () => {
    const { status } = await post('/v1/commands', {
      ...drain,
      kind: 'undrain',
      target: { scope: 'cluster', member: 'mars' },
    });
    expect(status).toBe(200);
  });
  it('is refused while the journal cannot be written, and by a replica that does not decide', async () => {
    desk.journalFull = true;
    const full = await post<Failure>('/v1/commands', drain);
    expect([full.status, full.body.error.code]).toEqual([503, 'journal/unwritable']);
    desk.journalFull = false;
    desk.writer = false;
    const other = await post<Failure>('/v1/commands', drain);
    expect([other.status, other.body.error.code]).toEqual([503, 'command/not-writer']);
    expect(desk.commands).toEqual([]);
  });
  it('shows in the status while it is carried out', async () => {
    await post('/v1/commands', drain);
    const drains = async () => (await get<StatusReport>('/v1/status')).body.failover!.drains;
    expect(await drains()).toMatchObject([
      { target: 'cluster us-east', author: 'alice', percent: 25, reason: 'upgrade' },
    ]);
    desk.pass(31_000);
    expect(await drains()).toMatchObject([{ percent: 100, doneInSeconds: null }]);
    await post('/v1/commands', { kind: 'freeze', author: 'bob' });
    expect((await get<StatusReport>('/v1/status')).body.failover!.frozen).toMatchObject({ author: 'bob' });
  });
});

describe('a dry run', () => {
  it('is made, and nothing else', async () => {
    const { status, body } = await post<DryRunReport>('/v1/dry-run', drain);
    expect(status).toBe(200);
    expect(body.moves[0]).toMatchObject({ service: 'shop/checkout', movedPercent: 100 });
    expect(desk.commands).toEqual([]);
    expect(desk.entries).toEqual([]);
  });
  it('is of drains only', async () => {
    expect((await post<Failure>('/v1/dry-run', { kind: 'freeze', author: 'a' })).body.error.message).toMatch(
      /kind "freeze"/,
    );
  });
});

describe('questions', () => {
  it.each([
    ['/v1/explain?service=checkout', /service "checkout" is not a service/],
    ['/v1/explain?service=shop/checkout&from=mars', /"mars" is no member/],
    ['/v1/decisions?service=checkout', /service "checkout" is not a service/],
    ['/v1/decisions?limit=many', /limit "many" is not a number/],
    ['/v1/decisions?since=-1', /since "-1" is not a number/],
    ['/v1/decisions?first=last', /first "last" is not known/],
  ])('%s is answered with what is wrong', async (path, message) => {
    const { status, body } = await get<Failure>(path);
    expect(status).toBe(422);
    expect(body.error.message).toMatch(message);
  });
  it('about decisions are answered from the journal, in the order and as many as were asked for', async () => {
    await post('/v1/commands', drain);
    await post('/v1/commands', { ...drain, kind: 'undrain' });
    const kinds = async (query: string) =>
      (await get<DecisionListReport>(`/v1/decisions?${query}`)).body.decisions.map((d) => `${d.kind} ${d.entry}`);
    expect(await kinds('limit=1&first=oldest')).toEqual(['drain 1']);
    expect((await kinds('limit=1'))[0]).toMatch(/^(undrain|drain|ramp|failback) [3-9]$/);
    expect(await kinds('observed=true')).toEqual([]);
    expect(await kinds(`since=${wallMs + 1}`)).toEqual([]);
  });
});
