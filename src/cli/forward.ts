/** Port-forwards to every controller pod of a cluster, through its API server. */
import { IsthmusError } from '../core/errors.ts';
import { openKubeApi } from '../kube/api.ts';
import { loadKubeConfig } from '../kube/client.ts';
import { openPortForward } from '../kube/portforward.ts';
import { realClock } from '../ops/clock.ts';
import type { ReachOptions } from './reach.ts';

interface PodList {
  readonly items?: readonly {
    readonly metadata?: { readonly name?: string };
    readonly status?: { readonly phase?: string };
  }[];
}

export interface Forwarded {
  readonly pod: string;
  readonly url: string;
  close(): void;
}

const adminPort = 15_000;

export const forwardControllers = async (options: ReachOptions): Promise<Forwarded[]> => {
  const { kubeconfig, context, namespace } = options;
  const kubeConfig = loadKubeConfig({ kubeconfig, context });
  const api = openKubeApi(kubeConfig, realClock);
  const list = (await api
    .request({
      method: 'GET',
      path: `/api/v1/namespaces/${namespace}/pods`,
      query: { labelSelector: 'app=isthmus-controller' },
    })
    .finally(() => api.close())) as PodList;
  const names = (list.items ?? []).flatMap((p) =>
    p.status?.phase === 'Running' && p.metadata?.name ? [p.metadata.name] : [],
  );
  if (names.length === 0) {
    throw new IsthmusError('controller/unreachable', `no controller runs in namespace ${namespace}`, {
      hint: `kubectl -n ${namespace} get pods -l app=isthmus-controller`,
    });
  }
  const open = await Promise.all(
    names.sort().map((pod) => openPortForward({ kubeConfig, namespace, pod, port: adminPort })),
  );
  return open.map((forward, i) => ({ pod: names[i]!, url: forward.url, close: () => forward.close() }));
};
