/** An API server with everything that ships with Isthmus, and the controller's own account. */
import { type KubeApi, openKubeApi } from '../../../src/kube/api.ts';
import { type ConditionKind, type ConditionsWriter, openConditionWriter } from '../../../src/kube/condition_writer.ts';
import { type Discovery, startDiscovery } from '../../../src/kube/discovery.ts';
import { openEvents } from '../../../src/kube/events.ts';
import { applyObjects, shippedManifests } from '../../../src/kube/install.ts';
import type { ConditionTarget } from '../../../src/kube/objects.ts';
import { realClock } from '../../../src/ops/clock.ts';
import { type ApiServer, startApiServer } from '../apiserver.ts';
import { eventually, world } from './objects.ts';

export const policiesPath = '/apis/isthmus.dev/v1alpha1/namespaces/shop/failoverpolicies';

export interface SeenEvent {
  readonly reason: string;
  readonly type: string;
  readonly note: string;
  readonly eventTime: string;
  readonly regarding: { readonly kind: string; readonly name: string };
}

export interface Installed {
  readonly server: ApiServer;
  readonly make: ReturnType<typeof world>;
  /** As the controller's account. */
  readonly controller: KubeApi;
  install(): Promise<void>;
  policiesServed(): Promise<boolean>;
  /** A complete discovery with the controller's rights. */
  discover(): Promise<Discovery>;
  conditions(
    kind: ConditionKind,
    objects: ReadonlyMap<string, ConditionTarget>,
    more?: { isWriter?: () => boolean; onPatch?: () => void },
  ): ConditionsWriter;
  /** Of one object, oldest first. */
  events(kind: string, name: string): Promise<readonly SeenEvent[]>;
  /** Closes what a test opened. */
  closeOpened(): Promise<void>;
  keep<T extends { close(): unknown }>(made: T): T;
  stop(): Promise<void>;
}

export const startInstalled = async (): Promise<Installed> => {
  const server = await startApiServer({ authorization: 'RBAC' });
  const make = world(server);
  const admin = openKubeApi(server.kubeConfig, realClock);
  const opened: { close(): unknown }[] = [];
  const keep = <T extends { close(): unknown }>(made: T): T => {
    opened.push(made);
    return made;
  };
  const log = () => {};
  const policiesServed = () =>
    server.call('GET', policiesPath).then(
      () => true,
      () => false,
    );
  const install = async (): Promise<void> => {
    await applyObjects(admin, await shippedManifests());
    await eventually('the kind is served', policiesServed);
  };
  const closeOpened = async (): Promise<void> => {
    for (const each of opened.splice(0).reverse()) await each.close();
  };
  try {
    await install();
    await make.namespace('shop', { 'istio.io/dataplane-mode': 'ambient' });
    const { status } = await server.call<{ status: { token: string } }>(
      'POST',
      '/api/v1/namespaces/isthmus-system/serviceaccounts/isthmus-controller/token',
      { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { expirationSeconds: 3_600 } },
    );
    const kubeConfig = server.configFor({ token: status.token });
    const controller = openKubeApi(kubeConfig, realClock);
    const identity = 'isthmus-controller-0';
    return {
      server,
      make,
      controller,
      install,
      policiesServed,
      keep,
      closeOpened,
      discover: async () => {
        let complete = false;
        const onChange = () => {
          complete = true;
        };
        const discovery = keep(startDiscovery({ kubeConfig, clock: realClock, log, defaultMode: 'gateway', onChange }));
        await eventually('complete', () => complete);
        return discovery;
      },
      conditions: (kind, objects, { isWriter = () => true, onPatch = () => {} } = {}) =>
        keep(
          openConditionWriter({
            api: {
              request: (each) => {
                if (each.method === 'PATCH') onPatch();
                return controller.request(each);
              },
            },
            clock: realClock,
            log,
            kind,
            objects,
            isWriter,
            events: keep(openEvents({ api: controller, clock: realClock, log, identity })),
          }),
        ),
      events: async (kind, name) => {
        const path = '/apis/events.k8s.io/v1/namespaces/shop/events';
        const { items } = await server.call<{ items: SeenEvent[] }>('GET', path);
        return items
          .filter(({ regarding }) => regarding.kind === kind && regarding.name === name)
          .sort((a, b) => (a.eventTime < b.eventTime ? -1 : 1));
      },
      stop: async () => {
        await closeOpened();
        admin.close();
        controller.close();
        await server.stop();
      },
    };
  } catch (error) {
    admin.close();
    await server.stop();
    throw error;
  }
};
