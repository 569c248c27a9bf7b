/**
 * Who asks: the name by which the API server knows the caller, since that is who was let in; by hand, without one, the user of this
 * machine. It is sent along and journalled. The controller cannot check it: whoever may forward a port to it is trusted with that.
 */
import { hostname, userInfo } from 'node:os';
import { IsthmusError } from '../core/errors.ts';
import type { ReachOptions } from './reach.ts';

const localUser = (): string => {
  let name: string;
  try {
    name = userInfo().username;
  } catch {
    name = `uid-${process.getuid?.() ?? 'unknown'}`;
  }
  return `${name}@${hostname()}`;
};

interface SelfReview {
  readonly status?: { readonly userInfo?: { readonly username?: string } };
}

export const authorOf = async (options: ReachOptions): Promise<string> => {
  if (options.controller !== undefined && options.controller.length > 0) return localUser();
  const [{ openKubeApi }, { loadKubeConfig }, { realClock }] = await Promise.all([
    import('../kube/api.ts'),
    import('../kube/client.ts'),
    import('../ops/clock.ts'),
  ]);
  const { kubeconfig, context } = options;
  const kubeConfig = loadKubeConfig({ kubeconfig, context });
  const api = openKubeApi(kubeConfig, realClock);
  try {
    const review = (await api.request({
      method: 'POST',
      path: '/apis/authentication.k8s.io/v1/selfsubjectreviews',
      body: { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' },
    })) as SelfReview;
    const name = review.status?.userInfo?.username ?? '';
    return name === '' ? localUser() : name;
  } catch (error) {
    // API servers older than 1.28, and users who may not even ask who they are.
    if (error instanceof IsthmusError && (error.code === 'kube/not-found' || error.code === 'kube/denied'))
      return localUser();
    throw error;
  } finally {
    api.close();
  }
};
