/** A TCP relay on loopback that can refuse, cut or silently swallow: a network between a client and the API server. */
import { connect, createServer, type Socket } from 'node:net';

export interface Relay {
  readonly port: number;
  /** pass: as a wire. refuse: closes at once. hole: accepts and swallows both ways, without a word. */
  mode(next: 'pass' | 'refuse' | 'hole'): void;
  /** Breaks every open connection with a reset. */
  cut(): void;
  readonly open: number;
  close(): Promise<void>;
}

export const startRelay = async (target: number): Promise<Relay> => {
  let mode: 'pass' | 'refuse' | 'hole' = 'pass';
  const sockets = new Set<Socket>();
  const keep = (socket: Socket, other: () => Socket | undefined) => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('data', (chunk) => {
      if (mode !== 'hole') other()?.write(chunk);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      sockets.delete(socket);
      if (mode !== 'hole') other()?.destroy();
    });
  };
  const server = createServer((client) => {
    if (mode === 'refuse') return void client.resetAndDestroy();
    const upstream = mode === 'hole' ? undefined : connect(target, '127.0.0.1');
    keep(client, () => upstream);
    if (upstream) keep(upstream, () => client);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    mode: (next) => {
      mode = next;
    },
    cut: () => {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    get open() {
      return sockets.size;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};
