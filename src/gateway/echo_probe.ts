/**
 * A connection to an Envoy's echo listener, over which one byte goes out and comes back. Kept open: a byte costs both sides
 * next to nothing, so that it can be sent twenty times a second.
 */
import { connect, type Socket } from 'node:net';

export class EchoProbe {
  readonly #path: string;
  readonly #answered: () => void;
  #socket: Socket | undefined;

  /** `answered` is called once for each byte that comes back. */
  constructor(path: string, answered: () => void) {
    this.#path = path;
    this.#answered = answered;
  }

  /** Sends a byte, over a new connection when there is none. Errors show as silence. */
  send(): void {
    this.#open().write('.');
  }

  close(): void {
    this.#socket?.destroy();
    this.#socket = undefined;
  }

  #open(): Socket {
    if (this.#socket !== undefined) return this.#socket;
    const socket = connect({ path: this.#path });
    this.#socket = socket;
    socket.on('data', (bytes) => {
      if (this.#socket === socket && bytes.length > 0) this.#answered();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      if (this.#socket === socket) this.#socket = undefined;
    });
    return socket;
  }
}
