/**
 * One proxy's stream: feeds its requests to the subscription machine and writes what the machine has due, one response at
 * a time. A proxy that does not read holds up its own stream only, with one response in the connection and names, not
 * messages, waiting; after `limits.slowStreamTimeoutMs` it is cut and may come back.
 */
import type { Clock, Timer } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import type { Aliases } from '../xds/aliases.ts';
import { decodeDeltaRequest } from '../xds/decode.ts';
import { StreamSubscriptions } from '../xds/stream.ts';
import type { ResourceTable } from '../xds/table.ts';
import type { ProxyStatus, Role, ServerHooks, ServerLog } from './api.ts';
import { grpcStatus } from './grpc_status.ts';
import { type DiscoveryCall, Outlet } from './outlet.ts';

export interface StreamOptions {
  readonly role: Role;
  readonly table: ResourceTable;
  readonly aliases: Aliases | undefined;
  /** The reason why a node id is not the caller's own; undefined when it is. */
  checkNode(nodeId: string): IsthmusError | undefined;
  readonly clock: Clock;
  readonly log: ServerLog;
  readonly hooks: ServerHooks;
  closed(stream: DiscoveryStream): void;
}

const farewellMs = 5_000;

export class DiscoveryStream {
  readonly #call: DiscoveryCall;
  readonly #outlet: Outlet;
  readonly #options: StreamOptions;
  readonly #subscriptions: StreamSubscriptions;
  readonly #connectedSinceMs: number;
  #nodeId: string | undefined;
  #writingSinceMs: number | undefined;
  #wake: Timer | undefined;
  #wakeAtMs = 0;
  #ended = false;
  #closed = false;
  #error: IsthmusError | undefined;

  constructor(call: DiscoveryCall, options: StreamOptions) {
    this.#call = call;
    this.#outlet = new Outlet(call);
    this.#options = options;
    this.#subscriptions = new StreamSubscriptions(options.table, options.aliases);
    this.#connectedSinceMs = options.clock.wallMs();
    options.hooks.opened?.(options.role);
    call.on('data', (bytes: Buffer) => this.#receive(bytes));
    call.on('end', () => this.end());
    call.on('cancelled', () => this.#close());
    call.on('close', () => this.#close());
    call.on('error', () => {});
  }

  /** Writes what is due. Cheap when nothing is. */
  flush(): void {
    if (this.#ended || this.#nodeId === undefined || this.#writingSinceMs !== undefined) return;
    const { clock, hooks, role } = this.#options;
    const nowMs = clock.monotonicMs();
    const push = this.#subscriptions.next(nowMs);
    if (this.#subscriptions.overrun) {
      this.fail(new IsthmusError('xds/slow', 'more has changed than is remembered', { hint: 'reconnect' }));
      return;
    }
    if (push === undefined) {
      this.#sleep(this.#subscriptions.wakeAt(), nowMs);
      return;
    }
    this.#writingSinceMs = nowMs;
    this.#outlet.write(push.bytes, this.#written);
    hooks.pushed?.(role, push.typeUrl, push.items.length, push.bytes.length);
  }

  /** Cuts a proxy that has not taken a response for too long. */
  checkSlow(nowMs: number): void {
    const since = this.#writingSinceMs;
    if (since === undefined || this.#closed || nowMs - since < limits.slowStreamTimeoutMs) return;
    this.#error = new IsthmusError('xds/slow', `nothing was read for ${Math.round(nowMs - since)} ms`);
    this.#options.log('warn', 'proxy too slow, stream cut', { node: this.#nodeId, error: this.#error });
    this.#outlet.reset();
    this.#close();
  }

  /** Ends in good order: the proxy connects again at once. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#call.end();
    this.#resetLater();
  }

  fail(error: IsthmusError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    this.#options.log('warn', 'discovery stream refused', { node: this.#nodeId, error });
    this.#call.emit('error', grpcStatus(error));
    this.#resetLater();
  }

  status(): ProxyStatus | undefined {
    if (this.#nodeId === undefined) return undefined;
    const types = this.#subscriptions.status();
    return {
      nodeId: this.#nodeId,
      role: this.#options.role,
      address: this.#call.getPeer(),
      connectedSinceMs: this.#connectedSinceMs,
      synced: types.length > 0 && types.every((type) => type.synced),
      slow: this.#writingSinceMs !== undefined && this.#options.clock.monotonicMs() - this.#writingSinceMs > 1_000,
      types,
    };
  }

  readonly #written = (): void => {
    this.#writingSinceMs = undefined;
    this.flush();
  };

  #receive(bytes: Buffer): void {
    if (this.#ended) return;
    const { hooks, role, clock, log } = this.#options;
    const decoded = decodeDeltaRequest(bytes);
    if (!decoded.ok) {
      this.fail(decoded.error);
      return;
    }
    const request = decoded.value;
    const wrongNode = this.#checkNode(request.nodeId);
    if (wrongNode !== undefined) {
      this.fail(wrongNode);
      return;
    }
    const answer = this.#subscriptions.request(request, clock.wallMs());
    if (!answer.ok) {
      this.fail(answer.error);
      return;
    }
    if (answer.value.kind === 'ack') hooks.acked?.(role, request.typeUrl);
    if (answer.value.kind === 'nack') {
      const resources = answer.value.failed;
      log('warn', 'proxy rejected resources', {
        node: this.#nodeId,
        type: request.typeUrl,
        resources: resources.slice(0, 10).map(({ name }) => name),
        reason: request.error,
      });
      hooks.rejected?.(role, request.typeUrl, this.#nodeId!, resources);
    }
    this.flush();
  }

  /** The first request names the node; later ones need not, but may not name another. */
  #checkNode(nodeId: string | undefined): IsthmusError | undefined {
    if (this.#nodeId !== undefined) {
      if (nodeId === undefined || nodeId === '' || nodeId === this.#nodeId) return undefined;
      return new IsthmusError('xds/node-mismatch', `node "${nodeId}" on the stream of "${this.#nodeId}"`);
    }
    if (nodeId === undefined || nodeId === '') {
      return new IsthmusError('xds/malformed', 'the first request of a stream has no node id', { hint: 'set node.id' });
    }
    const error = this.#options.checkNode(nodeId);
    if (error === undefined) this.#nodeId = nodeId;
    return error;
  }

  #sleep(wakeAtMs: number | undefined, nowMs: number): void {
    if (this.#wake !== undefined && wakeAtMs === this.#wakeAtMs) return;
    this.#wake?.cancel();
    this.#wake = undefined;
    if (wakeAtMs === undefined) return;
    this.#wakeAtMs = wakeAtMs;
    this.#wake = this.#options.clock.after(Math.max(1, Math.ceil(wakeAtMs - nowMs)), () => {
      this.#wake = undefined;
      this.flush();
    });
  }

  /** What was said last may not get through a closed window: do not wait for it for ever. */
  #resetLater(): void {
    if (this.#closed) return;
    this.#wake?.cancel();
    this.#wake = this.#options.clock.after(farewellMs, () => {
      if (!this.#closed) this.#outlet.reset();
    });
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ended = true;
    this.#wake?.cancel();
    this.#options.hooks.closed?.(this.#options.role, this.#error);
    this.#options.closed(this);
  }
}
