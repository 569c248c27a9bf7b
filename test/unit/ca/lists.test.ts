import { X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { makeCrl } from '../../../src/ca/crl.ts';
import { emptyList, readLists, withoutList } from '../../../src/ca/lists.ts';
import { newTestCa } from '../../real/pki.ts';

const nowMs = Date.now();
const listOf = async (ca: { cert: Buffer; key: Buffer }, serials: readonly string[], ttlS = 3_600): Promise<string> => {
  const made = await makeCrl({
    ca: { cert: ca.cert.toString(), key: ca.key.toString() },
    revoked: serials.map((serial) => ({ serial, atMs: nowMs })),
    before: undefined,
    nowMs,
    ttlS,
    what: 'test CA',
  });
  return made.pem;
};

describe('the lists of a cacerts directory', () => {
  let [root, other, impostor] = [] as unknown as [
    Awaited<ReturnType<typeof newTestCa>>,
    Awaited<ReturnType<typeof newTestCa>>,
    Awaited<ReturnType<typeof newTestCa>>,
  ];
  const certificate = (ca: { cert: Buffer }) => new X509Certificate(ca.cert);
  beforeAll(async () => {
    [root, other, impostor] = [await newTestCa('root'), await newTestCa('other'), await newTestCa('root')];
  });

  it('are one of each CA, and say of whom there is none', async () => {
    const ended = await listOf(other, [], -10);
    const text = (await listOf(root, ['01', '02'])) + ended;
    const cas = [certificate(root), certificate(other)];
    const lists = await readLists(text, cas, 'f', nowMs);
    expect(lists.map(({ issuer, count }) => [issuer, count])).toEqual([
      ['CN=root', 2],
      ['CN=other', 0],
    ]);
    expect(lists.map(({ pem }) => pem).join('')).toBe(text);
    expect(withoutList(lists, cas, nowMs)).toEqual(['CN=other']);
    const whole = await readLists(
      (await listOf(root, [])) + (await emptyList(certificate(other), other.key.toString(), nowMs)),
      cas,
      'f',
      nowMs,
    );
    expect(withoutList(whole, cas, nowMs)).toEqual([]);
    // It ends with its CA, not before.
    expect(Math.abs(whole[1]!.endMs - certificate(other).validToDate.getTime())).toBeLessThan(2_000);
  });

  it.each([
    ['nothing', async () => ''],
    ['no list', async () => 'hello'],
    ['a list and more', async () => `${await listOf(root, [])}more`],
    ['a list cut short', async () => (await listOf(root, ['01'])).replace(/\n.*\n(?=-----END)/, '\n')],
    ['a certificate', async () => root.cert.toString()],
    ['two of one CA', async () => (await listOf(root, [])) + (await listOf(root, ['01']))],
    ['one by another CA of that name', async () => listOf(impostor, [])],
    ['one that is huge', async () => 'x'.repeat(10_000_000)],
  ])('are refused when the file holds %s', async (_what, text) => {
    await expect(readLists(await text(), [certificate(root)], 'f', nowMs)).rejects.toMatchObject({
      code: 'trust/invalid',
    });
  });
});
