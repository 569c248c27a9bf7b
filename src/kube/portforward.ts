/**
 * A local port that leads to a port of a pod, through the Kubernetes API: RBAC decides who may, and nothing of the cluster
 * needs to be reachable but its API server.
 *
 * client-node carries the bytes, one WebSocket for each connection. A local listener rather than a stream, so that any client
 * can use it; it binds to 127.0.0.1 and lives as long as the command.
 */
import { createServer, type Socket } from 'node:net';
import { Writable } from 'node:stream';
import { type KubeConfig, PortForward } from '@kubernetes/client-node';
import { IsthmusError } from '../core/errors.ts';

export interface PortForwardOptions {
  readonly kubeConfig: KubeConfig;
  readonly namespace: string;
  readonly pod: string;
  readonly port: number;
}

export interface OpenPortForward {
  /** `http://127.0.0.1:<local port>`. */
  readonly url: string;
  readonly port: number;
  /** Why the last connection failed, if it did; the local side only sees a closed connection. */
  readonly lastError: IsthmusError | undefined;
  close(): void;
}

interface Closeable {
  close(): void;
  addEventListener(type: 'close' | 'error', listener: () => void): void;
}

/** What `ws` reports when the API server answers the handshake with a status instead. */
const handshakeError = (options: PortForwardOptions, cause: unknown): IsthmusError => {
  const { namespace, pod, port } = options;
  const said = cause as { message?: unknown; error?: { message?: unknown } };
  const message = String(said.error?.message ?? said.message ?? cause);
  const status = Number(/Unexpected server response: (\d+)/.exec(message)?.[1] ?? 0);
  const what = `port ${port} of pod ${namespace}/${pod}`;
  if (status === 401 || status === 403) {
    return new IsthmusError('kube/denied', `the API server refuses to forward to ${what}: ${status}`, {
      hint: `bind the role isthmus-viewer in ${namespace} to this user`,
      subject: { status },
      cause,
    });
  }
  if (status === 404) {
    return new IsthmusError('kube/not-found', `there is no pod ${namespace}/${pod} to forward to`, {
      subject: { status },
      cause,
    });
  }
  return new IsthmusError('controller/unreachable', `forwarding to ${what} failed: ${message}`, {
    hint: `check the pod: kubectl -n ${namespace} get pod ${pod}`,
    subject: { status },
    cause,
  });
};

/** Opens the local port. Connections to the pod are made when something connects to it. */
export const openPortForward = async (options: PortForwardOptions): Promise<OpenPortForward> => {
  const { namespace, pod, port } = options;
  const sockets = new Set<Socket>();
  let lastError: IsthmusError | undefined;

  const carry = async (socket: Socket): Promise<void> => {
    const errors = new Writable({
      write: (chunk: Buffer, _, done) => {
        const text = chunk.toString('utf8').trim();
        if (text !== '') {
          lastError = new IsthmusError(
            'controller/unreachable',
            `pod ${namespace}/${pod} refused port ${port}: ${text}`,
            {
              hint: 'check that the process in the pod listens on it',
            },
          );
          socket.destroy();
        }
        done();
      },
    });
    const made = await new PortForward(options.kubeConfig).portForward(namespace, pod, [port], socket, errors, socket);
    const link = made as unknown as Closeable;
    link.addEventListener('close', () => socket.end());
    link.addEventListener('error', () => socket.destroy());
    socket.on('close', () => link.close());
    if (socket.destroyed) link.close();
    socket.resume();
  };

  const server = createServer({ allowHalfOpen: false, pauseOnConnect: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    carry(socket).catch((cause: unknown) => {
      lastError = handshakeError(options, cause);
      socket.destroy();
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const address = server.address();
  const local = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${local}`,
    port: local,
    get lastError() {
      return lastError;
    },
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
};
