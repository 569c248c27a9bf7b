/**
 * One HTTP/1.1 request on a plain socket: enough of the protocol to read our own server's answers, and cheap enough for
 * hundreds of connections a second. node:http's client costs three times as much and hides when the connection was made.
 */
import { connect, type Socket } from 'node:net';

export interface Target {
  readonly host: string;
  readonly port: number;
  readonly name: string;
}

export interface Answer {
  readonly status: number;
  readonly body: string;
}

const headBytesMax = 16 * 1024;

/** Reads one answer off a socket. `done` is called once, with an answer or the reason why there is none. */
export const readAnswer = (
  socket: Socket,
  done: (answer: Answer | undefined, error: string | undefined) => void,
): (() => void) => {
  let text = '';
  const stop = (): void => {
    socket.off('data', data);
    socket.off('end', ended);
    socket.off('close', ended);
    socket.off('error', failed);
  };
  const finish = (answer: Answer | undefined, error: string | undefined): void => {
    stop();
    done(answer, error);
  };
  const data = (chunk: Buffer): void => {
    text += chunk.toString('latin1');
    const head = text.indexOf('\r\n\r\n');
    if (head < 0) {
      if (text.length > headBytesMax) finish(undefined, 'answer too long');
      return;
    }
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0);
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(text.slice(0, head + 2))?.[1] ?? 0);
    if (status === 0) finish(undefined, 'not HTTP');
    else if (text.length >= head + 4 + length)
      finish({ status, body: text.slice(head + 4, head + 4 + length).trim() }, undefined);
  };
  const ended = (): void => finish(undefined, text === '' ? 'closed before an answer' : 'closed within the answer');
  const failed = (error: NodeJS.ErrnoException): void => finish(undefined, error.code ?? error.message);
  socket.on('data', data);
  socket.on('end', ended);
  socket.on('close', ended);
  socket.on('error', failed);
  return stop;
};

export const requestText = (target: Target, close: boolean): string =>
  `GET / HTTP/1.1\r\nHost: ${target.name}\r\n${close ? 'Connection: close\r\n' : ''}\r\n`;

export const open = (target: Target): Socket => {
  const socket = connect({ host: target.host, port: target.port, noDelay: true });
  // Errors are read by whoever waits for an answer; late ones mean nothing.
  socket.on('error', () => {});
  return socket;
};
