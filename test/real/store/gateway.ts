/** A store gateway in front of a real etcd, in this process, and a cluster set that has one member by the authority's word. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type StoreServing, startStoreServing } from '../../../src/cli/store_serve.ts';
import { type StoreGatewayConfig, storeGatewaySchema } from '../../../src/config/store_gateway.ts';
import { openMetrics } from '../../../src/ops/metrics.ts';
import { storeKeys } from '../../../src/records/keys.ts';
import { gatewayUser } from '../../../src/store/admin.ts';
import { signMembership } from '../../../src/trust/membership.ts';
import { clusterset, member } from '../../conformance/recorder.ts';
import { authority, type TestMember, testMember } from '../../unit/trust/certificates.ts';
import type { TestEtcd } from '../etcd.ts';
import { freePorts } from '../ports.ts';

/** In ms since 1970, long after any test. */
const notAfterMs = 4_000_000_000_000;

export const enrolled = async (name: string, set: string): Promise<TestMember> =>
  testMember(name, { clusterset: set, notAfterMs });

export const membershipEntry = ({ member: of }: TestMember) => {
  const signed = signMembership(of, authority.privateKey);
  if (!signed.ok) throw signed.error;
  return { key: storeKeys(of.clusterset).member(of.name), value: signed.value };
};

const alpha = await enrolled(member, clusterset);
/** The member of the conformance rig. */
export const rigMember = { recordKey: alpha.recordKey, membership: membershipEntry(alpha) };

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

export interface TestGateway {
  readonly port: number;
  /** `https://127.0.0.1:<port>`. */
  readonly url: string;
  readonly serving: StoreServing;
  readonly lines: readonly LogLine[];
  /** The value of a metric with these labels; 0 when there is none. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>;
  close(): Promise<void>;
}

export const startTestGateway = async (
  etcd: TestEtcd,
  set: string,
  quota: Partial<StoreGatewayConfig['quota']> = {},
): Promise<TestGateway> => {
  const dir = await mkdtemp(join(tmpdir(), 'isthmus-store-gateway-'));
  const client = await etcd.client(gatewayUser(set));
  const serving = await etcd.ca.issue({ commonName: 'store gateway', ips: ['127.0.0.1'] });
  const files = {
    'etcd-ca.pem': etcd.ca.cert,
    'etcd-client.pem': client.cert,
    'etcd-client-key.pem': client.key,
    'serving.pem': serving.cert,
    'serving-key.pem': serving.key,
    'ca-key.pem': etcd.ca.key,
    'authority.pem': authority.publicKey.export({ type: 'spki', format: 'pem' }),
  };
  for (const [name, content] of Object.entries(files)) await writeFile(join(dir, name), content, { mode: 0o600 });
  const [port, metricsPort, healthPort] = await freePorts(3);
  const config = storeGatewaySchema.parse({
    clusterset: set,
    dir,
    etcd: { endpoints: etcd.endpoints },
    issue: { caKeyFile: 'ca-key.pem', ttlS: 3_600 },
    listen: {
      address: `127.0.0.1:${port}`,
      metricsAddress: `127.0.0.1:${metricsPort}`,
      healthAddress: `127.0.0.1:${healthPort}`,
    },
    quota,
  });
  const lines: LogLine[] = [];
  const metrics = openMetrics('test', 'store-gateway');
  const running = await startStoreServing(
    config,
    (level, message, fields = {}) => lines.push({ level, message, fields }),
    metrics,
  );
  for (const end = performance.now() + 20_000; running.writes.dark !== '' && performance.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    port: running.port,
    url: `https://127.0.0.1:${running.port}`,
    serving: running,
    lines,
    metric: async (name, labels = {}) => {
      const line = (await metrics.text())
        .split('\n')
        .find((one) => one.startsWith(name) && Object.entries(labels).every(([k, v]) => one.includes(`${k}="${v}"`)));
      return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(' ') + 1));
    },
    close: async () => {
      await running.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
};
