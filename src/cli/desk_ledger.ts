/**
 * What an operator's desk remembers of tokens, and of who was let in and put out.
 *
 * It lies beside the authority's key and not in etcd: an etcd that is restored from a backup must revive no token. A token is used by making
 * a file that must not be there yet, synced before anything follows from it; of two that try, one succeeds.
 */
import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type ErrorCode, IsthmusError } from '../core/errors.ts';
import { realClock } from '../ops/clock.ts';
import { isTokenId } from '../records/joining.ts';
import type { IssuedToken, Terms } from '../trust/joining.ts';

const issuedSchema = z.strictObject({
  id: z.string(),
  clusterset: z.string(),
  cluster: z.string(),
  /** Public key of the secret: what it proves, not what it is. */
  verifier: z.string().regex(/^[0-9a-f]{64}$/),
  createdMs: z.number(),
  expiresMs: z.number(),
  terms: z.strictObject({
    region: z.string(),
    zone: z.string(),
    network: z.string(),
    addressRanges: z.array(z.string()),
    namespaces: z.array(z.string()),
    serviceAccounts: z.array(z.string()),
    trustRoots: z.array(z.string().regex(/^[0-9a-f]{64}$/)).optional(),
  }),
});

export interface LedgerToken extends IssuedToken {
  readonly createdMs: number;
  readonly expiresMs: number;
  readonly terms: Terms;
}

/** One line of the audit. Never a secret. */
export interface AuditLine {
  readonly action: 'token' | 'join' | 'leave' | 'revoke' | 'authority' | 'renew' | 'trust';
  readonly outcome: 'done' | 'refused';
  readonly cluster?: string;
  readonly token?: string;
  readonly code?: ErrorCode;
  readonly detail?: string;
}

const certificateSchema = z.object({ member: z.string(), serial: z.string().regex(/^[0-9a-f]+$/) });

const parsed = (line: string): unknown => {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
};

const syncDirectory = (dir: string): void => {
  const file = openSync(dir, 'r');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
};

const writeOnce = (dir: string, name: string, text: string): boolean => {
  let file: number;
  try {
    file = openSync(join(dir, name), 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  try {
    writeFileSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  syncDirectory(dir);
  return true;
};

export class Ledger {
  readonly #dir: string;
  readonly #tokens: string;

  constructor(authorityDir: string) {
    this.#dir = authorityDir;
    this.#tokens = join(authorityDir, 'tokens');
  }

  /** @throws Error when the id is there already, which no random one is */
  issue(token: LedgerToken): void {
    mkdirSync(this.#tokens, { recursive: true, mode: 0o700 });
    const { id, clusterset, cluster, createdMs, expiresMs, terms } = token;
    const verifier = Buffer.from(token.verifier).toString('hex');
    const text = `${JSON.stringify({ id, clusterset, cluster, verifier, createdMs, expiresMs, terms }, null, 2)}\n`;
    if (!writeOnce(this.#tokens, `${id}.json`, text)) throw new Error(`ledger: token ${id} is there already`);
  }

  /** @throws IsthmusError token/unknown, files/invalid */
  token(id: string): LedgerToken {
    const path = join(this.#tokens, `${id}.json`);
    if (!isTokenId(id) || !existsSync(path)) {
      throw new IsthmusError('token/unknown', `token ${id} was not made at this desk`, {
        hint: 'approve it where "isthmus token create" was run, or make one here',
        subject: { token: id },
      });
    }
    let value: unknown;
    try {
      value = JSON.parse(readFileSync(path, 'utf8'));
    } catch {
      value = undefined;
    }
    const read = issuedSchema.safeParse(value);
    if (!read.success || read.data.id !== id) throw new IsthmusError('files/invalid', `"${path}" is damaged`);
    return { ...read.data, verifier: new Uint8Array(Buffer.from(read.data.verifier, 'hex')) };
  }

  tokens(): readonly LedgerToken[] {
    if (!existsSync(this.#tokens)) return [];
    const ids = readdirSync(this.#tokens).flatMap((name) => (name.endsWith('.json') ? [name.slice(0, -5)] : []));
    return ids.map((id) => this.token(id)).sort((a, b) => a.createdMs - b.createdMs);
  }

  /** Why a token is used up; undefined: it is not. */
  used(id: string): string | undefined {
    const path = join(this.#tokens, `${id}.used`);
    return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
  }

  /** For ever, and before anything follows from it. @throws IsthmusError token/used for all but the first */
  use(id: string, why: string): void {
    if (writeOnce(this.#tokens, `${id}.used`, `${new Date(realClock.wallMs()).toISOString()} ${why}\n`)) return;
    throw usedError(id, this.used(id) ?? '');
  }

  /** A certificate that was issued for etcd, for the day when it must be revoked. Serial in hexadecimal. */
  certificate(member: string, serial: string): void {
    this.#append('certificates.jsonl', { member, serial });
  }

  certificates(member: string): readonly string[] {
    const path = join(this.#dir, 'certificates.jsonl');
    if (!existsSync(path)) return [];
    const lines = readFileSync(path, 'utf8').split('\n');
    return lines.flatMap((line) => {
      if (line === '') return [];
      const read = certificateSchema.safeParse(parsed(line));
      return read.success && read.data.member === member ? [read.data.serial] : [];
    });
  }

  /** Synced before it returns. */
  audit(line: AuditLine): void {
    this.#append('audit.jsonl', line);
  }

  #append(name: string, line: object): void {
    const at = new Date(realClock.wallMs()).toISOString();
    const path = join(this.#dir, name);
    const fresh = !existsSync(path);
    const file = openSync(path, 'a', 0o600);
    try {
      appendFileSync(file, `${JSON.stringify({ at, ...line })}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    if (fresh) syncDirectory(this.#dir);
  }
}

export const usedError = (id: string, why: string): IsthmusError =>
  new IsthmusError('token/used', `token ${id} was used already${why === '' ? '' : `: ${why}`}`, {
    hint: 'a token works once; make a new one (isthmus token create)',
    subject: { token: id },
  });
