import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gatewaySchema } from '../../../src/config/gateway.ts';
import { configJsonSchema, environmentName, loadConfig, loadWith } from '../../../src/config/load.ts';
import { IsthmusError } from '../../../src/core/errors.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'isthmus-config-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const least = ['clusterset=demo', 'member=us-east', 'network=net-a', 'store.endpoints=https://10.0.0.1:2379'];
const load = (sets: string[], environment: Record<string, string> = {}, file?: string) =>
  loadConfig({ environment, sets, file });
const refusal = (run: () => unknown): IsthmusError => {
  try {
    run();
  } catch (error) {
    if (error instanceof IsthmusError) return error;
    throw error;
  }
  throw new Error('it was accepted');
};
const file = (name: string, text: string): string => {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
};

describe('a configuration', () => {
  it('has defaults for all but its name and its store', () => {
    const config = load(least);
    expect(config.listen.tokenAddress).toBe('0.0.0.0:15012');
    expect(config.store.allowUnsafeVersion).toBe(false);
  });

  it('takes the member bundle, then the file, the environment, the flags', () => {
    file(
      'member.yaml',
      'clusterset: demo\nmember: from-bundle\nnetwork: n\nstore: {endpoints: ["https://10.0.0.9:2379"]}\n',
    );
    const path = file('c.yaml', 'member: from-file\npublish: {heartbeatMs: 700}\nlog: {level: warn}\n');
    const bundle = [`memberDir=${dir}`];
    expect(load(bundle).member).toBe('from-bundle');
    expect(load(bundle, {}, path).member).toBe('from-file');
    expect(load(bundle, { ISTHMUS_MEMBER: 'from-env' }, path).member).toBe('from-env');
    const last = load([...bundle, 'member=from-flag'], { ISTHMUS_MEMBER: 'from-env' }, path);
    expect(last).toMatchObject({ member: 'from-flag', publish: { heartbeatMs: 700 }, log: { level: 'warn' } });
    expect(last.store.endpoints).toEqual(['https://10.0.0.9:2379']);
  });

  it('reads lists and numbers from the environment', () => {
    const config = load(least, {
      ISTHMUS_STORE_ENDPOINTS: 'unused',
      ISTHMUS_FAILOVER_ORDER: 'us-west, eu-central',
      ISTHMUS_LEASE_TTL_MS: '9000',
    });
    expect(config.failover.order).toEqual(['us-west', 'eu-central']);
    expect(config.lease.ttlMs).toBe(9000);
  });

  it('passes over variables that Kubernetes sets for a Service of our name', () => {
    expect(load(least, { ISTHMUS_CONTROLLER_SERVICE_HOST: '10.96.0.7' }).member).toBe('us-east');
  });
});

describe('a wrong configuration', () => {
  const cases: [string, string[], string, RegExp][] = [
    ['a missing key', least.slice(0, 1), 'config/invalid', /"member" is missing/],
    ['an unknown key', [...least, 'stroe.endpoints=x'], 'config/unknown-key', /"stroe"/],
    ['an unknown nested key', [...least, 'lease.ttl=1'], 'config/unknown-key', /"lease\.ttl"/],
    ['a bad name', [...least, 'member=US_East'], 'config/invalid', /member "US_East" must be a DNS label/],
    ['plain http', [...least, 'store.endpoints=http://a:1'], 'config/invalid', /must be https/],
    ['a host name to listen on', [...least, 'listen.healthAddress=localhost:1'], 'config/invalid', /<ip>:<port>/],
    ['renewing too seldom', [...least, 'lease.renewMs=3000'], 'config/invalid', /at most a third/],
    ['a word for a number', [...least, 'lease.ttlMs=soon'], 'config/invalid', /lease\.ttlMs/],
    ['a flag without value', [...least, 'member'], 'usage/invalid', /<key>=<value>/],
  ];
  it.each(cases)('%s is refused by name, with the next step', (_what, sets, code, message) => {
    const error = refusal(() => load(sets));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(error.hint ?? '').not.toBe('');
  });

  it('says when a file is missing, no YAML, or no mapping', () => {
    expect(refusal(() => load(least, {}, join(dir, 'none.yaml'))).code).toBe('config/file');
    expect(refusal(() => load(least, {}, file('bad.yaml', 'a: [1\nb: }'))).message).toMatch(/is not YAML/);
    expect(refusal(() => load(least, {}, file('list.yaml', '- a\n- b\n'))).message).toMatch(/mapping/);
  });

  it('survives a file of aliases that would expand without end', () => {
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefgh'
      .split('')
      .map((n, i) => `${n}: &${n} [${Array(9).fill(`*${'abcdefg'[i]}`).join(',')}]`)
      .join('\n')}\n`;
    expect(refusal(() => load(least, {}, file('bomb.yaml', bomb))).code).toMatch(/^config\//);
  });
});

describe('schemas', () => {
  it('name variables after keys', () => expect(environmentName('store.caFile')).toBe('ISTHMUS_STORE_CA_FILE'));
  it('are JSON schemas that forbid other keys', () => {
    expect(configJsonSchema()).toMatchObject({ type: 'object', additionalProperties: false });
    expect(configJsonSchema(gatewaySchema)).toMatchObject({ type: 'object', additionalProperties: false });
  });
  it('check a gateway pod too', () => {
    const error = refusal(() =>
      loadWith(gatewaySchema, { environment: {}, sets: ['member=a', 'clusterset=b', 'pod=c', 'controllers=x'] }),
    );
    expect(error.message).toMatch(/controllers/);
  });
});
