/**
 * One unary call or one watch stream to etcd: the messages are protobuf-es, the transport is grpc-js. Generated stubs were
 * passed over: a method needs its path and two codecs, and that is all there is here.
 *
 * Every unary call has a deadline. grpc-js waits for a connection for ever otherwise.
 */
import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import { type Client, type ClientDuplexStream, Metadata } from '@grpc/grpc-js';

const encoder =
  <D extends DescMessage>(schema: D) =>
  (message: MessageShape<D>): Buffer => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };

const decoder =
  <D extends DescMessage>(schema: D) =>
  (bytes: Buffer): MessageShape<D> =>
    fromBinary(schema, bytes);

const pathOf = (method: { parent: { typeName: string }; name: string }): string =>
  `/${method.parent.typeName}/${method.name}`;

/** What goes beside a request, made from its very bytes. */
export type Beside = (request: Uint8Array) => Readonly<Record<string, Buffer>>;

/** Rejects with grpc-js's ServiceError. */
export const callUnary = <I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  timeoutMs: number,
  beside?: Beside,
): Promise<MessageShape<O>> =>
  new Promise((resolve, reject) => {
    const bytes = encoder(method.input)(create(method.input, request));
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(beside?.(bytes) ?? {})) metadata.set(name, value);
    client.makeUnaryRequest(
      pathOf(method),
      (value: Buffer) => value,
      decoder(method.output),
      bytes,
      metadata,
      // grpc-js subtracts its own Date.now() at once, so the deadline has to be on that clock and on no other.
      { deadline: Date.now() + timeoutMs },
      (error, response) => (error ? reject(error) : resolve(response as MessageShape<O>)),
    );
  });

/**
 * Opens a stream. `hasleader` makes etcd end it when the member that serves it loses its leader: it would stay silent and
 * look healthy otherwise, because progress is answered from the member's own memory.
 */
export const openStream = <I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodBiDiStreaming<I, O>,
): ClientDuplexStream<MessageShape<I>, MessageShape<O>> => {
  const metadata = new Metadata();
  metadata.set('hasleader', 'true');
  return client.makeBidiStreamRequest(pathOf(method), encoder(method.input), decoder(method.output), metadata);
};
