/**
 * Which API server, and as whom: a kubeconfig file, a context of it, or the pod's own service account.
 *
 * client-node's loader does the parsing; here it gets errors that name the file, the field and the next step. Its silent
 * fallback to http://localhost:8080 was passed over: a controller that talks to nobody must say so at start-up.
 */
import { accessSync, constants, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { IsthmusError } from '../core/errors.ts';

export interface KubeConfigOptions {
  /** Path of a kubeconfig file. Undefined: $KUBECONFIG, then the pod's service account, then ~/.kube/config. */
  readonly kubeconfig?: string | undefined;
  /** Context to use instead of the file's current one. */
  readonly context?: string | undefined;
  /** Only the pod's service account will do. */
  readonly inCluster?: boolean | undefined;
}

const serviceAccountDir = '/var/run/secrets/kubernetes.io/serviceaccount';

const readable = (path: string): boolean => {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
};

const why = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const fromFile = (path: string): KubeConfig => {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new IsthmusError('kube/config', `kubeconfig ${path} cannot be read: ${why(cause)}`, {
      hint: 'name an existing file with --kubeconfig or KUBECONFIG',
      subject: { kubeconfig: path },
      cause,
    });
  }
  const config = new KubeConfig();
  try {
    config.loadFromString(text);
    config.makePathsAbsolute(dirname(path));
  } catch (cause) {
    throw new IsthmusError('kube/config', `kubeconfig ${path} is malformed: ${why(cause)}`, {
      hint: `check it with: kubectl config view --kubeconfig ${path}`,
      subject: { kubeconfig: path },
      cause,
    });
  }
  return config;
};

const fromPod = (): KubeConfig => {
  const host = process.env.KUBERNETES_SERVICE_HOST;
  if (host === undefined || host === '' || !readable(join(serviceAccountDir, 'token'))) {
    throw new IsthmusError('kube/config', 'this process does not run in a pod with a service account token', {
      hint: 'name a kubeconfig with --kubeconfig, or mount the service account token',
      subject: { directory: serviceAccountDir },
    });
  }
  const config = new KubeConfig();
  config.loadFromCluster();
  return config;
};

const locate = (options: KubeConfigOptions): { config: KubeConfig; from: string } => {
  if (options.inCluster) return { config: fromPod(), from: 'the service account' };
  if (options.kubeconfig !== undefined) return { config: fromFile(options.kubeconfig), from: options.kubeconfig };
  const listed = (process.env.KUBECONFIG ?? '').split(delimiter).filter((path) => path !== '');
  const [first, ...rest] = listed;
  if (first !== undefined) {
    const config = fromFile(first);
    try {
      for (const path of rest) config.mergeConfig(fromFile(path), true);
    } catch (cause) {
      if (cause instanceof IsthmusError) throw cause;
      throw new IsthmusError('kube/config', `the files of KUBECONFIG do not merge: ${why(cause)}`, {
        hint: 'name one file with --kubeconfig',
        subject: { kubeconfig: listed.join(delimiter) },
      });
    }
    return { config, from: listed.join(delimiter) };
  }
  if (process.env.KUBERNETES_SERVICE_HOST && readable(join(serviceAccountDir, 'token'))) {
    return { config: fromPod(), from: 'the service account' };
  }
  const path = join(homedir(), '.kube', 'config');
  if (readable(path)) return { config: fromFile(path), from: path };
  throw new IsthmusError('kube/config', `no kubeconfig: neither KUBECONFIG, nor a pod's service account, nor ${path}`, {
    hint: 'name a file with --kubeconfig',
    subject: { kubeconfig: path },
  });
};

const check = (config: KubeConfig, from: string): void => {
  const subject = { kubeconfig: from };
  const known = config.getContexts().map((context) => context.name);
  const hint = known.length === 0 ? 'the file defines no context' : `choose one of: ${known.join(', ')}`;
  const current = config.getCurrentContext();
  if (!current) throw new IsthmusError('kube/config', `${from} names no current context`, { hint, subject });
  const context = config.getContextObject(current);
  if (!context) {
    throw new IsthmusError('kube/config', `context "${current}" is not in ${from}`, {
      hint,
      subject: { ...subject, context: current },
    });
  }
  const cluster = config.getCluster(context.cluster);
  if (!cluster) {
    throw new IsthmusError(
      'kube/config',
      `context "${current}" names cluster "${context.cluster}", which ${from} lacks`,
      {
        hint: `add the cluster to ${from}`,
        subject: { ...subject, context: current, cluster: context.cluster },
      },
    );
  }
  if (context.user && !config.getUser(context.user)) {
    throw new IsthmusError('kube/config', `context "${current}" names user "${context.user}", which ${from} lacks`, {
      hint: `add the user to ${from}`,
      subject: { ...subject, context: current, user: context.user },
    });
  }
  if (!URL.canParse(cluster.server) || !/^https?:$/.test(new URL(cluster.server).protocol)) {
    throw new IsthmusError('kube/config', `server "${cluster.server}" of context "${current}" is not an http(s) URL`, {
      hint: `correct clusters[${cluster.name}].cluster.server in ${from}`,
      subject: { ...subject, context: current, server: cluster.server },
    });
  }
};

/**
 * The configuration to reach an API server. Nothing is sent yet: that the server answers shows at the first request
 * ('kube/unavailable').
 * @throws IsthmusError 'kube/config', naming the file and the field.
 */
export const loadKubeConfig = (options: KubeConfigOptions = {}): KubeConfig => {
  const { config, from } = locate(options);
  if (options.context !== undefined) config.setCurrentContext(options.context);
  check(config, from);
  return config;
};
