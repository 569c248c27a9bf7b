import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CertificateFiles, certificatePaths, type GatewayCertificate } from '../../../src/gateway/certificate_files.ts';
import { SimClock, seededRng } from '../../sim/clock.ts';
import { createPki } from '../hbone/pki.ts';

const hourMs = 3_600_000;
let runDir: string;
beforeEach(() => {
  runDir = mkdtempSync(join(tmpdir(), 'isthmus-cert-'));
});
afterEach(() => rmSync(runDir, { recursive: true, force: true }));

const files = (clock: SimClock, obtain: () => Promise<GatewayCertificate>) =>
  new CertificateFiles({ runDir, obtain, clock, rng: seededRng(1), log: () => {} });

const numbered = (clock: SimClock, lifeMs: number) => {
  const state = { count: 0, failing: false };
  const obtain = async (): Promise<GatewayCertificate> => {
    if (state.failing) throw new Error('no controller answers');
    state.count += 1;
    return {
      cert: `CERT ${state.count}\n`,
      key: `KEY ${state.count}`,
      roots: 'ROOTS\n',
      notAfterMs: clock.wallMs() + lifeMs,
    };
  };
  return { state, obtain };
};

describe('the certificate files', () => {
  it('hold chain and key in one file that nobody else can read', async () => {
    const clock = new SimClock();
    const certificates = files(clock, numbered(clock, hourMs).obtain);
    const started = certificates.start();
    await clock.advance(10);
    await started;
    const paths = certificatePaths(runDir);
    expect(paths.certificate).toBe(paths.key);
    expect(readFileSync(paths.certificate, 'utf8')).toBe('CERT 1\nKEY 1\n');
    expect(readFileSync(paths.roots, 'utf8')).toBe('ROOTS\n');
    expect(statSync(paths.certificate).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(runDir, 'identity')).sort()).toEqual(['identity.pem', 'roots.pem']);
    certificates.stop();
  });

  it('are renewed at about half their life, and at no other time', async () => {
    const clock = new SimClock();
    const { state, obtain } = numbered(clock, hourMs);
    const certificates = files(clock, obtain);
    certificates.start();
    await clock.advance(0.44 * hourMs);
    expect(state.count).toBe(1);
    await clock.advance(0.12 * hourMs);
    expect(state.count).toBe(2);
    await clock.advance(9.5 * hourMs);
    expect(state.count).toBeGreaterThan(15);
    expect(state.count).toBeLessThan(25);
    certificates.stop();
    const before = state.count;
    await clock.advance(10 * hourMs);
    expect(state.count).toBe(before);
  });

  it('are asked for again and again, ever slower, while nobody answers', async () => {
    const clock = new SimClock();
    const { state, obtain } = numbered(clock, hourMs);
    let tries = 0;
    state.failing = true;
    const certificates = files(clock, () => {
      tries += 1;
      return obtain();
    });
    let started = false;
    certificates.start().then(() => {
      started = true;
    });
    await clock.advance(5 * 60_000);
    expect(started).toBe(false);
    expect(certificates.notAfterMs).toBeUndefined();
    expect(tries).toBeGreaterThan(10);
    expect(tries).toBeLessThan(25);
    state.failing = false;
    await clock.advance(60_000);
    expect(started).toBe(true);
    certificates.stop();
  });

  it('of an earlier run are used at once while they last, and renewed soon', async () => {
    const pki = await createPki();
    const issued = await pki.issue(['spiffe://x/ns/a/sa/b']);
    const clock = new SimClock(Date.now());
    const first = files(clock, async () => ({
      cert: issued.certificatePem,
      key: issued.keyPem,
      roots: pki.rootPem,
      notAfterMs: clock.wallMs() + hourMs,
    }));
    first.start();
    await clock.advance(10);
    first.stop();

    const { state, obtain } = numbered(clock, hourMs);
    const second = files(clock, obtain);
    await second.start();
    expect(state.count).toBe(0);
    await clock.advance(2_000);
    expect(state.count).toBe(1);
    second.stop();
  });

  it('of an earlier run are not used when they have ended or cannot be read', async () => {
    const pki = await createPki();
    const issued = await pki.issue(['spiffe://x/ns/a/sa/b'], { expired: true });
    const clock = new SimClock(Date.now());
    for (const cert of [issued.certificatePem, 'garbage']) {
      const first = files(clock, async () => ({ cert, key: 'k', roots: 'r', notAfterMs: clock.wallMs() + hourMs }));
      first.start();
      await clock.advance(10);
      first.stop();
      const { state, obtain } = numbered(clock, hourMs);
      state.failing = true;
      const second = files(clock, obtain);
      let started = false;
      second.start().then(() => {
        started = true;
      });
      await clock.advance(5_000);
      expect(started).toBe(false);
      second.stop();
    }
  });
});
