/**
 * Where the responses of one stream go out: one write at a time, and nothing that is shared is copied.
 *
 * grpc-js copies every message behind a five-byte prefix of its own, once per stream: with a thousand proxies a first push of three
 * megabytes would be three gigabytes waiting in buffers. So the prefix is put in front once per message, and the bytes
 * are written to the HTTP/2 stream below grpc-js, where all streams share them. That stream is a private field; where it is not found
 * (another version of grpc-js), messages go the ordinary way and are only dearer.
 */
import { constants, type ServerHttp2Stream } from 'node:http2';
import { Metadata, type ServerDuplexStream } from '@grpc/grpc-js';

export type DiscoveryCall = ServerDuplexStream<Buffer, Buffer>;

const prefixed = new WeakMap<Buffer, Buffer>();

const withPrefix = (message: Buffer): Buffer => {
  let framed = prefixed.get(message);
  if (framed === undefined) {
    framed = Buffer.allocUnsafeSlow(message.length + 5);
    framed.writeUInt8(0, 0);
    framed.writeUInt32BE(message.length, 1);
    message.copy(framed, 5);
    prefixed.set(message, framed);
  }
  return framed;
};

const http2StreamOf = (call: DiscoveryCall): ServerHttp2Stream | undefined => {
  let layer = (call as unknown as { call?: Layer }).call;
  for (let depth = 0; layer !== undefined && depth < 8; depth++) {
    if (layer.stream?.respond !== undefined) return layer.stream;
    layer = layer.nextCall;
  }
  return undefined;
};

interface Layer {
  readonly stream?: ServerHttp2Stream;
  readonly nextCall?: Layer;
}

export class Outlet {
  readonly #call: DiscoveryCall;
  readonly #stream: ServerHttp2Stream | undefined;
  #started = false;

  constructor(call: DiscoveryCall) {
    this.#call = call;
    this.#stream = http2StreamOf(call);
    this.#stream?.on('error', () => {});
  }

  /** True when messages are shared with other streams instead of copied. */
  get direct(): boolean {
    return this.#stream !== undefined;
  }

  /** Calls `done` once the message has left for the socket, which a closed window holds up; never after the stream's end. */
  write(message: Buffer, done: () => void): void {
    if (this.#stream === undefined) {
      this.#call.write(message, (error: unknown) => {
        if (error === null || error === undefined) done();
      });
      return;
    }
    if (!this.#started) {
      this.#started = true;
      this.#call.sendMetadata(new Metadata());
    }
    if (this.#stream.destroyed || this.#stream.closed || this.#stream.writableEnded) return;
    this.#stream.write(withPrefix(message), (error) => {
      if (error === null || error === undefined) done();
    });
  }

  /** Ends the stream without waiting for anything that is still to be written. */
  reset(): void {
    if (this.#stream !== undefined) this.#stream.close(constants.NGHTTP2_CANCEL);
    else this.#call.destroy();
  }
}
