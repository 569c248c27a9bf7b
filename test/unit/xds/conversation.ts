/** One proxy and the machine, talking: what the tests of the machine are written in. */
import { types } from '../../../src/xds/resource.ts';
import { StreamSubscriptions } from '../../../src/xds/stream.ts';
import { ResourceTable } from '../../../src/xds/table.ts';
import { ack, type Received, receive, request, resource } from './client.ts';

export const envoy = [types.listener, types.cluster, types.endpoints, types.routes, types.secret];
export const mesh = [types.address, types.authorization];

export const my = {} as { table: ResourceTable; stream: StreamSubscriptions; nowMs: number };

export const open = (typeUrls: readonly string[]): void => {
  my.table = new ResourceTable(typeUrls);
  my.stream = new StreamSubscriptions(my.table);
  my.nowMs = 1_000;
};
export const ask = (typeUrl: string, fields: Parameters<typeof request>[1] = {}) =>
  my.stream.request(request(typeUrl, fields), my.nowMs);
export const put = (...entries: [type: string, name: string, content: string][]): void => {
  my.table.apply({ upserts: entries.map(([type, name, content]) => resource(type, name, content)) });
};
export const drop = (typeUrl: string, ...names: string[]): void => {
  my.table.apply({ removes: names.map((name) => ({ typeUrl, name })) });
};
export const next = (): Received | undefined => {
  const push = my.stream.next(my.nowMs);
  return push && receive(push);
};
export const drain = (answer = true): Received[] => {
  const all: Received[] = [];
  for (let received = next(); received !== undefined; received = next()) {
    all.push(received);
    if (answer) my.stream.request(ack(received), my.nowMs);
  }
  return all;
};
export const brief = (received: readonly Received[]) =>
  received.map(({ typeUrl, resources, removed }) => [
    typeUrl.split('.').at(-1),
    [...resources]
      .map(([name, { content }]) => `${name}=${content}`)
      .sort()
      .join(),
    ...(removed.length > 0 ? [removed.toSorted().join()] : []),
  ]);
