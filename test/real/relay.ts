/**
 * A TCP relay on loopback that breaks connections in the ways a network can: refuse, reset, swallow (half-open), and cut
 * after so many bytes towards the client.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

export interface Relay {
  readonly port: number;
  /** `https://127.0.0.1:<port>`. */
  readonly url: string;
  /** Connections accepted so far. */
  readonly accepted: number;
  /** New connections are reset at once; open ones stay. */
  refuse(on: boolean): void;
  /** Nothing passes either way, and nothing is closed: bytes wait in the relay's sockets until it is lifted. */
  swallow(on: boolean): void;
  /** Resets all open connections. */
  drop(): void;
  /** The next connections are each reset once they have passed so many bytes to the client. */
  cutNext(budgets: readonly number[]): void;
  /** How many connections were cut so. */
  readonly cuts: number;
  close(): Promise<void>;
}

export const startRelay = async (targetPort: number): Promise<Relay> => {
  const open = new Set<Socket>();
  let refusing = false;
  let swallowing = false;
  let budgets: number[] = [];
  let cuts = 0;
  let accepted = 0;

  const server: Server = createServer((client) => {
    if (refusing) {
      client.resetAndDestroy();
      return;
    }
    accepted += 1;
    const upstream = connect(targetPort, '127.0.0.1');
    const given = budgets.shift();
    let budget = given;
    let ended = false;
    const end = (): void => {
      // A client that gave up before its connection was cut leaves that to the next.
      if (!ended && given !== undefined && budget !== 0) budgets.unshift(given);
      ended = true;
      client.resetAndDestroy();
      upstream.destroy();
      open.delete(client);
      open.delete(upstream);
    };
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.setNoDelay(true);
      if (swallowing) socket.pause();
      socket.on('error', end);
      socket.on('close', end);
    }
    client.on('data', (chunk) => {
      upstream.write(chunk);
    });
    upstream.on('data', (chunk: Buffer) => {
      if (budget === undefined) {
        client.write(chunk);
        return;
      }
      const passed = chunk.subarray(0, budget);
      budget -= passed.length;
      client.write(passed, () => {
        if (budget !== 0) return;
        cuts += 1;
        end();
      });
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as { port: number };
  return {
    port,
    url: `https://127.0.0.1:${port}`,
    get accepted() {
      return accepted;
    },
    refuse: (on) => {
      refusing = on;
    },
    swallow: (on) => {
      swallowing = on;
      for (const socket of open) {
        if (on) socket.pause();
        else socket.resume();
      }
    },
    drop: () => {
      for (const socket of open) socket.resetAndDestroy();
    },
    cutNext: (next) => {
      budgets = [...next];
    },
    get cuts() {
      return cuts;
    },
    close: async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};
