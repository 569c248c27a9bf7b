/** What a controller does to know its data path: takes reports on the real port, probes, and writes down what it is told. */
import { X509Certificate } from 'node:crypto';
import type { Rng } from '../../../src/core/clock.ts';
import type { Credentials } from '../../../src/hbone/credentials.ts';
import { createDialer } from '../../../src/hbone/dialer.ts';
import type { GraySignal, PathTime, ProbeResult, TrafficWindow } from '../../../src/health/signals.ts';
import { DataPathProber } from '../../../src/probe/data_path.ts';
import { GrayProber, type GrayTarget } from '../../../src/probe/gray.ts';
import type { LocalGateway } from '../../../src/probe/local_gateways.ts';
import type { ServiceTarget } from '../../../src/probe/rotation.ts';
import type { RemoteGateway } from '../../../src/probe/single.ts';
import type { DiscoveryServer } from '../../../src/server/api.ts';
import { startServer } from '../../../src/server/grpc.ts';
import { Telemetry } from '../../../src/telemetry/collector.ts';
import { types } from '../../../src/xds/resource.ts';
import { ResourceTable } from '../../../src/xds/table.ts';
import { testClock } from '../../unit/server/rig.ts';

export interface ObserverSpec {
  /** The controller's certificate. */
  readonly credentials: Credentials;
  readonly issuer: string;
  readonly reportPort: number;
  readonly localGateways: readonly LocalGateway[];
  readonly members: ReadonlyMap<string, readonly RemoteGateway[]>;
  readonly services: readonly ServiceTarget[];
  readonly gray: readonly GrayTarget[];
  readonly path: PathTime;
  readonly authorities: ReadonlyMap<string, string>;
  readonly clusters: readonly string[];
}

export interface Observed {
  readonly probes: (ProbeResult & { readonly detail: string })[];
  readonly gray: GraySignal[];
  readonly windows: TrafficWindow[];
  readonly localFailures: string[];
  readonly problems: string[];
}

const nothing = (): Observed => ({ probes: [], gray: [], windows: [], localFailures: [], problems: [] });
const gatewayIdentity = 'spiffe://cluster.local/ns/isthmus-system/sa/isthmus-gateway';
const rng: Rng = Math.random;

export class Observer {
  #observed = nothing();
  #server: DiscoveryServer | undefined;
  #telemetry: Telemetry | undefined;
  #prober: DataPathProber | undefined;
  #gray: GrayProber | undefined;
  #accepts = true;

  async start(spec: ObserverSpec): Promise<void> {
    const dialer = createDialer({ credentials: () => spec.credentials, clock: testClock });
    const telemetry = new Telemetry({
      clock: testClock,
      accepts: () => this.#accepts,
      isMember: (name) => spec.members.has(name),
      memberOf: (identity) => /^spiffe:\/\/demo\/cluster\/([a-z-]+)$/.exec(identity)?.[1],
      serviceOf: (authority) => spec.authorities.get(authority),
      clusters: () => spec.clusters,
      ejected: () => undefined,
      ejecting: () => [],
      onWindows: (windows) => this.#observed.windows.push(...windows),
    });
    this.#telemetry = telemetry;
    telemetry.start();
    this.#server = await startServer({
      tokenListen: { host: '127.0.0.1', port: 0 },
      mtlsListen: { host: '127.0.0.1', port: spec.reportPort },
      tls: {
        cert: spec.credentials.certificatePem,
        key: spec.credentials.keyPem,
        clientRoots: spec.credentials.rootsPem,
      },
      gatewayIdentity,
      gatewayIssuers: () => [new X509Certificate(spec.issuer)],
      authenticateToken: () => Promise.reject(new Error('no tokens here')),
      tables: {
        ztunnel: new ResourceTable([types.address]),
        gateway: new ResourceTable([types.cluster]),
      },
      certificates: () => Promise.reject(new Error('no certificates here')),
      reports: telemetry,
      clock: testClock,
      rng,
      log: () => {},
    });
    const common = {
      clock: testClock,
      rng,
      dialer,
      clusterset: 'demo',
      gatewayIdentity,
      localGateways: () => spec.localGateways,
      path: () => spec.path,
    };
    this.#prober = new DataPathProber({
      ...common,
      onResult: (result, detail) => this.#observed.probes.push({ ...result, detail }),
      onLocalFailure: (detail) => this.#observed.localFailures.push(detail),
    });
    this.#prober.setMembers(spec.members);
    for (const target of spec.services) this.#prober.setService(target.service, [target]);
    this.#prober.start();
    this.#gray = new GrayProber({
      ...common,
      self: 'us-east',
      gateways: (member) => spec.members.get(member) ?? [],
      onSignal: (signal) => this.#observed.gray.push(signal),
      onProblem: (service, member, problem) => this.#observed.problems.push(`${service} ${member} ${problem ?? 'ok'}`),
    });
    for (const target of spec.gray) this.#gray.setService(target.service, target);
    this.#gray.start();
  }

  /** What came since the last call. */
  take(): Observed {
    const observed = this.#observed;
    this.#observed = nothing();
    return observed;
  }

  state() {
    return {
      standings: this.#prober?.standings() ?? [],
      border: this.#telemetry?.border.counts() ?? [],
      open: [...(this.#telemetry?.openTunnels() ?? [])],
      totals: this.#telemetry?.totals,
    };
  }

  /** As a replica that decides, or does no more. */
  accept(accepts: boolean): void {
    this.#accepts = accepts;
    if (!accepts) this.#server?.endReports();
  }

  async stop(): Promise<void> {
    this.#prober?.stop();
    this.#gray?.stop();
    this.#telemetry?.stop();
    await this.#server?.close(0);
  }
}
