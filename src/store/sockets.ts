/**
 * TLS credentials that keep hold of their connections. Closing a grpc-js channel leaves a connection open whose other side
 * is silent: its handshake never ends, or its goodbye is never answered. While etcd is frozen, each new attempt would leave
 * one more file descriptor behind. So the sockets are remembered here, and destroyed with their session.
 *
 * This wraps grpc-js's own connector (`experimental.SecureConnector`), so that the TLS part stays grpc-js's.
 */
import type { Socket } from 'node:net';
import { ChannelCredentials, type experimental } from '@grpc/grpc-js';

type CreateConnector = Parameters<ChannelCredentials['_createSecureConnector']>;

export class OwnedCredentials extends ChannelCredentials {
  private readonly inner: ChannelCredentials;
  private readonly sockets = new Set<Socket>();
  private destroyed = false;

  constructor(inner: ChannelCredentials) {
    super();
    this.inner = inner;
  }

  /** Ends all connections at once, those that are still being made too. */
  destroy(): void {
    this.destroyed = true;
    for (const socket of this.sockets) socket.destroy();
    this.sockets.clear();
  }

  override _isSecure(): boolean {
    return this.inner._isSecure();
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(...args: CreateConnector): experimental.SecureConnector {
    const inner = this.inner._createSecureConnector(...args);
    return {
      connect: (socket) => {
        if (this.destroyed) {
          socket.destroy();
          return Promise.reject(new Error('the connection was given up'));
        }
        this.sockets.add(socket);
        socket.once('close', () => this.sockets.delete(socket));
        return inner.connect(socket);
      },
      waitForReady: () => inner.waitForReady(),
      getCallCredentials: () => inner.getCallCredentials(),
      destroy: () => inner.destroy(),
    };
  }
}
