/**
 * The store gateway: the part of etcd's own gRPC API by which a publisher writes, served over mutual TLS to members, who have no right
 * to write in etcd themselves. To a controller it is another endpoint, for writes alone, and for the renewal of its certificate.
 *
 * etcd's API and not one of ours, so that a publisher's transactions, their comparisons and their answers stay what they are, and its
 * tests hold for both ways. Everything of that API but two methods is refused.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { type Metadata, Server, type ServerUnaryCall, type ServiceDefinition, type sendUnaryData } from '@grpc/grpc-js';
import type { Clock } from '../core/clock.ts';
import { IsthmusError } from '../core/errors.ts';
import { limits } from '../core/limits.ts';
import { StatusResponseSchema, TxnResponseSchema } from '../gen/etcdserverpb/rpc_pb.ts';
import { writeSignatureField } from '../records/write_signature.ts';
import type { ListenAddress, ServerLog } from './api.ts';
import { Buckets } from './buckets.ts';
import { grpcStatus } from './grpc_status.ts';
import { type Listener, type ListenerTls, openListener } from './listener.ts';
import { callerInterceptor, callerOf } from './store_caller.ts';
import { type IssueCertificate, Renewals } from './store_renewal.ts';
import type { StoreWrites, Written } from './store_writes.ts';

export interface StoreGatewayHooks {
  /** `heldMs`: for how long it was held back for its rate. */
  written(member: string, heldMs: number): void;
  /** A client certificate for etcd. */
  issued(member: string): void;
  /** A comparison failed. */
  lost(member: string): void;
  /** `member` is empty where nobody was proven. */
  refused(member: string, code: string): void;
}

export interface StoreGatewayOptions {
  readonly listen: ListenAddress;
  /** `clientRoots`: etcd's CA of client certificates. */
  readonly tls: ListenerTls;
  readonly writes: StoreWrites;
  /** Issues client certificates for etcd; undefined: none are issued here. */
  readonly issue?: IssueCertificate | undefined;
  /** Of the etcd behind it; undefined: not known yet. */
  readonly version: () => string | undefined;
  readonly clock: Clock;
  readonly log: ServerLog;
  readonly hooks: StoreGatewayHooks;
}

export interface StoreGateway {
  readonly port: number;
  /** @throws IsthmusError 'trust/invalid'; the old material stays. */
  reload(tls: ListenerTls): void;
  close(graceMs: number): Promise<void>;
}

const identity = (bytes: Buffer): Buffer => bytes;
const method = (path: string) => ({
  path: `/etcdserverpb.${path}`,
  requestStream: false,
  responseStream: false,
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
});

const txnMethod = method('KV/Txn');
const statusMethod = method('Maintenance/Status');
const renewMethod = { ...method(''), path: '/isthmus.v1.StoreGateway/RenewCertificate' };
const served: ReadonlySet<string> = new Set([txnMethod.path, statusMethod.path, renewMethod.path]);

/** What else etcd serves: named, so that whoever asks for it is refused with a reason, and counted. */
const others = [
  ...['Range', 'Put', 'DeleteRange', 'Compact', 'RangeStream'].map((name) => `KV/${name}`),
  'Watch/Watch',
  ...['LeaseGrant', 'LeaseRevoke', 'LeaseKeepAlive', 'LeaseTimeToLive', 'LeaseLeases'].map((name) => `Lease/${name}`),
  ...['MemberAdd', 'MemberRemove', 'MemberUpdate', 'MemberList', 'MemberPromote'].map((name) => `Cluster/${name}`),
  ...['Alarm', 'Defragment', 'Hash', 'HashKV', 'Snapshot', 'MoveLeader', 'Downgrade'].map(
    (name) => `Maintenance/${name}`,
  ),
  ...['AuthEnable', 'AuthDisable', 'AuthStatus', 'Authenticate', 'UserAdd', 'UserGet', 'UserList', 'UserDelete'].map(
    (name) => `Auth/${name}`,
  ),
  ...['UserChangePassword', 'UserGrantRole', 'UserRevokeRole', 'RoleAdd', 'RoleGet', 'RoleList', 'RoleDelete'].map(
    (name) => `Auth/${name}`,
  ),
  ...['RoleGrantPermission', 'RoleRevokePermission'].map((name) => `Auth/${name}`),
];

const service = (): ServiceDefinition =>
  Object.fromEntries([txnMethod, statusMethod, renewMethod, ...others.map(method)].map((one) => [one.path, one]));

const channelOptions = {
  'grpc.enable_channelz': 0,
  // Beyond what is accepted, so that what is a little too large is told so, and counted.
  'grpc.max_receive_message_length': 2 * limits.writeBytesMax,
  'grpc.max_concurrent_streams': limits.writesInFlightMax * 2,
  'grpc.max_connection_idle_ms': limits.idleConnectionMs,
  // A certificate is looked at when a connection begins: none outlives its end by more than this.
  'grpc.max_connection_age_ms': limits.writeConnectionAgeMs,
  'grpc.max_connection_age_grace_ms': limits.storeUnaryTimeoutMs,
  'grpc.keepalive_time_ms': limits.keepaliveMs,
  'grpc.keepalive_timeout_ms': limits.keepaliveTimeoutMs,
} as const;

