/**
 * A long line between us-east and the others: two namespaces, a router between them, and netdelay on the router. Addresses:
 * 10.9.1.1 near; 10.9.2.1 and 10.9.2.2 far.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { toolPath } from '../../../scenarios/lab/tools.ts';
import { type Agent, inside, newNamespace, startAgent } from './processes.ts';
import type { Rig } from './rig.ts';

const run = promisify(execFile);

export interface Far {
  readonly namespace: string;
  /** Pods on the far side. */
  readonly world: Agent;
  /** Where the far side finds discovery. */
  readonly controller: string;
}

const link = async (near: string, address: string, router: string, name: string, gateway: string): Promise<void> => {
  await run('ip', ['-n', router, 'link', 'add', name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', near]);
  await run('ip', ['-n', router, 'addr', 'add', `${gateway}/24`, 'dev', name]);
  await run('ip', ['-n', router, 'link', 'set', name, 'up']);
  await run('ip', ['-n', near, 'addr', 'add', `${address}/24`, 'dev', 'eth0']);
  await run('ip', ['-n', near, 'link', 'set', 'eth0', 'up']);
  await run('ip', ['-n', near, 'route', 'add', 'default', 'via', gateway]);
};

export const distance = async (rig: Rig, oneWayMs: number, lossPerMyriad: number): Promise<Far> => {
  const [router, namespace, binary] = [
    await newNamespace('wan'),
    await newNamespace('far'),
    await toolPath('netdelay'),
  ];
  await link(rig.namespace, '10.9.1.1', router, 'near', '10.9.1.254');
  await link(namespace, '10.9.2.1', router, 'far', '10.9.2.254');
  await run('ip', ['-n', namespace, 'addr', 'add', '10.9.2.2/24', 'dev', 'eth0']);
  const settings = ['net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.default.rp_filter=0'];
  for (const setting of settings) await run('ip', ['netns', 'exec', router, 'sysctl', '-qw', setting]);
  const args = ['-dev', 'delay', '-delay', `${oneWayMs}ms`, '-loss', `${lossPerMyriad}`];
  const child = inside(router, binary, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  await new Promise<void>((resolve, reject) => {
    const look = (data: Buffer) => data.toString().includes('ready') && resolve();
    child.stdout?.on('data', look);
    child.stderr?.on('data', look);
    child.once('exit', (code) => reject(new Error(`netdelay ended: ${code}`)));
  });
  await run('ip', ['-n', router, 'link', 'set', 'delay', 'up', 'txqueuelen', '10000']);
  await run('ip', ['-n', router, 'route', 'add', 'default', 'dev', 'delay', 'table', '100']);
  for (const from of ['near', 'far']) await run('ip', ['-n', router, 'rule', 'add', 'iif', from, 'lookup', '100']);
  return { namespace, world: await startAgent(namespace), controller: '10.9.1.1' };
};
