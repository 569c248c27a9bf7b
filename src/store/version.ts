/**
 * Which etcd may be trusted with members' names. Older ones let any user read past its range or skip key permissions
 * altogether, so that "a member writes under its own name only" would not hold.
 *
 * `Maintenance.Status` names the version, but servers differ in whom they answer once authentication is on: some answer
 * root alone. `GET /version` on the same port answers every client whose certificate the server accepts, so it is asked
 * when Status refuses.
 */
import { request } from 'node:https';
import { IsthmusError } from '../core/errors.ts';

interface Release {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
}

const holes = 'CVE-2026-33343, CVE-2026-33413 and CVE-2026-73499';

/** The first safe patch of each line; lines below the first are never safe, lines above the last always are. */
const safe: readonly Release[] = [
  { major: 3, minor: 5, patch: 33 },
  { major: 3, minor: 6, patch: 14 },
  { major: 3, minor: 7, patch: 1 },
];

const safeText = safe.map((r) => `${r.major}.${r.minor}.${r.patch}`).join(', ');

const parse = (text: string): (Release & { readonly preRelease: boolean }) | undefined => {
  const match = /^v?(\d{1,4})\.(\d{1,4})\.(\d{1,4})(-[0-9A-Za-z.-]+)?(\+.*)?$/.exec(text);
  if (match === null) return undefined;
  return {
    major: Number(match[1]),
    minor: Number(match[2]),
    patch: Number(match[3]),
    preRelease: match[4] !== undefined,
  };
};

/** True when members cannot get past their permissions by the known holes. Text that is no version is unsafe. */
export const isSafeVersion = (text: string): boolean => {
  const found = parse(text);
  if (found === undefined) return false;
  const line = safe.find((r) => r.major === found.major && r.minor === found.minor);
  if (line !== undefined) return found.patch > line.patch || (found.patch === line.patch && !found.preRelease);
  const last = safe[safe.length - 1]!;
  return found.major > last.major || (found.major === last.major && found.minor > last.minor);
};

export const unsafeVersionError = (version: string | undefined, endpoint: string): IsthmusError =>
  new IsthmusError(
    'store/too-old',
    version === undefined
      ? `etcd ${endpoint} does not tell its version, so it may have the authorization holes ${holes}`
      : `etcd ${endpoint} is version ${version}, which has the authorization holes ${holes}: a member could read or write under another's name`,
    {
      hint: `upgrade etcd to ${safeText} or later; to accept the risk, set store.allowUnsafeVersion: true`,
      subject: { endpoint, version: version ?? 'unknown' },
    },
  );

const versionBytesMax = 4096;

/**
 * Asks `GET /version`. Undefined when the endpoint does not answer it (its HTTP may be on another port, or off).
 */
export const askVersion = (
  endpoint: string,
  tls: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer },
  timeoutMs: number,
): Promise<string | undefined> =>
  new Promise((resolve) => {
    const ask = request(new URL('/version', endpoint), { ...tls, agent: false, timeout: timeoutMs }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > versionBytesMax) ask.destroy();
      });
      response.on('end', () => resolve(response.statusCode === 200 ? serverVersion(text) : undefined));
    });
    const guard = setTimeout(() => ask.destroy(), timeoutMs);
    ask.on('timeout', () => ask.destroy());
    ask.on('error', () => resolve(undefined));
    ask.on('close', () => {
      clearTimeout(guard);
      resolve(undefined);
    });
    ask.end();
  });

const serverVersion = (text: string): string | undefined => {
  try {
    const parsed: unknown = JSON.parse(text);
    const version = (parsed as { etcdserver?: unknown } | null)?.etcdserver;
    return typeof version === 'string' ? version : undefined;
  } catch {
    return undefined;
  }
};