type Handler = (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => void;

const signatureOf = (metadata: Metadata): Uint8Array => {
  const values = metadata.get(writeSignatureField);
  const value = values[0];
  return values.length === 1 && Buffer.isBuffer(value) ? value : new Uint8Array();
};

const answerOf = ({ ok, revision, clusterId, current }: Written): Buffer => {
  const header = { clusterId, revision };
  const kvs = current.map(({ key, value, modRevision }) => ({ key: Buffer.from(key), value, modRevision }));
  const responses = kvs.map((kv) => ({
    response: { case: 'responseRange' as const, value: { header, kvs: [kv], count: 1n } },
  }));
  return Buffer.from(toBinary(TxnResponseSchema, create(TxnResponseSchema, { header, succeeded: ok, responses })));
};

/** A flood of refusals is one line for each kind and while. */
const quietMs = 10_000;

class Refusals {
  readonly #o: StoreGatewayOptions;
  readonly #told = new Map<string, { atMs: number; since: number }>();

  constructor(options: StoreGatewayOptions) {
    this.#o = options;
  }

  note(member: string, error: unknown): void {
    const { hooks, log, clock } = this.#o;
    if (!(error instanceof IsthmusError)) {
      log('error', 'write failed', { member, error });
      return;
    }
    hooks.refused(member, error.code);
    const kind = `${member} ${error.code}`;
    const nowMs = clock.monotonicMs();
    const told = this.#told.get(kind);
    if (told !== undefined && nowMs - told.atMs < quietMs) {
      told.since++;
      return;
    }
    if (this.#told.size > limits.membersMax * 8) this.#told.clear();
    this.#told.set(kind, { atMs: nowMs, since: 0 });
    log('warn', 'write refused', { member, error, ...(told !== undefined && { refusedMeanwhile: told.since }) });
  }
}

/** @throws IsthmusError 'config/invalid' (cannot listen) or 'trust/invalid' (serving certificate). */
export const startStoreGateway = async (o: StoreGatewayOptions): Promise<StoreGateway> => {
  const { writes, hooks, clock } = o;
  const refusals = new Refusals(o);
  const refused = (member: string, error: unknown): void => refusals.note(member, error);
  const admit = (member: string): void => void writes.admit(member);
  const received = new Buckets(limits.writeReceivedBytesPerSecond, limits.writeReceivedBytesBurst, clock);
  const caller = callerInterceptor({ clock, served, received, admit, refused });
  const server = new Server({ ...channelOptions, interceptors: [caller] });

  const handled =
    (run: (member: string, call: ServerUnaryCall<Buffer, Buffer>) => Promise<Buffer>): Handler =>
    (call, done) => {
      const { member, certificate, hold, leave } = callerOf(call.metadata);
      hold();
      received.charge(certificate, call.request.length);
      run(member, call)
        .then(
          (bytes) => done(null, bytes),
          (error: unknown) => {
            refused(member, error);
            done(grpcStatus(error));
          },
        )
        .finally(leave);
    };
  const txn = handled(async (member, call) => {
    const signature = signatureOf(call.metadata);
    const result = await writes.write({ member, request: call.request, signature, givenUp: () => call.cancelled });
    if (result.ok) hooks.written(member, result.heldMs);
    else hooks.lost(member);
    return answerOf(result);
  });
  const renewals = new Renewals(writes, o.issue, clock);
  const renew = handled(async (member, call) => {
    const signature = signatureOf(call.metadata);
    const renewal = { member, request: call.request, signature, givenUp: () => call.cancelled };
    const { answer, issued } = await renewals.renew(renewal);
    const { serial, notAfterMs } = issued;
    o.log('info', 'certificate issued', { member, serial, until: new Date(notAfterMs).toISOString() });
    hooks.issued(member);
    return answer;
  });
  const about = handled(async () => {
    const header = { clusterId: writes.clusterId, revision: writes.revision };
    const version = o.version();
    if (version === undefined)
      throw new IsthmusError('store/unavailable', 'the etcd behind the gateway is not known yet');
    return Buffer.from(toBinary(StatusResponseSchema, create(StatusResponseSchema, { header, version })));
  });
  const never: Handler = (_call, done) => done(grpcStatus(new Error('refused by the interceptor')));
  server.addService(service(), {
    ...Object.fromEntries(others.map((name) => [method(name).path, never])),
    [txnMethod.path]: txn,
    [statusMethod.path]: about,
    [renewMethod.path]: renew,
  });
  const listener: Listener = await openListener({
    ...{ listen: o.listen, server, tls: o.tls, clock },
    refused: (error) => refused('', error),
    perAddress: { open: limits.writeConnectionsPerAddressMax, perSecond: limits.writeConnectionsPerSecondMax },
  });
  return {
    port: listener.port,
    reload: (tls) => listener.reload(tls),
    close: async (graceMs) => {
      listener.stop();
      await listener.drain(graceMs);
    },
  };
};
