/** The usual stage: us-east calls, us-west serves first, eu-central second; a pod in each for every service. */

import type { TestContext } from 'vitest';
import type { ServiceSpec } from '../../unit/translate-envoy/fixture.ts';
import type { Gateway } from './gateway.ts';
import type { LoadResult, LoadSpec } from './load.ts';
import { sleep } from './processes.ts';
import { Rig } from './rig.ts';

export const sites = {
  'us-east': { name: 'us-east', address: '127.0.1.1' },
  'us-west': { name: 'us-west', address: '127.0.2.1' },
  'eu-central': { name: 'eu-central', address: '127.0.3.1' },
} as const;

export const authorityOf = (service: string): string => `${service}.shop.svc.cluster.local:80`;

/** `west-checkout` at 127.0.2.101, and so on: a pod for each service, in their order. */
export const podOf = (site: 'west' | 'central', service: string, index: number) => ({
  name: `${site}-${service}`,
  address: `127.0.${site === 'west' ? 2 : 3}.${101 + index}`,
});

export interface Three {
  readonly rig: Rig;
  readonly east: Gateway;
  readonly west: Gateway;
  readonly central: Gateway;
}

export const serving = (site: 'west' | 'central', services: readonly string[]): ServiceSpec[] =>
  services.map((service, index) => ({ key: `shop/${service}`, pods: [podOf(site, service, index)] }));

export const calling = (services: readonly string[]): ServiceSpec[] =>
  services.map((service) => ({ key: `shop/${service}`, tiers: [['us-west'], ['eu-central']] }));

export const startThree = async (services: readonly string[]): Promise<Three> => {
  const rig = await Rig.start();
  try {
    for (const site of ['west', 'central'] as const) {
      for (const [index, service] of services.entries()) {
        const pod = podOf(site, service, index);
        await rig.world.podStart(pod.name, pod.address, 15008);
      }
    }
    await rig.configure({ ...sites['us-west'], services: serving('west', services) });
    await rig.configure({ ...sites['eu-central'], services: serving('central', services) });
    await rig.configure({ ...sites['us-east'], services: calling(services) });
    // The caller's gateway last: checks that find nobody yet would send its first calls elsewhere.
    const [west, central] = await Promise.all([rig.launch('us-west'), rig.launch('eu-central')]);
    const east = await rig.launch('us-east');
    return { rig, east, west, central };
  } catch (error) {
    await rig.stop();
    throw error;
  }
};

/** Starts callers in us-east and waits for two seconds in which nothing stalls; a machine that cannot do that proves nothing. */
export const startCallers = async (
  rig: Rig,
  name: string,
  service: string,
  load: Pick<LoadSpec, 'rate' | 'long'> & Partial<LoadSpec>,
): Promise<void> => {
  const tls = await rig.caller();
  const { address } = sites['us-east'];
  await rig.callers.loadStart(name, { address, port: 15018, tls, authority: authorityOf(service), ...load });
  for (let attempt = 0; attempt < 5; attempt++) {
    await sleep(2_000);
    const control = await rig.callers.loadResult(name);
    await rig.callers.loadMark(name);
    if (control.failures.length === 0 && control.maxMs < 250 && control.long.open === load.long) return;
  }
  throw new Error('invalid: the machine stalls without any fault');
};

/**
 * Runs the assertions. If they fail and the machine stood still meanwhile, which breaks tunnels by itself, the run is neither
 * passed nor failed: it is skipped, and says why.
 */
export const judge = (context: TestContext, result: LoadResult, assertions: () => void): void => {
  try {
    assertions();
  } catch (error) {
    if (result.lagMaxMs < 150) throw error;
    context.skip(`invalid: the machine stood still for ${result.lagMaxMs} ms`);
  }
};

/** One line for people who read the test's output. */
export const line = (what: string, result: LoadResult): string =>
  `${what}: ${result.sent} sent, ${result.failures.length} failed, ${result.slow} slow, longest ${result.maxMs} ms, ` +
  `${result.long.broken} long tunnels broken, by ${JSON.stringify(result.servedBy)}`;
