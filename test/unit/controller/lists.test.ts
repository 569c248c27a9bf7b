import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Authority, loadAuthority } from '../../../src/ca/authority.ts';
import { initTrust } from '../../../src/ca/trustfiles.ts';
import { revokeInMesh } from '../../../src/cli/revoke_mesh.ts';
import { ListKeeper } from '../../../src/controller/lists.ts';
import type { Metrics } from '../../../src/ops/metrics.ts';
import { SimClock } from '../../sim/clock.ts';

let dir: string;
let authority: Authority;
let keeper: ListKeeper;
const clock = new SimClock();
const changed = vi.fn();
const random = (bytes: number) => new Uint8Array(randomBytes(bytes));
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'isthmus-lists-'));
  await initTrust({ outDir: dir, trustDomain: 'demo', clusters: ['us-east', 'thief'], nowMs: clock.wallMs() }, random);
  authority = loadAuthority(join(dir, 'us-east'), clock.wallMs());
  changed.mockClear();
});
afterEach(() => {
  keeper.close();
  rmSync(dir, { recursive: true, force: true });
});
const start = (): void => {
  keeper = new ListKeeper({
    dir: join(dir, 'us-east'),
    authority: () => authority,
    tradedRoots: () => [],
    clock,
    log: () => {},
    metrics: { set: () => {} } as unknown as Metrics,
    onChange: changed,
  });
};
/** Time passes until it is so. */
const until = (check: () => void): Promise<void> =>
  vi.waitFor(async () => {
    await clock.advance(5_000);
    check();
  }, 10_000);
const told = (times: number): Promise<void> => until(() => expect(changed).toHaveBeenCalledTimes(times));

describe('the keeper of revocation lists', () => {
  it('gives the lists that stand there, keeps the last good ones, and says what is wrong', async () => {
    start();
    await told(1);
    expect([keeper.current(), keeper.problems()]).toEqual([{ mesh: undefined, traded: undefined }, []]);
    await revokeInMesh('thief', dir, clock.wallMs());
    await told(2);
    const good = keeper.current();
    expect(good?.mesh?.match(/BEGIN X509 CRL/g)).toHaveLength(2);
    expect([good?.traded, keeper.problems()]).toEqual([good?.mesh, []]);

    writeFileSync(join(dir, 'us-east', 'ca-crl.pem'), 'nonsense');
    await until(() => expect(keeper.problems().map(({ code }) => code)).toEqual(['trust/invalid']));
    expect(keeper.current()).toEqual(good);

    await revokeInMesh('thief', dir, clock.wallMs());
    await told(3);
    expect([keeper.problems(), keeper.current()?.mesh === undefined]).toEqual([[], false]);
  });

  it('knows nothing of a file that it could never read: what was saved stays', async () => {
    writeFileSync(join(dir, 'us-east', 'ca-crl.pem'), 'nonsense');
    start();
    await until(() => expect(keeper.problems()).toHaveLength(1));
    expect(keeper.current()).toBeUndefined();
  });

  it('gives none that is not whole, and says whose is missing', async () => {
    await revokeInMesh('thief', dir, clock.wallMs());
    start();
    await told(1);
    const whole = keeper.current()!.mesh!;
    // The list of our own CA can be made here; that of the root cannot.
    const [, ownList] = whole.split(/(?=-----BEGIN)/);
    writeFileSync(join(dir, 'us-east', 'ca-crl.pem'), ownList!);
    await told(2);
    expect(keeper.current()).toEqual({ mesh: undefined, traded: undefined });
    expect(keeper.problems().map(({ message }) => message)).toEqual([expect.stringContaining('CN=Isthmus root CA')]);
    writeFileSync(join(dir, 'us-east', 'ca-crl.pem'), whole.split(/(?=-----BEGIN)/)[0]!);
    await told(3);
    expect(keeper.current()?.mesh?.match(/BEGIN X509 CRL/g)).toHaveLength(2);
  });
});
