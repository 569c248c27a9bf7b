/** No fault at all: the way in which ztunnel ends tunnels must not break other tunnels, for however long it goes on. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { anyPack, anyUnpack } from '@bufbuild/protobuf/wkt';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ListenerSchema } from '../../../src/gen/envoy/config/listener/v3/listener_pb.ts';
import { HttpConnectionManagerSchema } from '../../../src/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.ts';
import { type Encoded, typeUrls } from '../../../src/translate/envoy/encoded.ts';
import { sleep } from './processes.ts';
import { authorityOf, calling, judge, line, sites, startCallers, startThree, type Three } from './three.ts';

/** The resources as they would be with Envoy's own limits on RST_STREAM. */
const withDefaultLimits = (resources: Encoded[]): Encoded[] =>
  resources.map((resource) => {
    if (resource.typeUrl !== typeUrls.listener) return resource;
    const listener = fromBinary(ListenerSchema, resource.bytes);
    for (const chain of listener.filterChains) {
      for (const filter of chain.filters) {
        if (filter.configType.case !== 'typedConfig') continue;
        const manager = anyUnpack(filter.configType.value, HttpConnectionManagerSchema);
        if (manager?.http2ProtocolOptions === undefined) continue;
        manager.http2ProtocolOptions.streamResetBurst = undefined;
        manager.http2ProtocolOptions.streamResetRate = undefined;
        filter.configType.value = anyPack(HttpConnectionManagerSchema, manager);
      }
    }
    return { ...resource, bytes: toBinary(ListenerSchema, create(ListenerSchema, listener)) };
  });

describe('without a fault', () => {
  let stage: Three;
  beforeAll(async () => {
    stage = await startThree(['checkout']);
  });
  afterAll(async () => stage?.rig.stop());

  it('32 s at 100 connections a second break no long tunnel and eject nobody', async (context) => {
    const { rig, east, west } = stage;
    await startCallers(rig, 'quiet', 'checkout', { rate: 100, long: 20 });
    await sleep(32_000);
    const result = await rig.callers.loadStop('quiet');
    console.log(line('quiet', result));
    const counters = {
      ...(await east.stats(/ejections_enforced_total|keepalive_timeout|too_many_premature_resets|upstream_rq_retry$/)),
      ...(await west.stats(/too_many_premature_resets|ejections_enforced_total/)),
    };
    judge(context, result, () => {
      expect(result.failures).toEqual([]);
      expect(result.long).toMatchObject({ broken: 0, open: 20 });
      expect(result.connectionsLost).toBe(0);
      expect(result.servedBy).toEqual({ 'west-checkout': result.ok });
      expect(Object.entries(counters).filter(([, value]) => value > 0)).toEqual([]);
    });
  });

  it('the same load breaks them under the default limits, so that this test can fail', async () => {
    const { rig } = stage;
    await rig.configure({ ...sites['us-east'], services: calling(['checkout']) }, withDefaultLimits);
    await sleep(1_000);
    const tls = await rig.caller();
    const spec = { address: '127.0.1.1', port: 15018, tls, authority: authorityOf('checkout') };
    await rig.callers.loadStart('limited', { ...spec, rate: 250, long: 20 });
    await sleep(8_000);
    const result = await rig.callers.loadStop('limited');
    console.log(line('default limits', result));
    expect(result.long.broken).toBeGreaterThan(0);
  });
});
