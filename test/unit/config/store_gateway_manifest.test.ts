/** That deploy/store-gateway.yaml runs what there is: its command, files, ports, paths and labels. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, Option } from 'commander';
import { describe, expect, it } from 'vitest';
import { parseAllDocuments, stringify } from 'yaml';
import { membershipCommands } from '../../../src/cli/membership_commands.ts';
import { loadStoreGateway } from '../../../src/config/load.ts';
import { type StoreGatewayConfig, storeGatewayFile } from '../../../src/config/store_gateway.ts';
import { healthRoute } from '../../../src/ops/http.ts';

interface Labels {
  readonly [name: string]: string;
}
interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
}
interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly automountServiceAccountToken?: boolean;
  readonly spec: {
    readonly replicas: number;
    readonly selector: Labels & { readonly matchLabels: Labels };
    readonly ports: readonly { readonly port: number; readonly targetPort: string }[];
    readonly externalTrafficPolicy: string;
    readonly template: { readonly metadata: { readonly labels: Labels }; readonly spec: Pod };
  };
}
interface Pod {
  readonly serviceAccountName: string;
  readonly automountServiceAccountToken: boolean;
  readonly containers: readonly {
    readonly command: readonly string[];
    readonly args: readonly string[];
    readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
    readonly readinessProbe: Probe;
    readonly livenessProbe: Probe;
    readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly subPath?: string }[];
  }[];
  readonly volumes: readonly { readonly name: string; readonly secret: { readonly items?: unknown } }[];
}

const text = readFileSync(new URL('../../../deploy/store-gateway.yaml', import.meta.url), 'utf8');
const manifests = parseAllDocuments(text).map((document) => document.toJS() as Manifest);
const of = (kind: string): Manifest => manifests.find((manifest) => manifest.kind === kind)!;
const { replicas, selector, template } = of('Deployment').spec;
const [container] = template.spec.containers;
const { args, ports, volumeMounts, readinessProbe, livenessProbe } = container!;

/** The configuration with which the container runs, from a directory as the desk writes it. */
const config = (): StoreGatewayConfig => {
  const sets = args.flatMap((arg, i) => (args[i - 1] === '--set' ? [arg] : []));
  const dir = mkdtempSync(join(tmpdir(), 'isthmus-manifest-'));
  try {
    const desk = { clusterset: 'demo', etcd: { endpoints: ['https://etcd.example:2379'] } };
    writeFileSync(join(dir, storeGatewayFile), stringify(desk));
    const loaded = loadStoreGateway({
      environment: {},
      sets: sets.map((set) => (set.startsWith('dir=') ? `dir=${dir}` : set)),
    });
    const said = sets.find((set) => set.startsWith('dir='))?.slice('dir='.length);
    return { ...loaded, dir: said ?? loaded.dir };
  } finally {
    rmSync(dir, { recursive: true });
  }
};
const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1));

describe('deploy/store-gateway.yaml', () => {
  it('runs a command that there is, with its flags', () => {
    const program = new Command('isthmus');
    membershipCommands(program, () => new Option('-o, --output <format>'));
    const flags = args.filter((arg, i) => arg.startsWith('-') && args[i - 1] !== '--set');
    const words = args.slice(0, args.indexOf(flags[0]!));
    let command: Command | undefined = program;
    for (const word of words) command = command?.commands.find((one) => one.name() === word);
    expect([container!.command, words, command?.name()]).toEqual([['isthmus'], ['store', 'serve'], 'serve']);
    const known = command!.options.map(({ long }) => long);
    expect(flags.filter((flag) => !known.includes(flag))).toEqual([]);
  });

  it('mounts the directory that the configuration reads, whole, so that replaced files arrive', () => {
    const { dir, listen, etcd, authorityFile } = config();
    const mount = volumeMounts.find(({ mountPath }) => mountPath === dir)!;
    expect(mount.subPath).toBeUndefined();
    expect(template.spec.volumes.find(({ name }) => name === mount.name)?.secret.items).toBeUndefined();
    const files = [authorityFile, etcd.caFile, etcd.certFile, etcd.keyFile, listen.certFile, listen.keyFile];
    expect(files.filter((file) => file.includes('/'))).toEqual([]);
  });

  it('names the ports on which it listens, and asks paths that are served', async () => {
    const { listen } = config();
    expect(Object.fromEntries(ports.map(({ name, containerPort }) => [name, containerPort]))).toEqual({
      store: portOf(listen.address),
      metrics: portOf(listen.metricsAddress),
      health: portOf(listen.healthAddress),
    });
    const route = healthRoute({ tasks: new Map([['etcd', () => 'dark']]) });
    const asked = await Promise.all(
      [readinessProbe, livenessProbe].map(async ({ httpGet: { path, port } }) => {
        const reply = await route(path, new URLSearchParams(), new AbortController().signal);
        return [port, reply?.status];
      }),
    );
    expect(asked).toEqual([
      ['health', 503],
      ['health', 200],
    ]);
    const { ports: served, externalTrafficPolicy } = of('Service').spec;
    expect(served).toMatchObject([{ port: portOf(listen.address), targetPort: 'store' }]);
    expect(externalTrafficPolicy).toBe('Local');
  });

  it('chooses its own pods everywhere, and has no token', () => {
    expect(replicas).toBe(2);
    expect(template.metadata.labels).toMatchObject(selector.matchLabels);
    expect(of('Service').spec.selector).toEqual(selector.matchLabels);
    expect(of('PodDisruptionBudget').spec.selector.matchLabels).toEqual(selector.matchLabels);
    expect(new Set(manifests.map(({ metadata }) => metadata.namespace))).toEqual(new Set(['isthmus-system']));
    expect(template.spec.serviceAccountName).toBe(of('ServiceAccount').metadata.name);
    expect([template.spec.automountServiceAccountToken, of('ServiceAccount').automountServiceAccountToken]).toEqual([
      false,
      false,
    ]);
  });
});
