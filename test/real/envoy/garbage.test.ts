/** Whatever is thrown at a gateway's three ports: nobody gets through, and the Envoy goes on serving. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { garbageKinds } from './garbage.ts';
import type { Gateway } from './gateway.ts';
import type { CallerTls } from './load.ts';
import { until } from './processes.ts';
import { Rig } from './rig.ts';
import { authorityOf, podOf, serving, sites } from './three.ts';

const { address } = sites['us-west'];
const ports = { egress: 15018, federation: 15028, hbone: 15008 } as const;

describe('what no proxy would send', () => {
  let rig: Rig;
  let west: Gateway;
  let tls: Record<keyof typeof ports, CallerTls>;

  beforeAll(async () => {
    rig = await Rig.start(['us-west', 'us-east']);
    const pod = podOf('west', 'checkout', 0);
    await rig.world.podStart(pod.name, pod.address, 15008);
    await rig.configure({ ...sites['us-west'], services: serving('west', ['checkout']) });
    west = await rig.launch('us-west');
    const caller = await rig.caller();
    tls = { egress: caller, federation: await rig.peer('us-east'), hbone: caller };
  });
  afterAll(async () => rig?.stop());

  for (const [name, port] of Object.entries(ports) as [keyof typeof ports, number][]) {
    it(`leads nowhere on ${name}`, async () => {
      const results = await Promise.all(
        garbageKinds.map(async (kind) => {
          const result = await rig.callers.garbage({ address, port, kind, tls: tls[name] });
          return { kind, ended: result.ended, answered: /HTTP\/1\.\d 2|west-checkout/.test(result.answer) };
        }),
      );
      expect(results).toEqual(garbageKinds.map((kind) => ({ kind, ended: true, answered: false })));
      expect(await rig.world.podOpen('west-checkout')).toBe(0);
      for (const good of ['federation', 'hbone'] as const) {
        const spec = { address, port: ports[good], tls: tls[good], authority: authorityOf('checkout') };
        expect(await rig.callers.call(spec)).toMatchObject({ status: 200 });
      }
      await until('tunnels closed', async () => (await rig.world.podOpen('west-checkout')) === 0);
      expect((await west.admin('/ready')).trim()).toBe('LIVE');
      expect(() => process.kill(west.pid, 0)).not.toThrow();
    });
  }
});
